"""The processes of one machine: a child per role, started again when it dies, stopped in order, never left behind.

cli → [tree] → child processes
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TAKE, WORK, DELIVER = range(3)
"""Stages, in the order in which roles are stopped: no new events, then no new results, then what is written is delivered."""
MISTAKE, BUDGET_SPENT = 2, 4
"""Exit codes after which the same process would end in the same way again."""
CHUNK_BYTES = 65_536
MOST_LINE_BYTES = 1_000_000
LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Role:
    """What one child does. Its stdin stays open as long as its parent lives: the end of it is the parent's end."""

    name: str
    command: tuple[str, ...]
    stage: int
    """Who has a smaller one is stopped before: what feeds goes before what is fed."""
    drain_seconds: float
    """How long it may finish what is in flight."""


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """When a child is started again, and when it is killed."""

    first_wait_seconds: float = 1.0
    """Before a child that died is started again; then twice as long each time."""
    max_wait_seconds: float = 30.0
    steady_seconds: float = 60.0
    """Who lived so long starts again after the first wait."""
    start_seconds: float = 15.0
    """A first process that refuses within this time never worked: then nothing goes on."""
    kill_seconds: float = 5.0
    """Beyond a role's own time to drain; then it is killed."""


class RoleEnded(PenstockError):
    """A role has ended for good; its last words say why."""

    def __init__(self, name: str, code: int, words: str) -> None:
        super().__init__(f"{name}: {words}")
        self.code = code


@dataclass(slots=True)
class _Child:
    """A role, and the processes that bear it one after the other."""

    role: Role
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def words(self) -> str:
        """Its error to the end, else its last line."""
        lines = list(self.said)
        at = max((n for n, line in enumerate(lines) if line.startswith("error: ")), default=-1)
        chosen = lines[at:] if at >= 0 else lines[-1:] or ["it said nothing"]
        return "\n".join(chosen).removeprefix("error: ")


class Tree:
    """Keeps every role running until SIGTERM, SIGINT or `stop`.

    `tell` hears of every start and end, `warn` of those that nobody wanted, `hear` every line that a role says.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        tell: Callable[[str], None],
        hear: Callable[[str, str], None],
        options: TreeOptions | None = None,
        *,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.ended: list[RoleEnded] = []
        """Roles that are not started again, the first one first."""
        self._children = [_Child(role) for role in roles]
        self._tell = tell
        self._warn = warn or tell
        self._hear = hear
        self._options = options or TreeOptions()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Let every role finish what is in flight, in order; the second call kills."""
        if self._stop.is_set():
            self._kill(self._children)
        self._stop.set()

    async def run(self) -> None:
        """Until stopped, or until no role is left. Raises what ended the first role for good, after all have ended."""
        keeps = [asyncio.create_task(self._keep(child), name=child.role.name) for child in self._children]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            with self._signals():
                await self._until(stopping, keeps)
                self._stop.set()
                await self._stop_in_order(dict(zip(keeps, self._children, strict=True)))
                await asyncio.gather(*keeps)
        finally:
            self._kill(self._children)
            for task in (stopping, *keeps):
                task.cancel()
            await asyncio.gather(stopping, *keeps, return_exceptions=True)
        if self.ended:
            raise self.ended[0]

    async def _until(self, stopping: asyncio.Task[bool], keeps: Sequence[asyncio.Task[None]]) -> None:
        left = {*keeps}
        while left and not stopping.done():
            done, _ = await asyncio.wait({stopping, *left}, return_when=asyncio.FIRST_COMPLETED)
            for keep in left & done:
                keep.result()
            left -= done

    async def _keep(self, child: _Child) -> None:
        wait_seconds = self._options.first_wait_seconds
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                code = await self._live(child)
                how = _how(code)
            except OSError as error:  # the machine has no process or memory left for it: weather
                code, how = 1, f"it could not be started: {error}"
            lived_seconds = time.monotonic() - started
            if self._stop.is_set():
                self._tell(f"{child.role.name}: stopped{'' if code == 0 else f' ({how})'}")
                return
            if code in (MISTAKE, BUDGET_SPENT):
                self._end_for_good(child, code, lived_seconds)
                return
            if lived_seconds >= self._options.steady_seconds:
                wait_seconds = self._options.first_wait_seconds
            self._warn(f"{child.role.name}: ended by itself ({how}), starts again in {wait_seconds:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_seconds)
            wait_seconds = min(2 * wait_seconds, self._options.max_wait_seconds)

    def _end_for_good(self, child: _Child, code: int, lived_seconds: float) -> None:
        ended = RoleEnded(child.role.name, code, child.words())
        self.ended.append(ended)
        never_worked = child.starts == 1 and lived_seconds < self._options.start_seconds
        if code == MISTAKE and never_worked:
            self._warn(f"{child.role.name}: did not start, so all stop")
            self._stop.set()
            return
        left = "the others go on" if len(self.ended) < len(self._children) else "no role is left"
        self._warn(f"{child.role.name}: ended for good ({_how(code)}), {left}: {child.words()}")

    async def _live(self, child: _Child) -> int:
        """One process of a role, from its start to its end."""
        child.said.clear()
        process = child.process = await asyncio.create_subprocess_exec(
            *child.role.command, start_new_session=True,  # Ctrl-C is for the parent, which stops them in order
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        child.starts += 1
        self._tell(f"{child.role.name}: started{' again' * (child.starts > 1)}, process {process.pid}")
        if self._stop.is_set():
            _signal(process, signal.SIGTERM)
        listening = asyncio.create_task(self._listen(child, process))
        try:
            code = await process.wait()
            await asyncio.wait([listening], timeout=1.0)  # somebody else may hold the other end
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        return code

    async def _listen(self, child: _Child, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        rest = b""
        while part := await process.stdout.read(CHUNK_BYTES):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self._say(child, line)
            if len(rest) > MOST_LINE_BYTES:
                self._say(child, rest)
                rest = b""
        if rest:
            self._say(child, rest)

    def _say(self, child: _Child, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            child.said.append(text)
            self._hear(child.role.name, text)

    async def _stop_in_order(self, keeps: dict[asyncio.Task[None], _Child]) -> None:
        for stage in sorted({child.role.stage for child in keeps.values()}):
            those = {keep: child for keep, child in keeps.items() if child.role.stage == stage and not keep.done()}
            if not those:
                continue
            for child in those.values():
                if child.process is not None:
                    _signal(child.process, signal.SIGTERM)
            limit_seconds = max(child.role.drain_seconds for child in those.values()) + self._options.kill_seconds
            _, late = await asyncio.wait(those, timeout=limit_seconds)
            for keep in late:
                self._warn(f"{those[keep].role.name}: did not end in time and is killed")
            self._kill([those[keep] for keep in late])

    def _kill(self, children: Sequence[_Child]) -> None:
        for child in children:
            if child.is_alive and child.process is not None:
                _signal(child.process, signal.SIGKILL)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def on_signal(name: str) -> None:
            again = self._stop.is_set()
            self._tell(f"{name} again: killing all" if again else f"{name}: stopping in order; once more kills")
            self.stop()

        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, on_signal, number.name)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
