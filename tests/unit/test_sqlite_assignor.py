"""Who should own which partition, and who is dead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.log.sqlite.assignor import shares
from penstock.log.sqlite.liveness import Liveness

names = st.sampled_from(["a", "b", "c", "d", "e"])
topics = st.sampled_from(["t", "u", "v"])


@st.composite
def groups(draw):
    counts = draw(st.dictionaries(topics, st.integers(min_value=1, max_value=13), min_size=1))
    rows = iter(range(1, 100))
    partitions = {topic: [next(rows) for _ in range(count)] for topic, count in counts.items()}
    members = draw(st.dictionaries(names, st.frozensets(st.sampled_from(sorted(counts)), min_size=1), min_size=1))
    every_row = [row for topic in partitions.values() for row in topic]
    owners = {row: draw(st.none() | names) for row in every_row}
    return partitions, members, owners


@given(groups())
def test_everything_is_shared_evenly(group) -> None:
    """Every partition that somebody reads has one owner, a reader of its topic; counts in a topic differ by one at most."""
    partitions, members, owners = group
    wanted = shares(partitions, members, owners)
    for topic, rows in partitions.items():
        readers = [member for member, read in members.items() if topic in read]
        counts = [len(wanted[reader] & set(rows)) for reader in readers]
        assert sum(counts) == (len(rows) if readers else 0)
        assert not counts or max(counts) - min(counts) <= 1
    handed_out = [row for rows in wanted.values() for row in rows]
    assert len(handed_out) == len(set(handed_out))
    for member, rows in wanted.items():
        assert all(row in partitions[topic] for row in rows for topic in partitions if row in partitions[topic])
        assert all(any(row in partitions[topic] for topic in members[member]) for row in rows)


@given(groups())
def test_only_the_surplus_moves(group) -> None:
    """A member keeps what it owns as far as its share allows: nothing moves between two that are not above it."""
    partitions, members, owners = group
    wanted = shares(partitions, members, owners)
    for topic, rows in partitions.items():
        for member in (m for m, read in members.items() if topic in read):
            owned = {row for row in rows if owners[row] == member}
            mine = wanted[member] & set(rows)
            assert owned <= mine or mine <= owned


@given(groups(), st.randoms(use_true_random=False))
def test_it_settles_whatever_the_order(group, random) -> None:
    """Members act on their shares one after another in any order, partition by partition; it ends, and each moved once at most."""
    partitions, members, owners = group
    owners = {row: owner if owner in members else None for row, owner in owners.items()}
    given_back: list[int] = []
    for _ in range(200):
        moves = []
        for member in members:
            mine = shares(partitions, members, owners)[member]
            read = {row for topic in members[member] for row in partitions.get(topic, ())}
            moves += [
                (row, None) for row, owner in owners.items() if owner == member and row not in mine and row in read
            ]
            moves += [(row, member) for row in mine if owners[row] is None]
        if not moves:
            break
        row, owner = random.choice(sorted(moves, key=str))
        if owner is None:
            given_back.append(row)
        owners[row] = owner
    else:
        raise AssertionError("never settled")
    assert len(given_back) == len(set(given_back))


def test_the_larger_share_of_topics_alternates() -> None:
    """Two topics of one partition and two members: each gets one, not both the same."""
    wanted = shares({"t": [1], "u": [2]}, {"a": frozenset("tu"), "b": frozenset("tu")}, {})
    assert sorted(map(len, wanted.values())) == [1, 1]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_member_is_dead_after_the_session() -> None:
    """A counter that stands still through the session time-out is dead; one that moves never is."""
    clock = Clock()
    liveness = Liveness(5.0, 0.5, clock)
    dead_at = None
    for look in range(20):
        clock.now += 0.5
        dead = liveness.dead({"silent": 3, "living": look})
        if dead and dead_at is None:
            dead_at = clock.now
        assert dead in ([], ["silent"])
    assert dead_at is not None
    assert 5.0 <= dead_at <= 6.0


def test_a_pause_of_the_observer_kills_nobody() -> None:
    """An observer that was stopped for an hour has not watched for an hour."""
    clock = Clock()
    liveness = Liveness(5.0, 0.5, clock)
    liveness.dead({"neighbour": 1})
    clock.now += 3600
    assert liveness.dead({"neighbour": 1}) == []
    clock.now += 0.5
    assert liveness.dead({"neighbour": 2}) == []


def test_a_new_member_starts_afresh() -> None:
    """Silence is counted from the first look at a member, not from ours."""
    clock = Clock()
    liveness = Liveness(5.0, 0.5, clock)
    for _ in range(30):
        clock.now += 0.5
        assert liveness.dead({}) == []
    clock.now += 0.5
    assert liveness.dead({"new": 1}) == []
