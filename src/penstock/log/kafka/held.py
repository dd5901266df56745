"""Records taken from librdkafka and not handed to the engine yet.

Kafka → [held] → intake
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from penstock.record import Partition, Record

if TYPE_CHECKING:
    from collections.abc import Collection


class Held:
    """Keeps each partition's order. Filled on the consumer's thread, emptied on the event loop.

    A poll that was cancelled loses nothing, and a record that arrived just before its partition was paused waits here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, records: list[Record]) -> None:
        """Put these behind what is there."""
        with self._lock:
            self._records.extend(records)

    def take(self, max_records: int, paused: Collection[Partition]) -> list[Record]:
        """Up to `max_records` of partitions that are not paused."""
        with self._lock:
            if not paused and len(self._records) <= max_records:
                taken = list(self._records)
                self._records.clear()
                return taken
            taken, kept = [], deque[Record]()
            for record in self._records:
                if len(taken) < max_records and (record.topic, record.partition) not in paused:
                    taken.append(record)
                else:
                    kept.append(record)
            self._records = kept
            return taken

    def count(self, paused: Collection[Partition]) -> int:
        """How many `take` could give."""
        with self._lock:
            if not paused:
                return len(self._records)
            return sum((record.topic, record.partition) not in paused for record in self._records)

    def drop(self, partitions: Collection[Partition]) -> None:
        """These are another worker's to read now."""
        with self._lock:
            self._records = deque(r for r in self._records if (r.topic, r.partition) not in partitions)
