"""Laws of the cascade: whatever tiers say, every item leaves once, with all it cost, after a bounded number of attempts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fakes import Label, ScriptedTier, make_task
from penstock import Again, Answer, Charge, Failure, Item, Partition, Record, Responder, Step
from penstock.engine.batcher import BatchLimits
from penstock.engine.cascade import Cascade, Ending, HandOver
from penstock.engine.retry import RetryOptions, backoff_seconds

REASONS = [
    "rate_limited", "overloaded", "unreachable", "spend_cap", "busy", "server_error", "timed_out", "missing",
    "invalid_output", "truncated", "refused", "rejected",
]  # fmt: skip
BY = Responder("tier")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome(kind: str, number: int, nanousd: int) -> Any:
    charge = Charge(f"call{number}", "m", nanousd, 1, 0, 0, 1) if nanousd else None
    if kind in ("sure", "likely", "unsure"):
        return Answer(Label(), kind, BY, charge)
    if kind == "failure":
        return Failure("refused", "no", charge)
    reason, _, split = kind.partition("/")
    return Again(reason, after_seconds=number % 3, split=bool(split), charge=charge)


KINDS = st.sampled_from(["sure", "likely", "unsure", "failure", *REASONS, "refused/split", "rejected/split"])


@given(
    st.lists(st.tuples(KINDS, st.integers(0, 9)), max_size=150),
    st.integers(1, 12),
    st.integers(1, 5),
    st.sampled_from(["sure", "likely", "unsure"]),
    st.integers(1, 4),
)
def test_every_item_leaves_once_with_all_it_cost(script, items, max_attempts, accept, batch):
    """Laws 7 and 9: any sequence of outcomes, then answers: one ending an item, no charge lost or counted twice."""
    tiers = [ScriptedTier("small"), ScriptedTier("large")]
    task = make_task(Step(tiers[0], accept=accept), tiers[1], max_attempts=max_attempts, max_batch_items=batch)
    clock = Clock()
    cascade = Cascade(task, tiers, BatchLimits(max_wait_seconds=0.1), RetryOptions(first_seconds=0.1), clock)
    for number in range(items):
        record = Record("notes", 0, number, None, b"", (), 0)
        cascade.add(Item(record, Partition("notes", 0), str(number), None, "{}", 1))
    moves, billed = iter(script), 0
    endings: list[Ending] = []
    for call in range(2_000):
        ready = cascade.next_call()
        if ready is None:
            wake = cascade.wake_at()
            if wake is None:
                break
            clock.now = max(clock.now + 0.001, wake)
            continue
        stage, asked = ready
        outcomes = [outcome(*(next(moves, ("sure", 1))[:1]), call, 1) for _ in asked]
        billed += len(asked)
        endings += cascade.settle(stage, asked, outcomes, 0.01)
    left = Counter(ending.item.record.offset for ending in endings)
    assert left == Counter(range(items))
    assert sum(c.nanousd for ending in endings for c in ending.item.charges) == billed
    assert all(ending.item.attempts <= max_attempts + 1 for ending in endings)
    assert not list(cascade.waiting())


@given(st.integers(1, 10_000), st.floats(0, 1e6))
def test_a_backoff_is_never_shorter_than_asked_for_and_never_endless(tries, asked):
    """What the API asks for is waited; our own guess is bounded."""
    options = RetryOptions(first_seconds=0.5, most_seconds=30)
    seconds = backoff_seconds(options, tries, asked)
    assert seconds >= asked
    assert seconds <= max(asked * 1.1, options.most_seconds * 1.5) + 1e-9


def make_cascade(*, max_call_seconds: float = 120.0) -> tuple[Cascade, Item, Clock]:
    tier = ScriptedTier()
    task = make_task(tier, max_attempts=10, max_call_seconds=max_call_seconds)
    clock = Clock()
    cascade = Cascade(task, [tier], BatchLimits(), RetryOptions(hand_over_after_seconds=60), clock)
    item = Item(Record("notes", 0, 1, None, b"", (), 0), Partition("notes", 0), "1", None, "{}", 1)
    cascade.add(item)
    return cascade, item, clock


def test_only_time_inside_calls_counts_against_an_item():
    """Law 5: hours of weather use up nothing; two long calls of its own end it as timed out."""
    cascade, item, clock = make_cascade(max_call_seconds=100)
    for _ in range(50):
        while (ready := cascade.next_call()) is None:
            clock.now = cascade.wake_at() or 0.0
        assert cascade.settle(*ready, [Again("overloaded", after_seconds=600)], 60.0) == []
    assert (item.attempts, item.calls_seconds) == (0, 0.0)
    assert clock.now > 49 * 600
    for seconds in (60.0, 60.0):
        while (ready := cascade.next_call()) is None:
            clock.now = cascade.wake_at() or 0.0
        endings = cascade.settle(*ready, [Again("timed_out", counts=True)], seconds)
    ((_, failure),) = endings
    assert isinstance(failure, Failure)
    assert failure.reason == "timed_out"


def test_weather_on_one_call_holds_the_tier_not_the_item():
    """After a 429 nothing is asked before the time it names; then the item is asked again, with the others."""
    cascade, item, clock = make_cascade()
    stage, asked = cascade.next_call()
    cascade.settle(stage, asked, [Again("rate_limited", after_seconds=30)], 0.1)
    assert cascade.next_call() is None
    clock.now = 29.9
    assert cascade.next_call() is None
    clock.now = 34.0
    assert cascade.next_call() == (stage, [item])


def test_a_drain_asks_what_would_have_waited():
    """On the way out nothing is handed over that could still be answered here."""
    cascade, item, _ = make_cascade()
    cascade.is_draining = True
    stage, asked = cascade.next_call()
    assert cascade.settle(stage, asked, [Again("server_error", after_seconds=500, counts=True)], 0.1) == []
    assert cascade.next_call() == (stage, [item])


def test_a_long_wait_of_an_item_is_handed_over():
    """An item that must wait longer than the limit frees its place and tells when it may be asked."""
    cascade, _, _ = make_cascade()
    ((_, over),) = cascade.settle(*cascade.next_call(), [Again("server_error", after_seconds=500, counts=True)], 0.1)
    assert isinstance(over, HandOver)
