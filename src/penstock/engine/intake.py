"""Reads records as items of one task, and only as many as there is room for.

log → [intake] → batcher → cascade
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.engine.cascade import Ending
from penstock.engine.reader import Reader
from penstock.engine.room import MapRoom
from penstock.record import Partition, Record
from penstock.tier import Item

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Container, Iterable, Sequence

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

    def __init__(
        self,
        task: Task[Any, Any],
        checkpoint: Checkpoint[Ending],
        limits: IntakeLimits,
        ignored: Counter[str] | None = None,
        *,
        keeps_input: bool = True,
    ) -> None:
        self._task = task
        self._checkpoint = checkpoint
        self._limits = limits
        self._reader = Reader(task, ignored)
        self._keeps_input = keeps_input
        """Where nobody looks at `Item.input` any more it is let go at once: it is half of what an item in flight takes."""
        self._bytes = 0
        self._mean_bytes = 500.0
        self._paused: dict[Partition, str] = {}
        self.paused_since: dict[Partition, float] = {}
        """Unix time."""
        self._aside: dict[Partition, list[Record]] = {}
        """Records read and not begun: the map has no room for them. One poll's share at most, then their partition is paused."""

    def open(self, consumer: Consumer) -> None:
        """Where records come from."""
        self._consumer = consumer
        self._map_room = MapRoom(self._checkpoint, consumer.max_metadata_bytes)

    def room(self, waiting: int) -> int:
        """How many records may be read now, while so many items wait for a call."""
        items = min(self._limits.max_items - self._checkpoint.in_flight(), self._limits.max_waiting - waiting)
        by_bytes = (self._limits.max_bytes - self._bytes) / self._mean_bytes
        # One record is always let in, however large: nothing is too big to move.
        least = 1 if self._checkpoint.in_flight() == 0 else 0
        return max(least, min(items, int(by_bytes), self._limits.max_poll_records))

    def full(self, waiting: int) -> bool:
        """Whether nothing more may be read, while so many items wait for a call."""
        return self._checkpoint.in_flight() > 0 and self.room(waiting) == 0

    def read(self, records: Iterable[Record], leaving: Container[Partition] = ()) -> tuple[list[Item], list[Ending]]:
        """The items to be asked, and the endings of records that need no asking."""
        items: list[Item] = []
        endings: list[Ending] = []
        now_ms = time.time_ns() // 1_000_000
        self._map_room.refresh()
        partition, epoch = Partition("", 0), 0
        for record in records:
            if record.partition != partition.number or record.topic != partition.topic:
                partition = Partition(record.topic, record.partition)  # one for all of its items
                epoch = self._checkpoint.epoch(partition)
            if not epoch or partition in leaving:
                continue
            if partition in self._aside or not self._map_room.takes(partition, record.offset):
                self._put_aside(partition, record)
                continue
            if not self._checkpoint.track(partition, record.offset, record.key):
                continue
            # Nearly no event has headers, and this runs for all of them.
            size = record.size if record.headers else len(record.value or b"") + len(record.key or b"")
            self._bytes += size
            self._mean_bytes += (size - self._mean_bytes) * 0.01
            item, outcome = self._reader.read(record, partition)
            item.taken_ms = now_ms
            item.epoch = epoch
            item.size = size
            if outcome is None:
                if not self._keeps_input:
                    item.input = None
                items.append(item)
            else:
                endings.append(Ending(item, outcome))
        return items, endings

    def release(self, item: Item) -> None:
        """The item is asked no more: what was only needed for that is let go, it may yet wait for its key's turn."""
        self._bytes -= item.size
        item.input, item.text = None, ""

    def hold_back(self) -> Sequence[Record]:
        """Pause partitions whose map or whose keys have no room, resume those that have it again.

        Returns records that were put aside and may be tried now: `read` takes them before anything newer.
        """
        late = self.aside_with_room()
        for partition in self._checkpoint.partitions():
            why = self._why_full(partition)
            if why:
                if partition not in self._paused:
                    self._consumer.pause([partition])
                    self.paused_since[partition] = time.time()
                self._paused[partition] = why
            elif partition in self._paused:
                self._consumer.resume([partition])
                del self._paused[partition], self.paused_since[partition]
        return late

    def forget(self, partitions: Iterable[Partition]) -> None:
        """They are no longer ours."""
        for partition in partitions:
            self._paused.pop(partition, None)
            self.paused_since.pop(partition, None)
            self._map_room.forget(partition)
            self._bytes -= sum(record.size for record in self._aside.pop(partition, ()))

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the records in memory."""
        return self._bytes

    @property
    def paused(self) -> dict[Partition, str]:
        """Partitions that are not read now, and why: `offset_map` or `key_order`."""
        return dict(self._paused)

    @property
    def has_aside(self) -> bool:
        """Whether records were read and not begun."""
        return bool(self._aside)

    def aside_with_room(self) -> list[Record]:
        """Records that were put aside and may be tried now."""
        late: list[Record] = []
        for partition in [p for p in self._aside if self._map_room.is_ample(p)]:
            late += self._aside.pop(partition)
        self._bytes -= sum(record.size for record in late)
        return late

    def _put_aside(self, partition: Partition, record: Record) -> None:
        self._aside.setdefault(partition, []).append(record)
        self._bytes += record.size

    def _why_full(self, partition: Partition) -> str:
        if partition in self._aside:
            return "offset_map"
        if self._task.order == "key" and self._checkpoint.has_key_of(partition, self._limits.max_per_key):
            return "key_order"
        return ""
