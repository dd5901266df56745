"""Records taken from the log together: what of them is open, which letters they make, and how far the group is with them.

log → [batch] → offering → sink
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from penstock.record import Partition, Position, Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from penstock.record import NewRecord
    from penstock.sinks.base import Delivery


class Batch:
    """Deliveries in the order of their records. What is settled is delivered, buried or passed."""

    def __init__(self) -> None:
        self.attempts: Counter[Position] = Counter()
        """Of deliveries that failed when they were offered alone."""
        self.passed = 0
        """Deliveries that passed when they were offered alone."""
        self._open: dict[Position, Delivery] = {}
        self._stop: dict[Partition, int] = {}
        self._letters: dict[Partition, list[tuple[int, NewRecord]]] = defaultdict(list)

    def add(self, record: Record, delivery: Delivery | None) -> None:
        """One more record; without a delivery there is nothing to offer."""
        self._stop[Partition(record.topic, record.partition)] = record.offset + 1
        if delivery is not None:
            self._open[delivery.position] = delivery

    def bury(self, record: Record, letter: NewRecord | None) -> None:
        """It is settled with a letter, or (None) without one."""
        if letter is not None:
            self._letters[Partition(record.topic, record.partition)].append((record.offset, letter))
        self._open.pop(Position(record.topic, record.partition, record.offset), None)

    def settle(self, deliveries: Iterable[Delivery]) -> None:
        """These are done."""
        for delivery in deliveries:
            self._open.pop(delivery.position, None)

    def drop(self, partitions: Collection[Partition]) -> None:
        """They belong to somebody else now, who will deliver what is open."""
        for partition in partitions:
            self._stop.pop(partition, None)
            self._letters.pop(partition, None)
        self._open = {at: one for at, one in self._open.items() if Partition(at.topic, at.partition) not in partitions}

    def open(self) -> list[Delivery]:
        """What is still to be offered, in order."""
        return list(self._open.values())

    def has(self, delivery: Delivery) -> bool:
        """Whether it is still to be offered."""
        return delivery.position in self._open

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be offered."""
        return bool(self._open)

    @property
    def partitions(self) -> set[Partition]:
        """Whose records are in it."""
        return set(self._stop)

    def progress(self) -> dict[Partition, tuple[int, tuple[NewRecord, ...]]]:
        """The next offset of each partition, and the letters that go with it: up to the first that is open."""
        nexts = dict(self._stop)
        for at in reversed(self._open):
            nexts[Partition(at.topic, at.partition)] = at.offset
        return {
            partition: (stop, tuple(letter for offset, letter in self._letters.get(partition, ()) if offset < stop))
            for partition, stop in nexts.items()
        }
