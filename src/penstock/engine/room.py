"""How far a partition may be read while its earliest offsets are open: the map of what is done behind them must fit.

checkpoint → [room] → intake

Up to a span that fits whatever happens, nothing is counted. Beyond it one slow item costs next to nothing, because what is
done behind it is one long run; then what is open is what is bounded: by the runs it may come to, or by the bytes it stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.log.offset_map import OffsetMap, PiecesRoom, longest_span, room_in_pieces, room_in_runs

if TYPE_CHECKING:
    from penstock.engine.cascade import Ending
    from penstock.engine.checkpoint import Checkpoint
    from penstock.record import Partition

MAX_SPAN = 262_144
"""Every result behind a slow item rewrites its partition's map in memory: beyond this that costs more than it gives."""
ALONE = 4
"""Bytes of an open offset behind a gap: itself, and the run of done ones in front of it."""


@dataclass(slots=True)
class _Left:
    """What is left of a partition's room since it was counted."""

    base: int
    next: int
    bytes: int
    """Written as runs."""
    pieces: PiecesRoom


class MapRoom:
    """Whether one more offset can be tracked without any future map becoming longer than the log takes."""

    def __init__(self, checkpoint: Checkpoint[Ending], max_metadata_bytes: int) -> None:
        self._checkpoint = checkpoint
        self._max_bytes = max_metadata_bytes
        self._span = longest_span(max_metadata_bytes)
        self._sure: dict[Partition, int] = {}
        """Offsets below fit. The watermark only rises, so what fitted once fits."""
        self._left: dict[Partition, _Left] = {}

    def refresh(self) -> None:
        """Outcomes may have come in since: count again where it matters."""
        self._left.clear()

    def forget(self, partition: Partition) -> None:
        """It is no longer ours."""
        self._sure.pop(partition, None)
        self._left.pop(partition, None)

    def takes(self, partition: Partition, offset: int) -> bool:
        """Whether this offset may be tracked now; if so it will be."""
        return offset < self._sure.get(partition, 0) or self._takes(partition, offset)

    def is_ample(self, partition: Partition) -> bool:
        """A quarter of the map is free again: enough to make reading on worth its while."""
        base, bits, end = self._checkpoint.extent(partition)
        if end - base < self._span * 3 // 4 or bits.bit_count() == end - base:
            return True
        done = OffsetMap(base, bits)
        left = max(room_in_runs(done, end, self._max_bytes), room_in_pieces(done, end, self._max_bytes).bytes)
        return end - base < MAX_SPAN * 3 // 4 and left > self._span // 32

    def _takes(self, partition: Partition, offset: int) -> bool:
        base, bits, end = self._checkpoint.extent(partition)
        if offset < max(end, base + self._span):
            self._sure[partition] = max(end, base + self._span)
            return True
        if partition not in self._left:
            is_nothing_open = bits.bit_count() == end - base  # then the watermark moves up to whatever comes
            done = OffsetMap(end) if is_nothing_open else OffsetMap(base, bits)
            runs, pieces = room_in_runs(done, end, self._max_bytes), room_in_pieces(done, end, self._max_bytes)
            self._left[partition] = _Left(done.base, end, runs, pieces)
        left = self._left[partition]
        if offset - left.base >= MAX_SPAN and left.base < left.next:
            return False
        left.bytes -= 1 if offset == left.next else ALONE
        left.pieces = left.pieces.with_open(offset)
        left.next = offset + 1
        return left.bytes >= 0 or left.pieces.bytes >= 0
