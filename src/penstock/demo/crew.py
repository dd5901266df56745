"""The workers of the demo: started, watched, killed on request, started again, and never left behind.

run → [crew] → worker_process
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.errors import PenstockError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random

    from penstock.demo.place import Place
    from penstock.settings import Settings

MISTAKE = 2
DEATHS = 3
DEATHS_WITHIN_SECONDS = 30.0
STOP_SECONDS = 5.0
"""Beyond the drain deadline; then it is killed."""


class WorkerEnded(PenstockError):
    """A worker cannot go on; the text holds its last words."""


class WorkerRefused(UserError):
    """A worker did not start for a reason that the user can mend."""


@dataclass(slots=True)
class WorkerProcess:
    """One worker: a name that stays, and the processes that bear it one after the other."""

    name: str
    reference: str
    words: Path
    process: asyncio.subprocess.Process | None = None
    is_killed: bool = False
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.returncode is None

    def last_words(self) -> str:
        """The last line it wrote, or its error."""
        try:
            lines = [line for line in self.words.read_text("utf-8", "replace").splitlines() if line.strip()]
        except OSError:
            lines = []
        errors = [line for line in lines[-20:] if line.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1].removeprefix("error: ")[:400]


class Crew:
    """Keeps every worker running until `stop`. `failed` is done, with the reason, when that is no longer possible."""

    def __init__(
        self,
        settings: Settings,
        references: dict[str, str],
        per_task: int,
        place: Place,
        tell: Callable[[str], None],
        *,
        restarts: bool = True,
    ) -> None:
        names = [
            (task, reference, number) for task, reference in references.items() for number in range(1, per_task + 1)
        ]
        self.workers = [WorkerProcess(f"{t}-{n}", reference, place.words_of(f"{t}-{n}")) for t, reference, n in names]
        self.kills = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._prefix = place.stretch.prefix
        self._tell = tell
        self._restarts = restarts
        self._is_stopping = False
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all of them; each is started again when it dies."""
        for worker in self.workers:
            worker.words.write_bytes(b"")
            await self._start(worker)
            self._watches.append(asyncio.create_task(self._watch(worker), name=f"{worker.name}: watch"))

    def kill_one(self, rng: Random) -> str:
        """`kill -9` one of those that live; what was done."""
        alive: Sequence[WorkerProcess] = [worker for worker in self.workers if worker.is_alive and not worker.is_killed]
        if not alive:
            return "nobody to kill: all are starting"
        worker = rng.choice(alive)
        assert worker.process is not None
        worker.is_killed = True
        self.kills += 1
        worker.process.kill()
        return f"kill -9 {worker.process.pid} ({worker.name})"

    def kill_all(self) -> None:
        """Somebody cannot wait."""
        for worker in self.workers:
            if worker.is_alive and worker.process is not None:
                worker.process.kill()

    async def stop(self) -> None:
        """SIGTERM: they finish what is in flight. Whoever does not end in time is killed."""
        self._is_stopping = True
        alive = [worker.process for worker in self.workers if worker.is_alive and worker.process is not None]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        if alive:
            limit = self._settings.drain_seconds + STOP_SECONDS
            await asyncio.wait([asyncio.create_task(process.wait()) for process in alive], timeout=limit)
        for process in alive:
            if process.returncode is None:
                self._tell(f"process {process.pid} did not end in time and is killed")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if self.failed.done():
            self.failed.exception()  # seen: whoever stops knows why, or does not care any more

    async def _start(self, worker: WorkerProcess) -> None:
        with worker.words.open("ab") as words:
            worker.process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "penstock.demo.worker_process", worker.reference, worker.name,
                self._prefix, stdin=asyncio.subprocess.PIPE, stdout=words, stderr=words, start_new_session=True,
            )  # fmt: skip
        worker.is_killed = False
        assert worker.process.stdin is not None
        # Kept open: its end tells the worker that the demo is gone. API key and passwords are never on a command line.
        given = self._settings.model_dump(mode="json", exclude={"kafka"}) | {"kafka": self._settings.kafka_properties()}
        worker.process.stdin.write(json.dumps(given).encode() + b"\n")

    async def _watch(self, worker: WorkerProcess) -> None:
        try:
            while not self._is_stopping:
                assert worker.process is not None
                code = await worker.process.wait()
                if self._is_stopping:
                    return
                self._judge_death(worker, code)
                await self._start(worker)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for `failed`
            if not self.failed.done():
                self.failed.set_exception(error)

    def _judge_death(self, worker: WorkerProcess, code: int) -> None:
        """Nobody notices that ours was killed on purpose; others may die a few times, then it is no accident."""
        if worker.is_killed:
            return
        said = worker.last_words()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == MISTAKE:
            raise WorkerRefused(said)
        worker.deaths.append(time.monotonic())
        is_hopeless = len(worker.deaths) == DEATHS and worker.deaths[-1] - worker.deaths[0] < DEATHS_WITHIN_SECONDS
        if is_hopeless or not self._restarts:
            raise WorkerEnded(f"{worker.name} ended by itself ({how}): {said}\nall it said: {worker.words}")
        self._tell(f"{worker.name} ended by itself ({how}) and is started again: {said}")
