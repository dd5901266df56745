"""Which offsets of the input topics hold an event, as the judge has read them there itself.

judge → [produced] → judge
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.record import Partition


class Produced:
    """A byte an offset, from the first event that was read on; events of a partition are added in their order."""

    def __init__(self) -> None:
        self.ends: dict[Partition, int] = {}
        """Of every partition that there is, behind its last offset."""
        self._first: dict[Partition, int] = {}
        self._is_event: dict[Partition, bytearray] = {}

    def add(self, partition: Partition, offset: int) -> None:
        """An event stands there."""
        first = self._first.setdefault(partition, offset)
        known = self._is_event.setdefault(partition, bytearray())
        known.extend(bytes(offset - first - len(known)))
        known.append(1)

    def is_gap(self, partition: Partition, offset: int) -> bool:
        """Between events that were read, and none itself: a marker, or nothing at all."""
        at = offset - self._first.get(partition, 0)
        known = self._is_event.get(partition, b"")
        return 0 <= at < len(known) and not known[at]

    def is_missing(self, partition: Partition, offset: int, *, is_read_to_its_end: bool) -> bool:
        """Whether reading on cannot bring it any more; a partition that there is not has no offsets."""
        return self.is_gap(partition, offset) or is_read_to_its_end or offset >= self.ends.get(partition, 0)
