"""Progress of one partition: a low watermark and the offsets done above it (law 3).

checkpoint → [offset map] → log's commit metadata → intake after a restart

In memory the map is one integer: bit i stands for offset `base + i`. As text it is run lengths, the bits themselves, or
bits with long runs of equal bytes as lengths, whichever is shortest, with the format's version, the topic's id and the base
offset before it and a checksum behind: what was cut or changed on its way raises, it never becomes another set.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from penstock.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "1"
_EMPTY = "-"
_HEAD_BYTES = len(VERSION) + 36 + 20 + 3 + 1
_RUN_BYTES = 3
_LEAST_RUN = 7
"""Equal bytes that are worth a length: what tells it and where the next bits begin takes six at most."""
_EQUAL = re.compile(rb"\xff{%d,}|\x00{%d,}" % (_LEAST_RUN, _LEAST_RUN))
_OPEN = re.compile(rb"[^\x00](?:\x00{0,%d}[^\x00])*" % (_LEAST_RUN - 1))


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
        """As text for commit metadata: ASCII, `version;topic id;base;` and `-`, or a kind and base64 of payload and CRC-32."""
        head = f"{VERSION};{topic_id};{self.base};"
        if not self.bits:
            return head + _EMPTY
        kind, payload = _shortest(self.bits, self.base % 8)
        check = crc32(payload, crc32(head.encode())).to_bytes(4, "little")
        return head + kind + b64encode(payload + check).decode()

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
            written_id, written_base, content = rest.split(";", 2)
            bits = 0 if content == _EMPTY else _checked(text[: -len(content)], content, int(written_base) % 8)
            is_ours = int(written_base) == base and written_id == topic_id
        except (ValueError, IndexError) as error:
            raise LogDamaged(f"the offset map in the commit metadata is damaged ({error}): {text[:80]!r}") from error
        return cls(base, bits) if is_ours else cls(base)


def topic_id_of(text: str) -> str:
    """The id of the topic that an encoded map was written for; empty where there is none."""
    version, _, rest = text.partition(";")
    return rest.partition(";")[0] if version == VERSION else ""


def longest_encoded(span: int) -> int:
    """No map whose offsets lie within `span` above its base is longer as text (topic id of up to 36 characters)."""
    return _HEAD_BYTES + 4 * -(-((span + 7) // 8 + 4) // 3)


def longest_span(max_bytes: int) -> int:
    """Any map within this span is `max_bytes` long at most."""
    return max(0, 8 * _most_payload(max_bytes))


def room_in_runs(done: OffsetMap, end: int, max_bytes: int) -> int:
    """Bytes that are left for offsets from `end` on, whichever of the open ones below it are done first.

    Written as run lengths: an open offset takes a byte at most (alone, it is a run of its own), a run of done ones three
    up to a span of two million. One more open offset takes 1, or 4 where a gap stands before it.
    """
    bits = done.bits
    open_ = end - done.base - bits.bit_count()
    return _most_payload(max_bytes) - open_ - _RUN_BYTES * (bits & ~(bits << 1)).bit_count()


class PiecesRoom(NamedTuple):
    """What is left for offsets behind those that are tracked, where long runs of equal bytes are written as lengths."""

    bytes: int
    last_byte: int
    """The last one with an open offset: offset // 8."""

    def with_open(self, offset: int) -> PiecesRoom:
        """After one more open offset behind all others."""
        further = offset // 8 - self.last_byte
        return PiecesRoom(self.bytes - min(further, 1 + 2 * _RUN_BYTES), offset // 8)


def room_in_pieces(done: OffsetMap, end: int, max_bytes: int) -> PiecesRoom:
    """Likewise, as bits with long runs as lengths: a byte for each eight offsets of which one is open.

    Bytes stand where the offsets do (offset // 8), so that a watermark that moves up shifts nothing. A stretch of bytes with open
    offsets costs itself and two lengths at most, whatever of it is done first: a run inside it is written as a length only
    where that is not longer.
    """
    pad = done.base % 8
    opened = (~done.bits & ((1 << max(0, end - done.base)) - 1)) << pad
    stretches = [match.span() for match in _OPEN.finditer(_bytes_of(opened))]
    taken = sum(stop - start for start, stop in stretches) + 2 * _RUN_BYTES * len(stretches) + _RUN_BYTES
    last = done.base // 8 + stretches[-1][1] - 1 if stretches else end // 8 - 2 * _LEAST_RUN
    return PiecesRoom(_most_payload(max_bytes) - taken, last)


def _most_payload(max_bytes: int) -> int:
    return (max_bytes - _HEAD_BYTES) // 4 * 3 - 4


def _shortest(bits: int, pad: int) -> tuple[str, bytes]:
    """Kind and payload: the lengths of runs, the bits themselves, or pieces of both; of equals the first."""
    plain = _bytes_of(bits)
    edges = bits ^ bits << 1
    is_short = edges.bit_count() <= len(plain)  # a run takes a byte at least
    found = [("r", _runs(edges))] if is_short else []
    return min([*found, ("b", plain), ("p", _pieces(bits, pad))], key=lambda one: len(one[1]))


def _bytes_of(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _pieces(bits: int, pad: int) -> bytes:
    """Pairs of a number and what it tells: how many bytes follow (times 4), or how many zeros (1) or ones (2) stand there."""
    data = _bytes_of((bits << pad) | ((1 << pad) - 1))
    out, at = bytearray(), 0
    for run in _EQUAL.finditer(data):
        _literal(out, data[at : run.start()])
        _varint(out, (run.end() - run.start()) << 2 | (2 if data[run.start()] else 1))
        at = run.end()
    _literal(out, data[at:])
    return bytes(out)


def _literal(out: bytearray, data: bytes) -> None:
    if data:
        _varint(out, len(data) << 2)
        out += data


def _runs(edges: int) -> bytes:
    """Lengths of alternating runs, zeros first, as varints; `edges` has a bit where a run begins."""
    lengths = [len(gap) + 1 for gap in f"{edges:b}"[::-1].split("1")]
    lengths[0] -= 1
    lengths.pop()
    if max(lengths) <= 0x7F:
        return bytes(lengths)
    out = bytearray()
    for length in lengths:
        _varint(out, length)
    return bytes(out)


def _checked(head: str, content: str, pad: int) -> int:
    """The bits of a payload whose checksum holds."""
    kind, checked = content[0], b64decode(content[1:], validate=True)
    payload, check = checked[:-4], checked[-4:]
    if crc32(payload, crc32(head.encode())).to_bytes(4, "little") != check:
        raise ValueError("its checksum does not hold")
    if kind == "p":
        return _joined(payload) >> pad
    if kind not in ("r", "b"):
        raise ValueError(f"unknown kind {kind!r}")
    return _bits(payload) if kind == "r" else int.from_bytes(payload, "little")


def _joined(pieces: bytes) -> int:
    out, at = bytearray(), 0
    while at < len(pieces):
        stop = at
        while pieces[stop] > 0x7F:
            stop += 1
        (number,) = _varints(pieces[at : stop + 1])
        count, what, at = number >> 2, number & 3, stop + 1
        if what == 0:
            out += pieces[at : at + count]
            at += count
        else:
            out += (b"\x00", b"\xff")[what - 1] * count
    return int.from_bytes(out, "little")


def _bits(runs: bytes) -> int:
    bits = at = 0
    lengths = list(_varints(runs))
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
