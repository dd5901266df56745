"""Laws of the pace: calls are kept to what a latency target allows, and a lost target does not make them dearer."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock import Item, Partition, Record
from penstock.engine.batcher import Batcher, BatchLimits
from penstock.engine.pace import Pace
from penstock.tier import Capacity


def taught(target: float | None, first: float, per_item: float, *, sizes=(5, 20, 50), jitter: float = 0.0) -> Pace:
    pace, dice = Pace(target), random.Random(3)
    for n in range(600):
        size = sizes[n % len(sizes)]
        pace.learn(size, (first + per_item * size) * dice.uniform(1 - jitter, 1 + jitter))
    return pace


def test_the_time_of_a_call_is_learned():
    """From calls of several sizes: what any call takes, and what each item adds."""
    pace = taught(None, 0.3, 0.08)
    for items in (1, 10, 50):
        assert abs(pace.seconds(items) - (0.3 + 0.08 * items)) < 0.45
    assert taught(None, 0.3, 0.08, jitter=0.5).seconds(20) > pace.seconds(20) + 0.5, "an unsteady API needs more room"


def test_calls_take_half_of_the_target():
    """A target of 4 s leaves 2 s for a call; without one, and with an ample one, the call is full."""
    items = taught(4.0, 0.3, 0.08).most_items(0.0, 50)
    assert 12 <= items <= 20
    assert taught(None, 0.3, 0.08).most_items(0.0, 50) == 50
    assert taught(60.0, 0.3, 0.08).most_items(0.0, 50) == 50


def test_what_is_late_anyway_is_not_asked_in_small_calls():
    """A backlog older than the target, or a target that no call can meet: the largest calls drain fastest and cost least."""
    pace = taught(4.0, 0.3, 0.08)
    assert pace.most_items(3.5, 50) == 50
    assert taught(0.1, 0.3, 0.08).most_items(0.0, 50) == 50


def test_company_is_waited_for_as_long_as_the_target_allows():
    """Lag and the call itself are taken off; with no target, or one that is lost, the setting holds."""
    pace = taught(10.0, 0.3, 0.08)
    assert 8.5 < pace.company_seconds(1, 0.0, 0.2) < 9.8
    assert 3.5 < pace.company_seconds(1, 5.0, 0.2) < 4.8
    assert pace.company_seconds(1, 60.0, 0.2) == 0.2
    assert taught(None, 0.3, 0.08).company_seconds(1, 0.0, 0.2) == 0.2


@given(
    st.floats(0.01, 1e4),
    st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1e4)), max_size=60),
    st.floats(-1e6, 1e9),
    st.integers(1, 200),
)
def test_whatever_calls_take_a_batch_has_at_least_one_item_and_no_more_than_allowed(target, calls, age, most):
    """No sequence of calls, however odd, makes a batch empty or a wait negative."""
    pace = Pace(target)
    for items, seconds in calls:
        pace.learn(items, seconds)
    assert 1 <= pace.most_items(age, most) <= most
    assert pace.company_seconds(most, max(0.0, age), 0.2) >= 0.0
    assert pace.seconds(most) >= 0.0


def test_idle_goes_at_once_a_trickle_gathers_and_a_backlog_fills_calls():
    """Cost against latency by itself: the same batcher at three loads, with a target of ten seconds."""
    unix = 1e9
    batcher = Batcher(50, BatchLimits(), pace=taught(10.0, 0.3, 0.02), unix=lambda: unix)

    def add(count: int) -> None:
        for n in range(count):
            record = Record("notes", 0, n, None, b"", (), int(unix * 1000))
            batcher.add(Item(record, Partition("notes", 0), str(n), None, "", 1), unix)

    room = Capacity(1_000)
    add(1)
    assert len(batcher.take(room, unix, at_once=True)) == 1
    add(3)
    unix += 5.0
    assert batcher.take(room, unix, at_once=False) is None
    add(4)
    unix += 4.9
    assert len(batcher.take(room, unix, at_once=False)) == 7
    add(120)
    assert [len(batcher.take(room, unix, at_once=False)) for _ in range(2)] == [50, 50]
    assert batcher.take(Capacity(12), unix, at_once=False) is not None
