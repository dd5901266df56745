"""Progress of one partition: a low watermark and the offsets done above it (law 3).

checkpoint → [offset map] → log's commit metadata → intake after a restart

In memory the map is one integer: bit i stands for offset `base + i`. As text it is run lengths or the bits themselves,
whichever is shorter, with the format's version, the topic's id and the base offset before it.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "1"


class OffsetMap(NamedTuple):
    """Offsets below `base` are done, and `base + i` where bit i of `bits` is set. Bit 0 is never set."""

    base: int
    bits: int = 0

    def __contains__(self, offset: object) -> bool:
        if not isinstance(offset, int):
            return False
        return offset < self.base or bool(self.bits >> (offset - self.base) & 1)

    @property
    def end(self) -> int:
        """One past the highest offset that is done."""
        return self.base + self.bits.bit_length()

    def count_above(self) -> int:
        """How many offsets are done above the watermark."""
        return self.bits.bit_count()

    def above(self) -> Iterator[int]:
        """The offsets done above the watermark, ascending."""
        bits, offset = self.bits, self.base
        while bits:
            step = (bits & -bits).bit_length()
            offset += step
            yield offset - 1
            bits >>= step

    def normalised(self) -> OffsetMap:
        """The same set with the watermark moved over what is done in a row."""
        ones = (~self.bits & (self.bits + 1)).bit_length() - 1
        return OffsetMap(self.base + ones, self.bits >> ones) if ones else self

    def from_offset(self, low: int) -> OffsetMap:
        """The same set with everything below `low` done: what is deleted cannot be read any more."""
        return self if low <= self.base else OffsetMap(low, self.bits >> (low - self.base)).normalised()

    def covers(self, other: OffsetMap) -> bool:
        """Whether every offset that is done in `other` is done here."""
        if self.base < other.base:
            return False
        return not (other.bits >> (self.base - other.base)) & ~self.bits

    def encode(self, topic_id: str = "") -> str:
        """As text for commit metadata: ASCII, `version;topic id;base;kind payload`. An empty map has an empty payload."""
        head = f"{VERSION};{topic_id};{self.base};"
        if not self.bits:
            return head
        runs, raw = _runs(self.bits), self.bits.to_bytes((self.bits.bit_length() + 7) // 8, "little")
        kind, payload = ("r", runs) if len(runs) <= len(raw) else ("b", raw)
        return head + kind + base64.b64encode(payload).decode()

    @classmethod
    def decode(cls, text: str, *, base: int, topic_id: str = "") -> OffsetMap:
        """Read it back for a committed watermark `base`.

        A map of another topic id or another base is not believed: the watermark alone counts. An unknown version or
        a damaged payload raises `LogDamaged`: to guess would pay twice or lose events.
        """
        if not text:
            return cls(base)
        version, _, rest = text.partition(";")
        if version != VERSION:
            raise LogDamaged(
                f"offset map of version {version[:20]!r} in the group's commit metadata, this Penstock reads version {VERSION}: "
                "run the version that wrote it, or let that version drain and stop first"
            )
        try:
            written_id, written_base, payload = rest.split(";", 2)
            if written_id != topic_id or int(written_base) != base:
                return cls(base)
            if not payload:
                return cls(base)
            content = base64.b64decode(payload[1:], validate=True)
            bits = _bits(content) if payload[0] == "r" else int.from_bytes(content, "little")
        except (ValueError, IndexError) as error:
            raise LogDamaged(f"the offset map in the commit metadata is damaged ({error}): {text[:80]!r}") from error
        return cls(base, bits)


def _runs(bits: int) -> bytes:
    """Lengths of alternating runs, zeros first, as varints."""
    out = bytearray()
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & (bits + 1)).bit_length() - 1
        bits >>= ones
        _varint(out, zeros)
        _varint(out, ones)
    return bytes(out)


def _bits(runs: bytes) -> int:
    bits = at = 0
    lengths = list(_varints(runs))
    if len(lengths) % 2:
        raise ValueError("odd number of runs")
    for zeros, ones in zip(lengths[::2], lengths[1::2], strict=True):
        at += zeros
        bits |= ((1 << ones) - 1) << at
        at += ones
    return bits


def _varint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _varints(content: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("ends inside a number")
