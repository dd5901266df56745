"""The offset map: the same set comes back, or an error; never another set."""

from __future__ import annotations

from base64 import b64decode
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.errors import LogDamaged
from penstock.log.offset_map import OffsetMap, longest_encoded

bases = st.integers(min_value=0, max_value=1 << 40)
gap_sets = st.sets(st.integers(min_value=1, max_value=3_000), max_size=300)
topic_ids = st.text("abcdef0123456789-_", max_size=36)


def map_of(base: int, above: set[int]) -> OffsetMap:
    bits = 0
    for distance in above:
        bits |= 1 << distance
    return OffsetMap(base, bits)


def reference_runs(bits: int) -> list[int]:
    """Run lengths of the bits from the lowest up, zeros first, the slow and plain way."""
    lengths, value = [0], "0"
    for bit in reversed(f"{bits:b}"):
        if bit == value:
            lengths[-1] += 1
        else:
            lengths.append(1)
            value = bit
    return lengths


def reference_size(bits: int) -> int:
    runs = sum(max(1, -(-length.bit_length() // 7)) for length in reference_runs(bits))
    return min(runs, -(-bits.bit_length() // 8), pieces_size(bits))


def pieces_size(bits: int) -> int:
    """Eight offsets at a time: seven or more equal bytes of ones or zeros are a number, what stands between is a number and itself."""
    size = between = 0
    for value, same in groupby(bits.to_bytes(-(-bits.bit_length() // 8), "little")):
        count = len(list(same))
        if value not in (0, 255) or count < 7:
            between += count
            continue
        size += number_size(between) + between + number_size(count)
        between = 0
    return size + number_size(between) + between


def number_size(count: int) -> int:
    return -(-(count << 2).bit_length() // 7) if count else 0


@given(bases, gap_sets, topic_ids)
@example(0, set(), "")
@example(5, {1}, "t")
@example(5, set(range(1, 2_000)), "t")
@example(5, {2_999}, "t")
def test_what_is_written_is_read_back(base: int, above: set[int], topic_id: str) -> None:
    """Round trip: the same base and the same set, whatever the gaps."""
    written = map_of(base, above)
    read = OffsetMap.decode(written.encode(topic_id), base=base, topic_id=topic_id)
    assert read == written
    assert list(read.above()) == sorted(base + distance for distance in above)


@given(st.integers(min_value=1, max_value=1 << 600))
def test_any_pattern_of_bits_is_read_back(bits: int) -> None:
    """Dense patterns too, bit 0 set or not."""
    assert OffsetMap.decode(OffsetMap(7, bits).encode("t"), base=7, topic_id="t").bits == bits


@given(gap_sets.filter(bool))
def test_the_shorter_encoding_wins(above: set[int]) -> None:
    """The payload is as long as the shortest of run lengths, plain bits and pieces of both, and not a byte longer."""
    done = map_of(0, above)
    payload = b64decode(done.encode().split(";")[3][1:])
    assert len(payload) - 4 == reference_size(done.bits)


@given(
    bases, st.lists(st.tuples(st.integers(1, 3_000), st.sampled_from(["open", "done", "mixed"])), min_size=1), st.data()
)
def test_stretches_of_all_kinds_are_read_back(base: int, stretches: list[tuple[int, str]], data) -> None:
    """Long runs beside what is half done, as a partition behind slow calls has them, wherever the watermark stands."""
    random, bits, at = data.draw(st.randoms(use_true_random=False)), 0, 0
    for length, kind in stretches:
        some = {"open": 0, "done": (1 << length) - 1, "mixed": random.getrandbits(length)}[kind]
        bits |= some << at
        at += length
    assert OffsetMap.decode(OffsetMap(base, bits).encode("t"), base=base, topic_id="t").bits == bits


def test_each_encoding_is_used() -> None:
    """Few long runs are written as runs, alternating offsets as bits, both together as pieces."""
    half_done = map_of(5, set(range(100, 90_000)) | set(range(90_000, 99_000, 2))).encode()
    assert half_done.split(";")[3][0] == "p"
    assert len(half_done) < 1_700
    long_run = OffsetMap(0, ((1 << 900) - 1) << 1).encode()
    alternating = map_of(0, set(range(1, 900, 2))).encode()
    assert long_run.split(";")[3][0] == "r"
    assert alternating.split(";")[3][0] == "b"
    assert len(long_run) < 30 < len(alternating)


@given(bases, st.integers(min_value=1, max_value=20_000), st.randoms(use_true_random=False))
def test_a_span_bounds_the_text(base: int, span: int, random) -> None:
    """No map within a span is longer than `longest_encoded` says, so that intake can stop in time."""
    done = OffsetMap(base, random.getrandbits(span) | 1 << span - 1)
    assert len(done.encode("0123456789abcdef0123456789abcdef-xyz")) <= longest_encoded(span)


def test_the_bound_is_close() -> None:
    """The bound is not so generous that it wastes room: 4,096 bytes hold a span of 23,900."""
    assert longest_encoded(23_900) <= 4096
    assert longest_encoded(23_900) - len(map_of(1 << 40, set(range(1, 23_900, 2))).encode("x" * 36)) < 20


@given(gap_sets.filter(bool), bases, bases, topic_ids, topic_ids)
def test_a_foreign_map_is_not_believed(
    above: set[int], base: int, other_base: int, topic_id: str, other_id: str
) -> None:
    """A map of another topic id or base gives the watermark alone."""
    text = map_of(base, above).encode(topic_id)
    if other_base != base:
        assert OffsetMap.decode(text, base=other_base, topic_id=topic_id) == OffsetMap(other_base)
    if other_id != topic_id:
        assert OffsetMap.decode(text, base=base, topic_id=other_id) == OffsetMap(base)


@pytest.mark.parametrize("text", ["2;t;5;-", "0;t;5;-", "x", "leader-epoch=4", ";", "11;t;5;-"])
def test_an_unknown_version_refuses(text: str) -> None:
    """What another version (or another program) wrote is not guessed at; the message says what to do."""
    with pytest.raises(LogDamaged, match="run the version that wrote it"):
        OffsetMap.decode(text, base=5, topic_id="t")


def test_no_metadata_is_no_map() -> None:
    """Offsets set by other tools carry no metadata: the watermark alone counts."""
    assert OffsetMap.decode("", base=5, topic_id="t") == OffsetMap(5)


@given(gap_sets, st.data())
def test_damage_never_becomes_another_set(above: set[int], data) -> None:
    """Any character changed, lost or cut off: an error, or the true set, or the watermark alone where the name no longer fits."""
    true = map_of(1_000, above)
    text = true.encode("topic")
    at = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    replaced = text[:at] + data.draw(st.characters(min_codepoint=32, max_codepoint=126)) + text[at + 1 :]
    for damaged in (replaced, text[:at], text[:at] + text[at + 1 :]):
        try:
            read = OffsetMap.decode(damaged, base=1_000, topic_id="topic")
        except LogDamaged:
            continue
        assert read in (true, OffsetMap(1_000)), damaged
        if read != true:
            head = damaged.split(";")
            assert damaged == "" or head[1] != "topic" or int(head[2]) != 1_000


def test_a_cut_payload_raises() -> None:
    """A text that lost its end is damage, not an empty map."""
    text = map_of(5, {3, 9, 17}).encode("t")
    for length in range(len("1;t;5;"), len(text)):
        with pytest.raises(LogDamaged, match="damaged"):
            OffsetMap.decode(text[:length], base=5, topic_id="t")


@given(bases, gap_sets, st.integers(min_value=-10, max_value=3_100))
def test_membership(base: int, above: set[int], distance: int) -> None:
    """Everything below the base is done, and exactly the mapped offsets above it."""
    done = map_of(base, above)
    offset = base + distance
    assert (offset in done) == (offset < base or distance in above)
    assert done.count_above() == len(above)
    assert done.end == (base + max(above) + 1 if above else base)


@given(bases, st.integers(min_value=0, max_value=1 << 200))
def test_normalised_keeps_the_set(base: int, bits: int) -> None:
    """Moving the watermark over what is done in a row changes nothing but the watermark; bit 0 is free afterwards."""
    done = OffsetMap(base, bits)
    moved = done.normalised()
    assert not moved.bits & 1
    assert all((offset in done) == (offset in moved) for offset in range(base, base + 210))


@given(bases, gap_sets, st.integers(min_value=-5, max_value=3_100))
def test_from_offset_adds_what_is_below(base: int, above: set[int], distance: int) -> None:
    """From an offset on: all below it is done, the rest as before."""
    done = map_of(base, above)
    cut = done.from_offset(base + distance)
    for offset in (*done.above(), base, base + distance, base + distance - 1, base + 1, base + 3_050):
        assert (offset in cut) == (offset in done or offset < base + distance)
    assert cut.covers(done)


@given(gap_sets, gap_sets, st.integers(min_value=0, max_value=100))
def test_covers_is_superset(mine: set[int], other: set[int], step: int) -> None:
    """One map covers another when no offset done there is missing here."""
    done, before = map_of(10 + step, mine), map_of(10, other)
    assert done.covers(before) == all(offset in done for offset in (*before.above(), 9))
    assert done.covers(done)
    assert step == 0 or not before.covers(done)
