"""Unread records that retention deleted: loss is written down and said, never passed in silence (law 4).

group, consumer → [losses] → the file, the log lines, the user
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import RecordsLost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from penstock.log.offset_map import OffsetMap
    from penstock.record import Partition

logger = logging.getLogger("penstock.log")


class Loss(NamedTuple):
    """Offsets from `first` up to but without `stop` were deleted; `unread` of them were unread."""

    group: str
    partition: Partition
    first: int
    stop: int
    unread: int

    def record(self, connection: sqlite3.Connection, now_ms: int) -> None:
        """Write the range down; once is enough."""
        topic, number = self.partition
        connection.execute(
            "INSERT OR IGNORE INTO losses VALUES (?, ?, ?, ?, ?, ?)",
            (self.group, topic, number, self.first, self.stop, now_ms),
        )

    def tell(self) -> None:
        """One log line."""
        logger.error("%s", self)

    def __str__(self) -> str:
        topic, number = self.partition
        return (
            f"retention deleted {self.unread:,} unread records of {topic}/{number}, offsets {self.first} to {self.stop - 1}, "
            f"before group {self.group!r} had read them"
        )


def unread_loss(group: str, partition: Partition, done: OffsetMap, low: int) -> Loss | None:
    """What a group that stands at `done` has lost now that the partition starts at `low`."""
    if done.base >= low:
        return None
    span = low - done.base
    unread = span - (done.bits & ((1 << span) - 1)).bit_count()
    return Loss(group, partition, done.base, low, unread) if unread else None


def stop_after(losses: Sequence[Loss]) -> RecordsLost:
    """The error that stops a worker."""
    return RecordsLost(
        "; ".join(map(str, losses))
        + ". The ranges are recorded. To go on behind them set unread_lost='continue'; to keep records longer raise the topic's retention"
    )
