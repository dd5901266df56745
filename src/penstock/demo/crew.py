"""The roles of the demo: started, watched, killed on request, started again, and never left behind.

run → [crew] → role_process
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
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from penstock.claude.client import ClaudeOptions
from penstock.demo.names import GATEWAY, REFERENCES, SINKS
from penstock.errors import PenstockError, UserError
from penstock.tree import DELIVER, MISTAKE, TAKE, WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from random import Random

    from penstock.demo.place import Place
    from penstock.settings import Settings

DEATHS = 3
DEATHS_WITHIN_SECONDS = 30.0
STOP_SECONDS = 5.0
"""Beyond the drain deadline; then it is killed."""


class RoleStopped(PenstockError):
    """A role cannot go on; the text holds its last words."""


class RoleRefused(UserError):
    """A role did not start for a reason that the user can mend."""


@dataclass(slots=True)
class RoleProcess:
    """One role: a name that stays, and the processes that bear it one after the other."""

    name: str
    does: str
    """Reference of the task that it answers, or `gateway`, or `sinks`."""
    stage: int
    settings: Settings
    drain_seconds: float
    words: Path
    restarts: bool = True
    process: asyncio.subprocess.Process | None = None
    is_killed: bool = False
    is_stopping: bool = False
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.returncode is None

    def kill(self) -> None:
        """At once."""
        if self.is_alive and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def last_words(self) -> str:
        """The last line it wrote, or its error."""
        try:
            lines = [line for line in self.words.read_text("utf-8", "replace").splitlines() if line.strip()]
        except OSError:
            lines = []
        errors = [line for line in lines[-20:] if line.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1].removeprefix("error: ")[:400]


def roles_of(settings: Settings, per_task: int, place: Place, *, restarts: bool) -> Iterator[RoleProcess]:
    """Workers for each task, the gateway and the sinks; only workers know the API and its key."""
    for task, reference in REFERENCES.items():
        for number in range(1, per_task + 1):
            name = f"{task}-{number}"
            drain = settings.drain_seconds
            yield RoleProcess(name, reference, WORK, settings, drain, place.words_of(name), restarts=restarts)
    others = settings.model_copy(update={"claude": ClaudeOptions()})
    for name, stage, drain in (
        (GATEWAY, TAKE, settings.gateway.drain_seconds),
        (SINKS, DELIVER, settings.deliver.drain_seconds),
    ):
        yield RoleProcess(name, name, stage, others, drain, place.words_of(name))


class Crew:
    """Keeps every role running until `stop`. `failed` is done, with the reason, when that is no longer possible."""

    def __init__(self, roles: Sequence[RoleProcess], prefix: str, tell: Callable[[str], None]) -> None:
        self.roles = roles
        self.kills = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._prefix = prefix
        self._tell = tell
        self._watches: list[asyncio.Task[None]] = []

    async def start(self, *stages: int) -> None:
        """Start those of these stages; each is started again when it dies."""
        for role in (role for stage in stages for role in self.roles if role.stage == stage):
            role.words.write_bytes(b"")
            await self._start(role)
            self._watches.append(asyncio.create_task(self._watch(role), name=f"{role.name}: watch"))

    def kill_one(self, rng: Random) -> RoleProcess | None:
        """`kill -9` one of the workers that live; which it was."""
        alive = [role for role in self.roles if role.stage == WORK and role.is_alive and not role.is_killed]
        if not alive:
            return None
        worker = rng.choice(alive)
        worker.is_killed = True
        self.kills += 1
        worker.kill()
        return worker

    def kill_all(self) -> None:
        """Somebody cannot wait."""
        for role in self.roles:
            role.kill()

    async def stop(self, *stages: int) -> None:
        """SIGTERM: they finish what is in flight, one stage after the other. Whoever does not end in time is killed."""
        for stage in stages or (TAKE, WORK, DELIVER):
            await self._stop([role for role in self.roles if role.stage == stage])
        if not stages:
            await asyncio.gather(*self._watches, return_exceptions=True)
            if self.failed.done():
                self.failed.exception()  # seen: whoever stops knows why, or does not care any more

    async def _stop(self, roles: Sequence[RoleProcess]) -> None:
        for role in roles:
            role.is_stopping = True
        alive = [(role, role.process) for role in roles if role.is_alive and role.process is not None]
        for _, process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        if alive:
            limit = max(role.drain_seconds for role, _ in alive) + STOP_SECONDS
            await asyncio.wait([asyncio.create_task(process.wait()) for _, process in alive], timeout=limit)
        for role, process in alive:
            if process.returncode is None:
                self._tell(f"{role.name}: did not end in time and is killed")
                role.kill()
                await process.wait()

    async def _start(self, role: RoleProcess) -> None:
        with role.words.open("ab") as words:
            role.process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "penstock.demo.role_process", role.does, role.name,
                self._prefix, stdin=asyncio.subprocess.PIPE, stdout=words, stderr=words, start_new_session=True,
            )  # fmt: skip
        role.is_killed = False
        assert role.process.stdin is not None
        # Kept open: its end tells the role that the demo is gone. API key and passwords are never on a command line.
        role.process.stdin.write(json.dumps(role.settings.model_dump(), default=_plain).encode() + b"\n")
        if role.is_stopping:  # it came too late
            role.kill()

    async def _watch(self, role: RoleProcess) -> None:
        try:
            while True:
                assert role.process is not None
                code = await role.process.wait()
                if role.is_stopping:
                    return
                self._judge_death(role, code)
                await self._start(role)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for `failed`
            if not self.failed.done():
                self.failed.set_exception(error)

    def _judge_death(self, role: RoleProcess, code: int) -> None:
        """Nobody notices that ours was killed on purpose; others may die a few times, then it is no accident."""
        if role.is_killed:
            return
        said = role.last_words()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == MISTAKE:
            raise RoleRefused(f"{role.name}: {said}")
        role.deaths.append(time.monotonic())
        is_hopeless = len(role.deaths) == DEATHS and role.deaths[-1] - role.deaths[0] < DEATHS_WITHIN_SECONDS
        if is_hopeless or not role.restarts:
            raise RoleStopped(f"{role.name} ended by itself ({how}): {said}\nall it said: {role.words}")
        self._tell(f"{role.name} ended by itself ({how}) and is started again: {said}")


def _plain(value: Any) -> Any:
    """Secrets too: this goes into a pipe and nowhere else."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
