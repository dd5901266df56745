"""Says in the log which partition is not read on, what holds it and since when; and when it goes on.

intake → [holds] → worker's log
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from penstock.engine.checkpoint import Checkpoint
    from penstock.record import Partition
    from penstock.tier import Item

logger = logging.getLogger("penstock.engine")

WORTH_TELLING_SECONDS = 5.0
"""At full speed a partition may be held for a moment by items that are asked just now: metrics tell that."""
LOOK_MS = 500
_WHAT_IS_FULL = {
    "offset_map": "the map of what is done behind it has no more room",
    "key_order": "answers of its key wait for it, and no more may",
}


class Holds:
    """Tells each hold once, however often reading goes on for a while in between, and its end."""

    def __init__(
        self, task: str, checkpoint: Checkpoint[Any], now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._task = task
        self._checkpoint = checkpoint
        self._now_ms = now_ms
        self._told: dict[Partition, int] = {}
        """By which offset it is held, as it was told."""
        self._look_ms = 0

    def look(self, paused: Mapping[Partition, str], in_flight: Callable[[], Iterable[Item]]) -> None:
        """Called whenever intake has looked."""
        if not (paused or self._told) or self._now_ms() < self._look_ms:
            return
        self._look_ms = self._now_ms() + LOOK_MS
        self._tell_ends()
        blockers = {(partition, self._blocker(partition, why)): why for partition, why in paused.items()}
        new = {place: why for place, why in blockers.items() if place[0] not in self._told}
        for item in in_flight() if new else ():
            why = new.get((item.partition, item.offset))
            if why and self._now_ms() - item.taken_ms >= WORTH_TELLING_SECONDS * 1000:
                self._told[item.partition] = item.offset
                self._tell(item, why)

    def _tell_ends(self) -> None:
        for partition, offset in list(self._told.items()):
            if not self._checkpoint.is_open(partition, offset):
                del self._told[partition]
                logger.warning("%s: offset %d of %s/%d holds it no more", self._task, offset, *partition)

    def _blocker(self, partition: Partition, why: str) -> int:
        if why == "key_order":
            return self._checkpoint.first_of_longest_key(partition)
        return self._checkpoint.first_open(partition)

    def _tell(self, item: Item, why: str) -> None:
        since = datetime.fromtimestamp(item.taken_ms / 1000, UTC).isoformat(timespec="seconds")
        logger.warning(
            "%s reads %s/%d no further: its offset %d has no outcome yet (read at %s, %.0f s ago; attempts so far: %d), and %s. "
            "Other partitions go on, nothing is lost",
            self._task,
            *item.partition,
            item.offset,
            since,
            (self._now_ms() - item.taken_ms) / 1000,
            item.attempts,
            _WHAT_IS_FULL[why],
        )
