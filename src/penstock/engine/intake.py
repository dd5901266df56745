"""Reads records as items of one task, and only as many as there is room for.

log → [intake] → batcher → cascade
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.engine.cascade import Ending
from penstock.engine.reader import Reader
from penstock.record import Partition, Record
from penstock.tier import Item

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from penstock.engine.checkpoint import Checkpoint
    from penstock.log.base import Consumer
    from penstock.task import Task


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much may be in flight in one worker for one task; Kafka is the buffer for the rest (law 10)."""

    max_items: int = 30_000
    """Asked, waiting, or answered and held back by the order of its key."""
    max_waiting: int = 4_000
    """Of them, how many may wait for a call: enough for the next batches."""
    max_bytes: int = 64 * 1024 * 1024
    max_poll_records: int = 2_000
    max_per_key: int = 10_000
    """With `order="key"`: offsets of one key in flight before its partition is paused."""


class Intake:
    """Turns records into items and tracks them; says how many more may be read."""

    def __init__(self, task: Task[Any, Any], checkpoint: Checkpoint[Ending], limits: IntakeLimits) -> None:
        self._task = task
        self._checkpoint = checkpoint
        self._limits = limits
        self._reader = Reader(task)
        self._items_of: Counter[Partition] = Counter()
        self._bytes = 0
        self._mean_bytes = 500.0
        self._paused: dict[Partition, str] = {}

    def room(self, waiting: int) -> int:
        """How many records may be read now, while so many items wait for a call."""
        items = min(self._limits.max_items - self._checkpoint.in_flight(), self._limits.max_waiting - waiting)
        by_bytes = (self._limits.max_bytes - self._bytes) / self._mean_bytes
        # One record is always let in, however large: nothing is too big to move.
        least = 1 if self._checkpoint.in_flight() == 0 else 0
        return max(least, min(items, int(by_bytes), self._limits.max_poll_records))

    def read(self, records: Iterable[Record], leaving: Container[Partition] = ()) -> tuple[list[Item], list[Ending]]:
        """The items to be asked, and the endings of records that need no asking."""
        items: list[Item] = []
        endings: list[Ending] = []
        now_ms = time.time_ns() // 1_000_000
        for record in records:
            partition = Partition(record.topic, record.partition)
            if partition in leaving or not self._checkpoint.track(partition, record.offset, record.key):
                continue
            size = record.size
            self._bytes += size
            self._mean_bytes += (size - self._mean_bytes) * 0.01
            item, outcome = self._reader.read(record, partition)
            item.taken_ms = now_ms
            item.epoch = self._checkpoint.epoch(partition)
            if outcome is None:
                items.append(item)
            else:
                endings.append(Ending(item, outcome))
        return items, endings

    def release(self, item: Item) -> None:
        """The item is asked no more: what was only needed for that is let go, it may yet wait for its key's turn."""
        self._bytes -= item.record.size
        item.input, item.text = None, ""

    def hold_back(self, consumer: Consumer) -> None:
        """Pause partitions whose map or whose keys have no room, resume those that have it again."""
        for partition in self._checkpoint.partitions():
            why = self._why_full(partition, consumer.max_metadata_bytes)
            if why and partition not in self._paused:
                consumer.pause([partition])
                self._paused[partition] = why
            elif not why and partition in self._paused:
                consumer.resume([partition])
                del self._paused[partition]

    def forget(self, partitions: Iterable[Partition]) -> None:
        """They are no longer ours."""
        for partition in partitions:
            self._paused.pop(partition, None)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the records in memory."""
        return self._bytes

    @property
    def paused(self) -> dict[Partition, str]:
        """Partitions that are not read now, and why: `offset_map` or `key_order`."""
        return dict(self._paused)

    def _why_full(self, partition: Partition, max_metadata_bytes: int) -> str:
        # Base64 of the plain bits is the longest that the map can get; one more poll may land in this partition whole.
        if (self._checkpoint.span(partition) + self._limits.max_poll_records) // 6 + 100 > max_metadata_bytes:
            return "offset_map"
        if self._task.order == "key" and self._checkpoint.longest_key(partition) >= self._limits.max_per_key:
            return "key_order"
        return ""
