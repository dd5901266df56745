"""Unread records that retention deleted: loss is told, counted and written down, never passed in silence (law 4).

log → [losses] → listener, the error that stops a worker, penstock-state
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import RecordsLost
from penstock.log.state import state_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.log.offset_map import OffsetMap
    from penstock.record import NewRecord, Partition

logger = logging.getLogger("penstock.log")


class Loss(NamedTuple):
    """Offsets from `first` up to but without `stop` were deleted; `unread` of them were unread."""

    group: str
    partition: Partition
    first: int
    stop: int
    unread: int
    is_exact: bool = True
    """Else some of the offsets may be transaction markers: no more records than that."""

    def tell(self) -> None:
        """One log line."""
        logger.error("%s", self)

    def state(self, task: str) -> NewRecord:
        """What is remembered of it. Told twice it is one record: the key is the range."""
        topic, number = self.partition
        value = {"topic": topic, "partition": number, "first": self.first, "stop": self.stop, "unread": self.unread}
        return state_record(task, "loss", f"{topic}/{number}/{self.first}-{self.stop}", value)

    def __str__(self) -> str:
        topic, number = self.partition
        return (
            f"retention deleted {'' if self.is_exact else 'up to '}{self.unread:,} unread records of {topic}/{number}, "
            f"offsets {self.first} to {self.stop - 1}, before group {self.group!r} had read them"
        )


def unread_loss(group: str, partition: Partition, done: OffsetMap, low: int, *, is_exact: bool = True) -> Loss | None:
    """What a group that stands at `done` has lost now that the partition starts at `low`."""
    if done.base >= low:
        return None
    span = low - done.base
    unread = span - (done.bits & ((1 << span) - 1)).bit_count()
    return Loss(group, partition, done.base, low, unread, is_exact) if unread else None


def stop_after(losses: Sequence[Loss]) -> RecordsLost:
    """The error that stops a worker."""
    return RecordsLost(
        "; ".join(map(str, losses))
        + ". The ranges are recorded. To go on behind them set unread_lost='continue'; to keep records longer raise the topic's retention",
        losses,
    )
