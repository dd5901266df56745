"""Laws of the checkpoint: what is committed, and what never is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.checkpoint import Checkpoint
from penstock.log.offset_map import OffsetMap
from penstock.record import Partition

P = Partition("t", 0)


@st.composite
def offsets_and_order(draw):
    """Ascending offsets with gaps, an order of resolving some of them, and where commits fall."""
    gaps = draw(st.lists(st.integers(1, 5), min_size=1, max_size=60))
    offsets, at = [], draw(st.integers(0, 5))
    for gap in gaps:
        offsets.append(at)
        at += gap
    order = draw(st.permutations(offsets))
    resolved = order[: draw(st.integers(0, len(order)))]
    commits = draw(st.sets(st.integers(0, len(resolved))))
    return offsets, resolved, commits


@given(offsets_and_order())
def test_an_unresolved_offset_is_never_passed_and_each_ending_leaves_once(case):
    """Laws 1 to 4: whatever the order and the gaps, map and watermark hold exactly what is resolved."""
    offsets, resolved, commits = case
    checkpoint: Checkpoint[int] = Checkpoint()
    epoch = checkpoint.begin(P, OffsetMap(offsets[0]))
    for offset in offsets:
        assert checkpoint.track(P, offset)
    left, done = [], OffsetMap(offsets[0])
    for number, offset in enumerate([*resolved, None]):
        if number in commits or offset is None:
            changed = checkpoint.advance()
            if changed:
                ((_, done, endings),) = changed
                left += endings
        if offset is not None:
            assert checkpoint.resolve(P, epoch, offset, [offset])
    assert left == list(resolved)
    assert all((offset in done) == (offset in set(resolved)) for offset in offsets)
    assert checkpoint.in_flight() == len(offsets) - len(resolved)
    missing = sorted(set(offsets) - set(resolved))
    assert done.base == (missing[0] if missing else offsets[-1] + 1)


@given(offsets_and_order(), st.lists(st.sampled_from([b"a", b"b", None]), min_size=60, max_size=60))
def test_endings_of_one_key_leave_in_the_order_of_their_offsets(case, keys):
    """With order by key no result overtakes an earlier one of its key, and nothing is held for ever."""
    offsets, resolved, _ = case
    key_of = dict(zip(offsets, keys, strict=False))
    checkpoint: Checkpoint[int] = Checkpoint(by_key=True)
    epoch = checkpoint.begin(P, OffsetMap(offsets[0]))
    for offset in offsets:
        checkpoint.track(P, offset, key_of[offset])
    left: list[int] = []
    for offset in resolved:
        checkpoint.resolve(P, epoch, offset, [offset])
        for _, _, endings in checkpoint.advance():
            left += endings
    for key in (b"a", b"b"):
        of_key = [offset for offset in offsets if key_of[offset] == key]
        assert [o for o in left if key_of[o] == key] == of_key[: len([o for o in left if key_of[o] == key])]
    assert checkpoint.held() == len(resolved) - len(left)
    for offset in set(offsets) - set(resolved):
        checkpoint.resolve(P, epoch, offset, [offset])
    for _, _, endings in checkpoint.advance():
        left += endings
    assert sorted(left) == offsets
    assert checkpoint.held() == 0


@given(
    offsets_and_order(),
    st.lists(st.sampled_from([b"a", b"b", b"c", None]), min_size=60, max_size=60),
    st.sets(st.integers(0, 300)),
    st.integers(1, 8),
)
def test_how_full_a_key_is_equals_a_recount(case, keys, dropped, count):
    """What is remembered of the fullest key never says anything else than counting all of them, whenever it is asked."""
    offsets, resolved, _ = case
    key_of = dict(zip(offsets, keys, strict=False))
    checkpoint: Checkpoint[int] = Checkpoint(by_key=True)
    epoch = checkpoint.begin(P, OffsetMap(offsets[0]))
    queues: dict[bytes, list[int]] = {}
    done: set[int] = set()

    def agrees():
        fullest = max(map(len, queues.values()), default=0)
        return all(
            checkpoint.has_key_of(P, many) == (fullest >= many) for many in (count, 1, fullest, fullest + 1) if many
        )

    for offset in offsets:
        checkpoint.track(P, offset, key_of[offset])
        if key_of[offset] is not None:
            queues.setdefault(key_of[offset], []).append(offset)
        assert agrees()
    gone = checkpoint.drop(P, dropped & set(offsets) - set(resolved))
    queues = {key: [offset for offset in queue if offset not in gone] for key, queue in queues.items()}
    assert agrees()
    for offset in resolved:
        checkpoint.resolve(P, epoch, offset, [offset])
        done.add(offset)
        for queue in queues.values():
            while queue and queue[0] in done:
                queue.pop(0)
        assert agrees()


def test_what_was_done_before_a_restart_is_not_wanted_again():
    """Offsets below the watermark or in the map are refused; those between are taken."""
    checkpoint: Checkpoint[int] = Checkpoint()
    checkpoint.begin(P, OffsetMap(10, 0b1010))
    assert [checkpoint.track(P, offset) for offset in (9, 10, 11, 12, 13, 14)] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_late_answer_for_a_lost_partition_changes_nothing():
    """An ending under an old ownership is refused, also after the partition came back."""
    checkpoint: Checkpoint[int] = Checkpoint()
    old = checkpoint.begin(P, OffsetMap(0))
    checkpoint.track(P, 0)
    checkpoint.track(P, 1)
    checkpoint.resolve(P, old, 0, [100])
    assert checkpoint.forget([P]) == [100]
    assert not checkpoint.resolve(P, old, 1, [101])
    new = checkpoint.begin(P, OffsetMap(0))
    checkpoint.track(P, 0)
    assert new != old
    assert not checkpoint.resolve(P, old, 0, [102])
    assert checkpoint.advance() == []


@given(st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=20), st.data())
def test_a_drain_never_drops_what_a_paid_answer_waits_for(keys, data):
    """Dropping unasked offsets leaves every asked one able to leave, and drops nothing but the unasked."""
    checkpoint: Checkpoint[int] = Checkpoint(by_key=True)
    epoch = checkpoint.begin(P, OffsetMap(0))
    for offset, key in enumerate(keys):
        checkpoint.track(P, offset, key)
    asked = data.draw(st.sets(st.integers(0, len(keys) - 1)))
    unasked = set(range(len(keys))) - asked
    gone = checkpoint.drop(P, unasked)
    assert gone <= unasked
    for offset in set(range(len(keys))) - gone:
        assert checkpoint.resolve(P, epoch, offset, [offset])
    left = [ending for _, _, endings in checkpoint.advance() for ending in endings]
    assert set(left) == set(range(len(keys))) - gone
    assert checkpoint.in_flight() == 0
    for key in set(keys):
        asked_of_key = [o for o in asked if keys[o] == key]
        assert all(o > max(asked_of_key, default=-1) for o in gone if keys[o] == key)


def test_what_vanished_below_a_restored_map_is_passed():
    """Law 4: offsets that were open at a restart and are gone since hold the watermark no longer than until reading passes them."""
    checkpoint: Checkpoint[str] = Checkpoint()
    checkpoint.begin(P, OffsetMap(10, 0b1_0000_0010))  # 11 and 18 are done
    assert [checkpoint.track(P, offset) for offset in (11, 14, 18)] == [False, True, False]
    checkpoint.resolve(P, 1, 14)
    assert checkpoint.advance() == [(P, OffsetMap(19), [])]
