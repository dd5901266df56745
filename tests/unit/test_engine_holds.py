"""A partition that is not read on is told once: which, what holds it, since when, and when it goes on."""

from __future__ import annotations

import pytest

from penstock.engine.checkpoint import Checkpoint
from penstock.engine.holds import Holds
from penstock.log.offset_map import OffsetMap
from penstock.record import Partition, Record
from penstock.tier import Item

P = Partition("events", 3)
START_MS = 1_750_000_000_000


@pytest.fixture
def told(caplog):
    caplog.set_level("INFO", "penstock.engine")
    return lambda: caplog.messages


class Clock:
    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def slow_item(offset: int) -> Item:
    item = Item(Record(P.topic, P.number, offset, b"k", b"v", (), 0), P, "e", None, "", 1)
    item.taken_ms = START_MS - 90_000
    return item


def held_by(*offsets: int) -> Checkpoint:
    checkpoint: Checkpoint = Checkpoint()
    checkpoint.begin(P, OffsetMap(70))
    for offset in range(70, 100):
        checkpoint.track(P, offset)
        if offset not in offsets:
            checkpoint.resolve(P, 1, offset)
    checkpoint.advance()
    return checkpoint


def test_a_hold_is_told_once_with_its_cause_and_its_end(told):
    """However often reading goes on for a moment, one line names partition, offset, since when and why; one its end."""
    clock, checkpoint, items = Clock(), held_by(77), [slow_item(77)]
    holds = Holds("labeler", checkpoint, clock)
    for paused in ({P: "offset_map"}, {P: "offset_map"}, {}, {P: "offset_map"}, {}):
        holds.look(paused, lambda: items)
        clock.now_ms += 1_000
    (line,) = told()
    for part in (
        "labeler reads events/3 no further",
        "offset 77",
        "2025-06-15T15:05:10+00:00",
        "90 s ago",
        "no more room",
    ):
        assert part in line
    checkpoint.resolve(P, 1, 77)
    holds.look({}, list)
    assert told()[1:] == ["labeler: offset 77 of events/3 holds it no more"]


def test_the_next_one_that_holds_is_told_too(told):
    """Several slow items: each is told when it is the one that the partition waits for."""
    clock, checkpoint = Clock(), held_by(77, 80)
    holds, items = Holds("labeler", checkpoint, clock), [slow_item(77), slow_item(80)]
    holds.look({P: "offset_map"}, lambda: items)
    checkpoint.resolve(P, 1, 77)
    clock.now_ms += 1_000
    holds.look({P: "offset_map"}, lambda: items)
    first, end, second = told()
    assert "no further: its offset 77" in first
    assert "offset 77 of events/3 holds it no more" in end
    assert "no further: its offset 80" in second


def test_a_moment_is_not_worth_a_line(told):
    """Items that were read just now may hold a partition for a moment at full speed."""
    item = slow_item(77)
    item.taken_ms = START_MS - 1_000
    Holds("labeler", held_by(77), Clock()).look({P: "offset_map"}, lambda: [item])
    assert told() == []
