"""How much waits before a pipeline or a sink, and for how long already: asked of the log now and then, beside the work.

log, checkpoint, delivery → [lag] → metrics, health
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from penstock.errors import PenstockError
from penstock.ops.crowd import crowd
from penstock.telemetry.pulse import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.log.base import Bounds, EventLog
    from penstock.log.offset_map import OffsetMap
    from penstock.record import Partition

logger = logging.getLogger("penstock.ops")
LOOK_TIMEOUT_SECONDS = 30.0
SOON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Lag:
    """What waited in the owned partitions of one task or sink when it was looked at last."""

    records: int = 0
    """Offsets that are not resolved."""
    oldest_ms: int | None = None
    """Timestamp of the oldest of them; None where none waits."""
    seen_at: float = 0.0
    """Unix time; 0: not yet."""
    by_partition: Mapping[Partition, int] = field(default_factory=dict)
    is_spare: bool = False
    """This worker owns nothing because other members own every partition."""

    def seconds(self) -> float:
        """How long the oldest has waited by now."""
        return 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)


class Follower(Protocol):
    """Who reads topics with a group: a pipeline, or the delivery loop of a sink."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def has_joined(self) -> bool: ...
    def positions(self) -> dict[Partition, OffsetMap]:
        """Where it stands in the partitions that it owns."""
        ...


class LagWatch:
    """Looks every so often. What the log does not tell is trouble, never an end of the work."""

    def __init__(self, log: EventLog, followers: Sequence[Follower], interval_seconds: float) -> None:
        self._log = log
        self._followers = followers
        self._interval_seconds = interval_seconds
        self._heads: dict[Partition, tuple[int, int]] = {}
        self.lags: dict[str, Lag] = {}
        self.trouble = Trouble()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            # A worker that has just begun wants to be seen as ready soon.
            await asyncio.sleep(min(self._interval_seconds, inf if self._is_settled() else SOON_SECONDS))

    async def look(self) -> None:
        """Ask the log once."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                for follower in self._followers:
                    self.lags[follower.name] = await self._of(follower)
        except PenstockError as error:
            self.trouble.begin(str(error))
        except TimeoutError:
            self.trouble.begin(f"the log did not say within {LOOK_TIMEOUT_SECONDS:.0f} s how much waits")
        except Exception as error:
            logger.exception("the lag could not be read")
            self.trouble.begin(type(error).__name__)
        else:
            self.trouble.end()

    def _is_settled(self) -> bool:
        return all(one.positions() or self.lags.get(one.name, Lag()).is_spare for one in self._followers)

    async def _of(self, follower: Follower) -> Lag:
        if not follower.has_joined:
            return Lag()
        positions = follower.positions()
        if not positions:
            others = await crowd(self._log, follower.group, follower.topics)
            return Lag(seen_at=time.time(), is_spare=others is not None)
        records: dict[Partition, int] = {}
        oldest: int | None = None
        for topic in sorted({partition.topic for partition in positions}):
            bounds = await self._log.bounds(topic)
            for partition, done in positions.items():
                if partition.topic == topic and partition in bounds:
                    waiting, timestamp_ms = await self._waiting(partition, done, bounds[partition])
                    records[partition] = waiting
                    oldest = min((ms for ms in (oldest, timestamp_ms) if ms is not None), default=None)
        self._heads = {partition: head for partition, head in self._heads.items() if partition in positions}
        return Lag(sum(records.values()), oldest, time.time(), records)

    async def _waiting(self, partition: Partition, done: OffsetMap, bounds: Bounds) -> tuple[int, int | None]:
        base = max(done.base, bounds.low)
        waiting = bounds.high - base - done.from_offset(base).count_above()
        if waiting <= 0:
            return 0, None
        offset, timestamp_ms = self._heads.get(partition, (-1, 0))
        if offset < base:
            first = await self._log.read(partition, base, 1)
            if not first:  # only markers of transactions are left: nothing waits
                return 0, None
            offset, timestamp_ms = self._heads[partition] = first[0].offset, first[0].timestamp_ms
        return waiting, timestamp_ms
