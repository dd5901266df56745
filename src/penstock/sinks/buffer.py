"""Records that were read for a sink and not offered yet: a bounded few, the log is the buffer for the rest.

log → [buffer] → batch
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from penstock.record import Partition, Record

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class Buffer:
    """In the order of the log."""

    def __init__(self, batch_items: int, max_bytes: int, max_wait_seconds: float) -> None:
        self._batch_items = batch_items
        self._max_bytes = max_bytes
        self._max_wait_seconds = max_wait_seconds
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._first_at = 0.0

    def __len__(self) -> int:
        return len(self._records)

    def room(self) -> int:
        """How many records may be read: one batch waits while another is offered."""
        return 0 if self._bytes >= self._max_bytes else max(0, 2 * self._batch_items - len(self._records))

    def keep(self, records: Sequence[Record]) -> None:
        """Put these behind what is there."""
        if records and not self._records:
            self._first_at = time.monotonic()
        self._records.extend(records)
        self._bytes += sum(record.size for record in records)

    def due_seconds(self) -> float | None:
        """In how long a batch is due, 0 for now; None while nothing waits."""
        if not self._records:
            return None
        if len(self._records) >= self._batch_items or self._bytes >= self._max_bytes:
            return 0.0
        return max(0.0, self._first_at + self._max_wait_seconds - time.monotonic())

    def take(self) -> list[Record]:
        """One batch's share."""
        taken = [self._records.popleft() for _ in range(min(len(self._records), self._batch_items))]
        self._bytes -= sum(record.size for record in taken)
        self._first_at = time.monotonic()
        return taken

    def forget(self, partitions: Collection[Partition]) -> None:
        """They are no longer ours."""
        self._records = deque(r for r in self._records if Partition(r.topic, r.partition) not in partitions)
        self._bytes = sum(record.size for record in self._records)
