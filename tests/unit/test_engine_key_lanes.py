"""Laws of the key lanes: a queue like any other, except that a lane can be asked for."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from penstock import Item, Partition, Record
from penstock.engine.key_lanes import LANES, KeyLanes

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "appendleft", "popleft", "take"]),
        st.integers(0, 6) | st.integers(0, 2_000),
        st.integers(1, 6),
    ),
    max_size=80,
)


def item(number: int, key: int) -> Item:
    return Item(Record("notes", 0, number, b"%d" % key, b"", (), 0), Partition("notes", 0), str(number), None, "", 1)


def lane_of(one: Item) -> int:
    return hash(one.record.key) % LANES


@given(STEPS)
def test_a_queue_like_any_other(steps):
    """Whatever comes and goes: order, first and count are a plain queue's. What is taken is the first with its lane, then who is first then."""
    lanes, plain = KeyLanes(), deque()
    for number, (step, key, most) in enumerate(steps):
        if step.startswith("append"):
            one = item(number, key)
            getattr(lanes, step)(one)
            getattr(plain, step)(one)
        elif step == "popleft" and plain:
            assert lanes.popleft() is plain.popleft()
        elif plain:
            expected: list[Item] = []
            while plain and len(expected) < most:
                lane = [one for one in plain if lane_of(one) == lane_of(plain[0])][: most - len(expected)]
                expected += lane
                plain = deque(one for one in plain if one not in lane)
            assert lanes.take(most, 10**6) == expected
        assert list(lanes) == list(plain)
        assert len(lanes) == len(plain)
        assert not plain or (lanes[0] is plain[0] and lanes[len(plain) // 2] in plain)


def test_what_does_not_fit_stays_where_it_is():
    """What leaves fits into a call by tokens, but the first always leaves; the rest is still next in its order."""
    lanes = KeyLanes(item(number, 7) for number in range(10))
    assert [one.offset for one in lanes.take(5, 3)] == [0, 1, 2]
    assert [one.offset for one in lanes.take(5, 0)] == [3]
    assert [one.offset for one in lanes] == list(range(4, 10))
