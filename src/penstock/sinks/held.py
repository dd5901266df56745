"""How far a group may be committed while its sink holds deliveries back: up to the first of them.

delivery → [held] → log
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.log.base import PartProgress
from penstock.record import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from penstock.log.offset_map import OffsetMap
    from penstock.record import NewRecord
    from penstock.sinks.base import Sink


class Held:
    """Of the partitions where progress is behind what was taken."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._taken: dict[Partition, int] = {}

    def part(self, partition: Partition, stop: int, done: OffsetMap, letters: tuple[NewRecord, ...]) -> PartProgress:
        """Everything in front of `stop` is taken; what may be committed of it. Letters go at once."""
        self._taken[partition] = stop
        return PartProgress(partition, done.from_offset(max(done.base, self._stop(partition, stop))), letters)

    def due(self, owned: Mapping[Partition, OffsetMap]) -> Iterable[PartProgress]:
        """What may be committed since something was sent."""
        for partition, taken in self._taken.items():
            done = owned.get(partition)
            if done is not None and (stop := self._stop(partition, taken)) > done.base:
                yield PartProgress(partition, done.from_offset(stop))

    def forget(self, partitions: Collection[Partition]) -> None:
        """They are somebody else's now."""
        for partition in partitions:
            self._taken.pop(partition, None)
        self._sink.let_go(partitions)

    def _stop(self, partition: Partition, taken: int) -> int:
        held = (one.offset for one in self._sink.unsent() if Partition(one.topic, one.partition) == partition)
        return min([taken, *held])
