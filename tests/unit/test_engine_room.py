"""How far intake reads past an open offset: never further than the map can tell, and no less than that."""

from __future__ import annotations

import random
from base64 import b64decode
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.checkpoint import Checkpoint
from penstock.engine.room import MapRoom
from penstock.log.offset_map import OffsetMap, longest_span, room_in_pieces, room_in_runs
from penstock.record import Partition

P = Partition("events", 3)
TOPIC_ID = "0123456789abcdef0123456789abcdef-xyz"


def started(max_bytes: int) -> tuple[Checkpoint, MapRoom]:
    checkpoint: Checkpoint = Checkpoint()
    checkpoint.begin(P, OffsetMap(1 << 40))
    return checkpoint, MapRoom(checkpoint, max_bytes)


@given(st.integers(0, 2**32), st.integers(100, 600), st.sampled_from([0.0, 0.02, 0.5]), st.sampled_from([1, 7, 60]))
@settings(max_examples=40)
def test_no_map_is_ever_too_long(seed: int, max_bytes: int, gaps: float, together: int) -> None:
    """Whatever gaps come, and in whichever order outcomes do, every map that could be committed fits."""
    rng = random.Random(seed)
    checkpoint, room = started(max_bytes)
    offset, open_offsets, refused = 1 << 40, [], 0
    for _ in range(400):
        room.refresh()
        for _ in range(rng.randrange(40)):
            step = rng.choice([1, 1, 2, 3_000]) if rng.random() < gaps else 0
            if not room.takes(P, offset + step):
                refused += 1
                break
            offset += step
            assert checkpoint.track(P, offset)
            open_offsets.append(offset)
            offset += 1
        behind = rng.randrange(1, 40)
        for _ in range(rng.randrange(40)):
            if len(open_offsets) <= behind:
                break
            at = rng.randrange(behind, len(open_offsets))
            for done in open_offsets[at : at + together]:
                checkpoint.resolve(P, 1, done)
            del open_offsets[at : at + together]
        for _, done, _ in checkpoint.advance():
            assert len(done.encode(TOPIC_ID)) <= max_bytes
    for done in open_offsets[1::2]:  # the worst that may still come: every second one
        checkpoint.resolve(P, 1, done)
    for _, done, _ in checkpoint.advance():
        assert len(done.encode(TOPIC_ID)) <= max_bytes


def test_one_open_offset_holds_up_nothing_for_long() -> None:
    """Behind one slow item hundreds of thousands of others are resolved: their map is one run."""
    checkpoint, room = started(4096)
    first = 1 << 40
    checkpoint.track(P, first)
    for offset in range(first + 1, first + 200_000):
        if not offset % 100:
            room.refresh()
        assert room.takes(P, offset)
        checkpoint.track(P, offset)
        checkpoint.resolve(P, 1, offset)
        if not offset % 1000:
            checkpoint.advance()
    ((_, done, _),) = checkpoint.advance()
    assert done.base == first
    assert len(done.encode(TOPIC_ID)) < 100


def test_alternating_outcomes_stop_it_in_time_and_it_goes_on() -> None:
    """Every second offset open is the worst: it stops at the span that fits whatever comes, and goes on when they are done."""
    checkpoint, room = started(4096)
    first = offset = 1 << 40
    while room.takes(P, offset):
        checkpoint.track(P, offset)
        if offset % 2:
            checkpoint.resolve(P, 1, offset)
        offset += 1
    checkpoint.advance()
    assert offset == first + longest_span(4096)
    assert not room.is_ample(P)
    for even in range(first + 2, offset, 2):
        checkpoint.resolve(P, 1, even)
    room.refresh()
    assert room.is_ample(P)
    assert room.takes(P, offset)


def test_a_gap_with_nothing_open_before_it_is_no_obstacle() -> None:
    """After millions of offsets that compaction took, reading goes on: the watermark follows."""
    checkpoint, room = started(4096)
    assert room.takes(P, (1 << 40) + 5_000_000)
    checkpoint.track(P, (1 << 40) + 5_000_000)
    room.refresh()
    assert not room.takes(P, (1 << 40) + 10_000_000)
    checkpoint.resolve(P, 1, (1 << 40) + 5_000_000)
    checkpoint.advance()
    room.refresh()
    assert room.takes(P, (1 << 40) + 10_000_000)


def test_a_full_worker_reads_on_behind_slow_calls() -> None:
    """With one partition: three slow calls of 50 and 17,000 in flight at the front, answered as they come back, for 200,000 offsets."""
    rng = random.Random(5)
    checkpoint, room = started(4096)
    first, in_flight = 1 << 40, deque[int]()
    slow = {first + begin + number for begin in (3, 20_007, 60_001) for number in range(50)}
    for offset in range(first, first + 200_000):
        if not offset % 500:
            room.refresh()
        assert room.takes(P, offset), f"stopped after {offset - first}"
        checkpoint.track(P, offset)
        if offset in slow:
            continue
        in_flight.append(offset)
        if len(in_flight) > 17_000:
            checkpoint.resolve(P, 1, in_flight[at := rng.randrange(300)])
            del in_flight[at]
        if not offset % 10_000:
            checkpoint.advance()
    checkpoint.resolve(P, 1, in_flight.popleft())
    ((_, done, _),) = checkpoint.advance()
    assert len(done.encode(TOPIC_ID)) <= 4096


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_room_in_pieces_is_a_bound(seed: int) -> None:
    """Whichever open offsets are done first, and wherever the watermark then stands, the map is no longer than was counted."""
    rng = random.Random(seed)
    base = rng.randrange(1 << 40)
    bits, at, opened = 0, 0, []
    for _ in range(rng.randrange(1, 12)):
        zeros, ones = rng.choice([1, 5, 60, 3_000]), rng.choice([1, 9, 70, 20_000])
        opened += range(at, at + zeros)
        at += zeros
        bits |= ((1 << ones) - 1) << at
        at += ones
    left = room_in_pieces(OffsetMap(base, bits), base + at, 1_000_000)
    for _ in range(rng.randrange(400)):  # offsets that come, one by one or behind gaps
        step = rng.choice([0, 0, 0, 3, 50, 900])
        bits |= ((1 << step) - 1) << at
        opened.append(at + step)
        left = left.with_open(base + at + step)
        at += step + 1
    taken = longest_span(1_000_000) // 8 - left.bytes
    for share in (0.0, 0.1, 0.5, 0.9):
        some = bits
        for zero in opened[1:] if rng.random() < 0.5 else opened:
            some |= (rng.random() < share) << zero
        payload = b64decode(OffsetMap(base, some).normalised().encode().split(";")[3][1:])
        assert len(payload) - 4 <= taken


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_room_in_runs_is_a_bound(seed: int) -> None:
    """Whichever open offsets are done first, the map is no longer than what `room_in_runs` leaves."""
    rng = random.Random(seed)
    bits = at = 0
    opened: list[int] = []
    for _ in range(rng.randrange(1, 10)):
        zeros, ones = rng.randrange(1, 300), rng.randrange(1, 40_000)
        opened += range(at, at + zeros)
        at += zeros
        bits |= ((1 << ones) - 1) << at
        at += ones
    bound = room_in_runs(OffsetMap(7), 7, 1_000_000) - room_in_runs(OffsetMap(7, bits), 7 + at, 1_000_000)
    for share in (0.0, 0.1, 0.5, 0.9):
        some = bits
        for zero in opened[1:]:
            some |= (rng.random() < share) << zero
        payload = b64decode(OffsetMap(7, some).encode().split(";")[3][1:])
        assert len(payload) - 4 <= bound
