"""The retry budget, and a tier under it: a brown-out never becomes a storm, an hour's outage costs nobody anything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Label, ScriptedTier, make_task
from penstock import Item, Partition, Record, Responder
from penstock.engine.batcher import BatchLimits
from penstock.engine.cascade import Cascade
from penstock.engine.retry import RetryOptions
from penstock.errors import SettingsError
from penstock.flow.retries import WINDOW_SECONDS, RetryBudget
from penstock.outcome import Again, Answer, Outcome
from penstock.task import Step


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=300), st.sampled_from([0.1, 0.5]))
def test_in_no_minute_more_is_repeated_than_the_budget_allows(steps: list[tuple[float, bool]], share: float) -> None:
    """Whatever is called when: repetitions of a minute stay within the share of its calls, or the least that is always allowed."""
    budget, now = RetryBudget(share, 3), 0.0
    calls: list[float] = []
    retries: list[float] = []
    for pause, wants_retry in steps:
        now += pause
        if wants_retry and not budget.take(now):
            assert budget.due_at(now) > now
            continue
        if wants_retry:
            retries.append(now)
        calls.append(now)
        budget.note_call(now)
        recent = sum(now - at < WINDOW_SECONDS for at in retries)
        # Calls are counted by slots of 5 s: one slot may be counted a little too long or too short.
        assert recent <= max(3, 1 + share * sum(now - at < WINDOW_SECONDS + 5 for at in calls))


def test_a_used_up_budget_says_when_to_come_back() -> None:
    """Where nothing else is called, the oldest repetition's minute ends the wait."""
    budget = RetryBudget(0.1, 2)
    assert budget.take(10.0)
    assert budget.take(20.0)
    assert not budget.take(30.0)
    assert budget.due_at(30.0) == pytest.approx(70.0)
    assert budget.take(70.0)


def make_item(number: int) -> Item:
    record = Record("notes", 0, number, None, b"", (), 0)
    return Item(record, Partition("notes", 0), f"n{number}", None, "note", 10)


class Weather:
    """A tier of a virtual API: `fails(now)` says whether a call brings nothing."""

    def __init__(self, fails) -> None:
        self.now = 0.0
        self.fails = fails
        self.tier = ScriptedTier("cheap")
        self.cascade = Cascade(
            make_task(Step(self.tier), max_batch_items=10), [self.tier], BatchLimits(), RetryOptions(), lambda: self.now
        )
        self.calls: list[float] = []
        self.repeated = 0
        self.ended: list = []
        self._asked: set[int] = set()

    def work(self, until: float) -> None:
        """Ask whatever may be asked, one second a call, until then."""
        while self.now < until:
            ready = self.cascade.next_call()
            if ready is None:
                wake = self.cascade.wake_at()
                self.now = min(until, max(self.now + 0.01, wake if wake is not None else until))
                continue
            stage, items = ready
            self.calls.append(self.now)
            offsets = {item.offset for item in items}
            self.repeated += bool(offsets & self._asked)
            self._asked |= offsets
            brought: Outcome = Answer(Label(), "sure", Responder("cheap"))
            outcomes = [Again("overloaded", 1.0) if self.fails(self.now) else brought] * len(items)
            self.now += 1.0
            self.ended += self.cascade.settle(stage, items, outcomes, 1.0)


def test_an_hours_outage_costs_no_attempt_and_no_dead_letter() -> None:
    """Law 5: everything is answered after it, with the attempts of fair weather, and few calls were wasted on it."""
    weather = Weather(lambda now: now < 3_600.0)
    for number in range(50):
        weather.cascade.add(make_item(number))
    weather.work(3_600.0)
    assert not weather.ended
    assert all(item.attempts == 0 for item in weather.cascade.waiting())
    assert len(weather.calls) < 3_600 / 20
    weather.work(3_800.0)
    assert len(weather.ended) == 50
    assert all(isinstance(ending.outcome, Answer) and ending.item.attempts == 1 for ending in weather.ended)


def test_in_a_brown_out_fresh_events_go_on_and_repetitions_stay_few() -> None:
    """A third of the calls fails: at most a tenth of the calls repeats, the others go on, and in the end all are answered."""
    chance = random.Random(5)
    weather = Weather(lambda now: now < 1_000.0 and chance.random() < 0.33)
    for number in range(10_000):
        weather.cascade.add(make_item(number))
    weather.work(1_000.0)
    assert weather.repeated <= 0.1 * len(weather.calls) + 10 * 1_000 / WINDOW_SECONDS
    assert len(weather.ended) > 1_000
    weather.work(9_000.0)
    assert len(weather.ended) == 10_000
    assert all(isinstance(ending.outcome, Answer) for ending in weather.ended)


def test_what_waits_for_the_budget_is_not_forgotten() -> None:
    """Items that wait to be repeated count as waiting, leave with their partition, and are asked at once in a drain."""
    weather = Weather(lambda _: True)
    for number in range(300):
        weather.cascade.add(make_item(number))
    weather.work(200.0)
    assert len(weather.cascade) == len({item.offset for item in weather.cascade.waiting()}) == 300
    gone = weather.cascade.discard(lambda item: item.offset < 100)
    assert len(gone) == 100
    weather.fails = lambda _: False
    weather.cascade.is_draining = True
    weather.work(400.0)
    assert len(weather.ended) == 200


@pytest.mark.parametrize("name", ["budget_share", "budget_least_per_minute"])
def test_a_budget_of_nothing_is_refused_by_name(name: str) -> None:
    """It would keep for ever what failed once."""
    with pytest.raises(SettingsError, match=rf"retry\.{name}"):
        RetryOptions(**{name: 0})
