"""The log as pages ask it: how far groups are, why partitions wait, how sinks stand, and one event's own bytes.

pages → [looking] → log, ops
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.errors import LogUnavailable, SettingsError
from penstock.ops.asking import Alike, Asked, SinkStanding, alike, ask_workers, unasked
from penstock.ops.groups import Groups, look_at_groups
from penstock.record import Partition, Record
from penstock.web.pages.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from penstock.log.base import EventLog
    from penstock.web.pages.options import ConsoleOptions

T = TypeVar("T")
MOST_READS = 4


@dataclass(frozen=True, slots=True)
class Standing:
    """One look."""

    at: float
    groups: Groups
    waits: list[Alike]
    asked: list[Asked]
    delivery: str

    @property
    def sinks(self) -> list[SinkStanding]:
        """Of all processes that were asked."""
        return [sink for one in self.asked for sink in one.sinks]

    def skipped(self, task: str) -> int | None:
        """Events that wanted no answer, as its workers counted them since they started; None where none was asked."""
        counted = [one.skipped[task] for one in self.asked if task in one.skipped]
        return sum(counted) if counted else None


@dataclass(slots=True)
class Looking:
    """Asks one log, a few questions at a time."""

    log: EventLog
    options: ConsoleOptions
    place: str
    """The log's address, as the settings name it: whose workers are asked."""
    groups: frozenset[str]
    """Groups of the tasks that are served."""
    sink_prefix: str
    """What groups of sinks begin with."""
    topics: frozenset[str]
    """All that these tasks read and write."""
    _reads: set[asyncio.Task[Any]] = field(default_factory=set)
    _standing: Kept[Standing] = field(init=False)

    def __post_init__(self) -> None:
        self._standing = Kept(self._look, at_least_seconds=self.options.live_seconds)

    async def standing(self) -> Standing:
        """At most some seconds old. Raises `PenstockError`."""
        return await self._in_time(self._standing.get(self.options.log_seconds))

    async def record(self, topic: str, partition: int, offset: int) -> Record | None:
        """What stands there; None where the log holds it no longer. Raises `PenstockError`."""
        if len(self._reads) >= MOST_READS:
            raise LogUnavailable("too many questions wait for the log")
        reading = asyncio.create_task(self.log.read(Partition(topic, partition), offset, 1))
        self._reads.add(reading)
        reading.add_done_callback(self._reads.discard)
        found = await self._in_time(asyncio.wait_for(asyncio.shield(reading), self.options.log_seconds))
        return found[0] if found and found[0].offset == offset else None

    async def close(self) -> None:
        """Nothing asks the log any more when this returns: it may be closed."""
        await self._standing.close()
        await asyncio.gather(*self._reads, return_exceptions=True)

    async def _in_time(self, asked: Coroutine[Any, Any, T]) -> T:
        try:
            return await asked
        except TimeoutError:
            raise LogUnavailable(f"the log did not answer within {self.options.log_seconds:g} s") from None

    def _is_ours(self, group: str) -> bool:
        return group in self.groups or group.startswith(self.sink_prefix)

    async def _look(self) -> Standing:
        groups = await look_at_groups(self.log, of=self._is_ours, on=self.topics)
        try:
            asked, waits = await ask_workers(self.options.workers, self.place)
        except SettingsError as error:
            raise SettingsError(f"console.workers: {error}") from None
        others = await unasked(self.log, waits, groups.behind())
        return Standing(time.time(), groups, alike([*waits, *others]), asked, self.log.delivery)
