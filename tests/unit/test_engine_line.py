"""Laws of the line: high before normal before low, the earliest deadline first, and nobody is overtaken for ever."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from penstock import Item, Partition, Record
from penstock.engine.batcher import Batcher, BatchLimits
from penstock.engine.checkpoint import Checkpoint
from penstock.engine.line import FOR_THE_PATIENT, Line
from penstock.engine.pace import Pace
from penstock.log.offset_map import OffsetMap
from penstock.tier import HIGH, LOW, NORMAL, Capacity

NOTES = Partition("notes", 0)
ROOM = Capacity(1_000)
FAR = 1e9
PRIORITIES = st.sampled_from([HIGH, NORMAL, LOW])
DEADLINES = st.sampled_from([0, 0, 1, 2, 5, 100, 10**12])
ARRIVALS = st.lists(st.tuples(PRIORITIES, DEADLINES), max_size=12)


def item(
    number: int, priority: int = NORMAL, deadline_ms: int = 0, *, suspicious: bool = False, key: bytes | None = None
) -> Item:
    made = Item(Record("notes", 0, number, key, b"", (), 0), NOTES, str(number), None, "", 1)
    made.priority, made.deadline_ms, made.suspicious = priority, deadline_ms, suspicious
    return made


def rank(one: Item) -> tuple[int, float, int]:
    return one.priority, one.deadline_ms or math.inf, one.offset


def numbers(batch: list[Item] | None) -> list[int]:
    return [one.offset for one in batch or ()]


@given(st.lists(ARRIVALS, max_size=30), st.integers(1, 7))
def test_who_is_ready_leaves_by_priority_then_deadline_then_as_it_came(rounds, places):
    """Before anyone has lost patience, every item that leaves stands before all that stay."""
    line, number = Line(FAR), 0
    for arrivals in [*rounds, *[[]] * 100]:
        for priority, deadline_ms in arrivals:
            line.add(item(number, priority, deadline_ms))
            number += 1
        batch = line.take(places, 10**6, 0.0)
        assert [rank(one) for one in batch] == sorted(rank(one) for one in batch)
        assert not batch or all(rank(batch[-1]) < rank(one) for one in line)


@given(st.lists(ARRIVALS, min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 20), st.data())
def test_whatever_arrives_every_item_leaves_within_a_bound(rounds, places, patience, data):
    """From when it has waited `patience`, an item is overtaken in at most three of four places by younger ones."""
    line, number, given_places = Line(patience), 0, 0
    came: dict[int, float] = {}
    patient_since: dict[int, tuple[int, int]] = {}
    now = 0.0
    while now < len(rounds) or len(line):
        for priority, deadline_ms in rounds[int(now)] if now < len(rounds) else ():
            made = item(number, priority, deadline_ms)
            made.waits_since = came[number] = now
            line.add(made)
            number += 1
        for waiting in line:
            if now - waiting.waits_since >= patience and waiting.offset not in patient_since:
                older = sum(other.waits_since <= waiting.waits_since for other in line) - 1
                patient_since[waiting.offset] = given_places, older
        for leaving in line.take(data.draw(st.integers(1, places)), 10**6, now):
            given_places += 1
            began, older = patient_since.get(leaving.offset, (given_places, 0))
            assert given_places - began <= FOR_THE_PATIENT * (older + 1)
            del came[leaving.offset]
        now += 1.0
    assert not came


def test_low_waits_while_high_floods_but_not_for_ever():
    """A flood that takes every place leaves one in four to those who have lost patience: here after ten seconds."""
    line = Line(patience_seconds=10)
    low = [item(n, LOW) for n in range(3)]
    for one in low:
        line.add(one)
    left_at = {}
    for second in range(30):
        for n in range(4):
            flood = item(1_000 + 4 * second + n, HIGH)
            flood.waits_since = float(second)
            line.add(flood)
        left_at |= {one.offset: second for one in line.take(4, 10**6, float(second)) if one in low}
    assert left_at == {0: 10, 1: 11, 2: 12}


@given(
    st.lists(st.tuples(st.sampled_from(["add", "first", "take", "past", "drop"]), PRIORITIES, DEADLINES), max_size=200)
)
def test_every_item_leaves_once_by_whatever_door(moves):
    """Taken, past its deadline or discarded: once each, none forgotten, and the line knows how many it has."""
    line, inside, gone = Line(5.0), {}, []
    for number, (move, priority, deadline_ms) in enumerate(moves):
        if move in ("add", "first"):
            inside[number] = item(number, priority, deadline_ms)
            (line.add if move == "add" else line.add_first)(inside[number])
        elif move == "take":
            gone += line.take(3, 10**6, float(number))
        elif move == "past":
            past = line.take_past(deadline_ms)
            assert all(0 < one.deadline_ms <= deadline_ms for one in past)
            gone += past
            assert not any(0 < one.deadline_ms <= deadline_ms for one in line)
        else:
            gone += line.discard(lambda one, number=number: one.offset % 7 == number % 7)
        assert len(line) == len(list(line)) == len(inside) - len(gone)
    gone += line.take(1_000, 10**6, 0.0)
    assert sorted(one.offset for one in gone) == sorted(inside)


def test_a_stream_of_far_deadlines_leaves_nothing_behind_in_memory():
    """Law 10: what has left is not remembered, also while one early deadline stays at the front."""
    line = Line(FAR)
    line.add(item(0, LOW, 1))
    for number in range(1, 5_000):
        line.add(item(number, HIGH, 10**13 - number))
        assert numbers(line.take(1, 10**6, 0.0)) == [number]
    assert len(line) == 1
    assert len(line._ranks) + len(line._deadlines) < 200


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", None]), PRIORITIES, DEADLINES, st.booleans()), max_size=40),
    st.integers(1, 6),
)
def test_priorities_and_deadlines_never_break_the_order_of_a_key(events, places):
    """With order="key" results of one key leave in the order of its events, whoever was asked first."""
    checkpoint: Checkpoint[Item] = Checkpoint(by_key=True)
    epoch = checkpoint.begin(NOTES, OffsetMap(0))
    batcher = Batcher(places, BatchLimits(patience_seconds=2))
    keys = {}
    for offset, (key, priority, deadline_ms, suspicious) in enumerate(events):
        checkpoint.track(NOTES, offset, key)
        keys[offset] = key
        batcher.add(item(offset, priority, deadline_ms, suspicious=suspicious), float(offset))
    left: list[Item] = []
    while batch := batcher.take(ROOM, 3.0, at_once=True):
        for one in batch:
            checkpoint.resolve(NOTES, epoch, one.offset, (one,))
        left += [one for _, _, endings in checkpoint.advance() for one in endings]
    assert sorted(numbers(left)) == list(range(len(events)))
    for key in (b"a", b"b"):
        of_key = [one.offset for one in left if keys[one.offset] == key]
        assert of_key == sorted(of_key)


def test_a_flood_of_suspicious_events_takes_every_other_call_at_most():
    """Who must stand alone does not keep the others waiting, nor they him."""
    batcher = Batcher(2, BatchLimits())
    for number in range(4):
        batcher.add(item(number, suspicious=True), 0.0)
        batcher.add(item(10 + number), 0.0)
    calls = []
    while batch := batcher.take(ROOM, 0.0, at_once=True):
        calls.append(numbers(batch))
    assert calls == [[0], [10, 11], [1], [12, 13], [2], [3]]


def test_an_item_goes_when_its_deadline_leaves_time_for_one_call():
    """Company is waited for, but not beyond the moment at which a call would come too late."""
    pace = Pace(None)
    unix = 1_000_000.0
    batcher = Batcher(50, BatchLimits(max_wait_seconds=30), pace=pace, unix=lambda: unix)
    batcher.add(item(1, deadline_ms=int((unix + 20) * 1000)), 5.0)
    leaves_at = batcher.due_at(5.0)
    assert abs(leaves_at - (5.0 + 20 - pace.seconds(1))) < 0.01
    assert batcher.take(ROOM, 5.0, at_once=False) is None
    unix += 20 - pace.seconds(1) + 0.01
    assert numbers(batcher.take(ROOM, leaves_at + 0.01, at_once=False)) == [1]


def test_a_far_or_missed_deadline_makes_nobody_wait_longer():
    """A deadline only ever brings an item forward."""
    for deadline_ms in (1, 10**15):
        batcher = Batcher(50, BatchLimits(max_wait_seconds=1), unix=lambda: 1e9)
        batcher.add(item(1, deadline_ms=deadline_ms), 5.0)
        assert batcher.due_at(5.0) <= 6.0
        assert numbers(batcher.take(ROOM, 6.0, at_once=False)) == [1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=300), st.integers(1, 6), st.integers(1, 8))
def test_by_key_every_batch_has_the_oldest_and_each_key_stays_in_order(keys, places, tokens):
    """Lane by lane: nobody is lost or doubled, the first of the line always leaves, and no item overtakes one of its key."""
    line = Line(FAR, by_key=True)
    for number, key in enumerate(keys):
        line.add(item(number, key=b"%d" % key))
    left: list[Item] = []
    while len(line):
        oldest, before = line.oldest, len(line)
        batch = line.take(places, tokens, 0.0)
        assert oldest in batch
        assert len(batch) == min(places, tokens, before), "a batch is as full as without lanes"
        left += batch
    assert sorted(one.offset for one in left) == list(range(len(keys)))
    for key in set(keys):
        offsets = [one.offset for one in left if one.record.key == b"%d" % key]
        assert offsets == sorted(offsets)


def test_with_a_backlog_a_call_holds_few_keys():
    """A call that takes long holds back the keys of one lane, not every key that is often seen."""
    by_key, plain = Line(FAR, by_key=True), Line(FAR)
    for number in range(4_000):
        for line in (by_key, plain):
            line.add(item(number, key=b"%d" % (number % 80)))
    seen = [len({one.record.key for one in line.take(50, 10**6, 0.0)}) for line in (by_key, plain)]
    assert seen[0] < seen[1] == 50
