"""The plan: what it costs, how fast it goes, what binds. Its figures against a real run: tests/scenarios/test_plan_kept.py."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from penstock import NewRecord, Task
from penstock.flow.backlog import SPOTS, measure
from penstock.flow.limits import LimitOptions
from penstock.flow.plan import Cap, plan
from penstock.flow.ramp import RampOptions
from penstock.flow.steady import Crew, Demand, StepCost, flow
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog

WIDE = 10**9
AT_ONCE = RampOptions(start_share=1.0)


class Text(BaseModel):
    text: str


def _task(**changes):
    return Task("counter", reads="events", input=Text, output=Text, instructions="Read it.", **changes)


def _limits(**changes):
    wide = {"requests_per_minute": WIDE, "input_tokens_per_minute": WIDE, "output_tokens_per_minute": WIDE}
    return LimitOptions(**{**wide, **changes})


def _step(name="haiku", *, answers=1.0, usd_per_token=1e-6, **changes):
    def usd(tokens):
        return (tokens.fresh + tokens.written * 1.25 + tokens.read / 10 + tokens.output * 5) * usd_per_token

    given = {"family": name, "item_tokens": 10.0, "most_items": 10.0, "limits": _limits(), "usd": usd}
    return StepCost(name, answers, **{"call_seconds": lambda _: 1.0, "cache_seconds": 0.0, **given, **changes})


def _crew(**changes):
    return Crew(**{"workers": 1_000, "partitions": 1_000, "ramp": AT_ONCE, **changes})


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "plan.db")
    await log.create_topics([TopicSpec("events", 4)])
    yield log
    await log.close()


async def _produce(log, count, *, timestamp_ms=None):
    await log.append([NewRecord("events", b"%d" % n, b'{"text":"x"}', (), timestamp_ms) for n in range(count)])


# --- the backlog


@pytest.mark.parametrize(("start_from", "events"), [("earliest", 40), ("latest", 0)])
async def test_group_without_offsets_has_before_it_what_start_from_says(log, start_from, events):
    """`latest` leaves the past alone, `earliest` has all of it before it."""
    await _produce(log, 40)
    backlog = await measure(log, _task(start_from=start_from))
    assert (backlog.events, bool(backlog.sample), backlog.partitions) == (events, events > 0, 4)


async def test_moment_counts_what_came_after_it(log):
    """A datetime divides the backlog by the records' own times."""
    await _produce(log, 30, timestamp_ms=1_000_000)
    await _produce(log, 12, timestamp_ms=9_000_000)
    task = _task(start_from=datetime.fromtimestamp(5_000, tz=UTC))
    assert (await measure(log, task)).events == 12


async def test_where_nothing_waits_the_past_may_be_looked_at(log):
    """A team that is up to date plans from what the topic keeps; nothing of it counts as waiting."""
    await _produce(log, 40)
    backlog = await measure(log, _task(start_from="latest"), takes_past=True)
    assert (backlog.events, backlog.is_past, len(backlog.sample)) == (0, True, 40)


async def test_another_topic_is_counted_whole(log):
    """A topic that the task does not read has no group: everything it keeps is before it."""
    await log.create_topics([TopicSpec("others", 2)])
    await log.append([NewRecord("others", None, b'{"text":"x"}') for _ in range(9)])
    assert (await measure(log, _task(start_from="latest"), topic="others")).events == 9


async def test_sample_is_small_and_from_all_over_the_backlog(log):
    """It is bounded, and every partition has its part in it."""
    await _produce(log, 2_000)
    backlog = await measure(log, _task(start_from="earliest"), sample=40)
    assert 40 <= len(backlog.sample) <= 40 + 4 * SPOTS
    assert {record.partition for record in backlog.sample} == {0, 1, 2, 3}


# --- money


def test_money_is_events_prompt_and_reply_at_the_prices():
    """Uncached prompts are paid in full with every call; cached ones at the cache's price, and written once."""
    demand = Demand(1_000)
    step = {"item_tokens": 25.0, "prompt_tokens": 500.0, "reply_tokens": 3.0, "most_items": 50.0}
    whole = plan(demand, [_step(**step)], _crew())
    assert whole.expected.usd == pytest.approx((1_000 * 25 + 20 * 500 + 1_000 * 3 * 5) * 1e-6)
    cached = plan(demand, [_step(cache_seconds=300.0, **step)], _crew())
    written_once = 500 * 1.25 - 50
    assert cached.expected.usd == pytest.approx((1_000 * 25 + 20 * 50 + 1_000 * 3 * 5 + written_once) * 1e-6)


def test_events_asked_alone_pay_for_their_own_calls():
    """What addresses the model shares no prompt: ten such events of a hundred are ten calls more."""
    step = _step(prompt_tokens=1_000.0, item_tokens=0.0)
    none, some = (plan(Demand(100, alone=alone), [step], _crew()).expected for alone in (0.0, 0.1))
    assert none.usd == pytest.approx(10 * 1_000e-6)
    assert some.usd == pytest.approx((9 + 10) * 1_000e-6)
    assert some.flow.steps[0].calls_per_event == pytest.approx(0.19)


def test_few_events_come_seldom_enough_to_find_the_prompt_gone():
    """At one call in hours each writes the prompt into the cache again; at many a minute none does."""
    step = _step(prompt_tokens=1_000.0, item_tokens=0.0, cache_seconds=300.0)
    usd = [
        plan(Demand(0, arrival_per_second=rate), [step], _crew()).steady.usd_per_event for rate in (1 / 1_000_000, 0.5)
    ]
    assert usd == [pytest.approx(1_250e-6, rel=0.01), pytest.approx(100e-6)]


def test_three_cases_go_from_the_first_model_alone_to_all_of_them():
    """Best: the first answers all. Worst: every event goes through every model. Expected stands between."""
    found = plan(Demand(1_000), [_step(answers=0.5), _step("opus", usd_per_token=5e-6)], _crew())
    assert found.worst.usd == pytest.approx(found.best.usd * 6)
    assert found.best.usd < found.expected.usd < found.worst.usd
    assert [step.asked for step in found.expected.flow.steps] == [1.0, 0.5]
    assert [step.answered for step in found.expected.flow.steps] == [0.5, 0.5]


def test_own_rules_cost_nothing_and_spare_the_models_what_they_answer():
    """A step without a family is free; what it ends is asked of nobody else, in every case."""
    found = plan(Demand(1_000), [StepCost("rules", 0.8, most_items=10.0), _step()], _crew())
    assert found.expected.usd == pytest.approx(found.best.usd) == pytest.approx(200 * 10e-6)


# --- time and what binds


@pytest.mark.parametrize(
    ("kind", "per_event"), [("requests", 0.1), ("input_tokens", 10.0 + 3.0), ("output_tokens", 7.0)]
)
def test_scarcest_limit_decides_the_time(kind, per_event):
    """The pace is what the limit bears, and the plan names limit and family."""
    limits = _limits(**{f"{kind}_per_minute": 600})
    found = plan(Demand(1_000), [_step(limits=limits, prompt_tokens=30.0, reply_tokens=7.0)], _crew())
    flow = found.expected.flow
    assert (flow.bound.what, flow.bound.family) == (kind, "haiku")
    assert flow.events_per_second == pytest.approx(10 / per_event)
    assert flow.steps[0].used[kind] == pytest.approx(1.0)
    assert found.expected.seconds == pytest.approx(1_000 * per_event / 10 + 1.0)  # and the last call


def test_steps_of_one_family_share_its_limits():
    """Two models in one pool are together what the pool bears."""
    limits = _limits(input_tokens_per_minute=600)
    both = [_step(answers=0.0, family="opus-4", limits=limits), _step("b", family="opus-4", limits=limits)]
    apart = [_step(answers=0.0, limits=limits), _step("b", limits=limits)]
    rates = [plan(Demand(1_000), steps, _crew()).expected.flow.events_per_second for steps in (both, apart)]
    assert rates == [pytest.approx(0.5), pytest.approx(1.0)]


def test_calls_in_flight_bound_the_workers_and_more_workers_help():
    """Where calls are long and few may be in flight, workers bind; as many are useful as reach the account's limit."""
    step = _step(limits=_limits(input_tokens_per_minute=60_000), call_seconds=lambda _: 5.0)  # 100 events/s
    crew = _crew(workers=2, partitions=64, max_calls=10)  # 10 calls x 10 events / 5 s = 20 events/s each
    found = plan(Demand(1_000), [step], crew)
    assert found.expected.flow.bound.what == "calls"
    assert found.expected.flow.events_per_second == pytest.approx(40)
    assert found.useful_workers == 5
    more = plan(Demand(1_000), [step], _crew(workers=50, partitions=64, max_calls=10))
    assert more.expected.flow.bound.what == "input_tokens"


def test_workers_without_partitions_are_no_use():
    """A worker needs a partition, whatever the account would bear."""
    found = plan(Demand(1_000), [_step()], _crew(workers=9, partitions=3, max_calls=1))
    assert found.useful_workers == 3
    assert found.expected.flow.events_per_second == pytest.approx(3 * 10 / 1.0)


def test_slow_start_takes_its_time():
    """Use doubles from an eighth: three doublings, in which a good half of the time is lost."""
    step = _step(limits=_limits(input_tokens_per_minute=6_000), call_seconds=lambda _: 0.0)
    slow, quick = (
        plan(Demand(1_000), [step], _crew(ramp=ramp)).expected.seconds
        for ramp in (RampOptions(start_share=0.125, doubling_seconds=4.0), AT_ONCE)
    )
    assert slow - quick == pytest.approx(12 - 0.875 * 4 / math.log(2), rel=1e-3)


def test_what_an_account_has_saved_up_shortens_the_drain():
    """Half of a full minute comes on top of the limit; what the workers can't take or the backlog does not need does not count."""
    step = _step(limits=_limits(input_tokens_per_minute=6_000))  # 10 events/s
    idle, busy = (plan(Demand(6_000), [step], _crew(holds_seconds=holds)).expected.seconds for holds in (60.0, 0.0))
    assert busy - idle == pytest.approx(33, rel=0.05)
    few = plan(Demand(600), [step], _crew(holds_seconds=60.0)).expected.seconds
    assert 600 / 65 < few < 60 - 25
    slow_workers = _crew(workers=1, max_calls=1, holds_seconds=60.0)
    same = [
        plan(Demand(600), [_step(call_seconds=lambda _: 2.0)], crew).expected.seconds
        for crew in (slow_workers, replace(slow_workers, holds_seconds=0.0))
    ]
    assert same[0] == pytest.approx(same[1])


def test_what_comes_meanwhile_is_answered_too():
    """A backlog falls at the difference of both rates, and never where more comes in."""
    step = _step(limits=_limits(input_tokens_per_minute=6_000), call_seconds=lambda _: 0.0)  # 10 events/s
    seconds = [
        plan(Demand(1_000, arrival_per_second=rate), [step], _crew()).expected.seconds for rate in (0, 5, 10, 20)
    ]
    assert seconds == [pytest.approx(100), pytest.approx(200), math.inf, math.inf]


def test_batches_are_as_small_as_events_come():
    """One event a minute goes alone; what comes within the wait for company goes together; a backlog fills calls."""
    step = _step(most_items=50.0)
    steady = [
        flow(Demand(0, wait_seconds=0.2), [step], _crew(workers=1), at_most=rate).steps[0].items_per_call
        for rate in (1 / 60, 100.0, 10_000.0)
    ]
    assert steady == [1.0, pytest.approx(21.0), 50.0]
    assert plan(Demand(1_000), [step], _crew()).expected.flow.steps[0].items_per_call == 50.0


# --- budgets


def test_a_budget_that_ends_first_is_named():
    """A ceiling of the run pays so many events and no more; one that comes again waits for its next period."""
    step = _step(usd_per_token=1e-3)  # a cent an event
    run = plan(Demand(1_000), [step], _crew(), [Cap("spend.ceiling_usd", 4.0), Cap("far", 100.0)]).expected
    assert (run.cap.name, run.paid_events, run.seconds) == ("spend.ceiling_usd", 400, math.inf)
    monthly = plan(Demand(1_000), [step], _crew(), [Cap("class", 4.0, 86_400.0)]).expected
    assert monthly.seconds == pytest.approx(2 * 86_400)
    assert plan(Demand(1_000), [step], _crew(), [Cap("far", 100.0)]).expected.cap is None


# --- always


steps_of_any_kind = st.lists(
    st.builds(
        _step,
        st.sampled_from(["haiku", "sonnet", "opus"]),
        answers=st.floats(0, 1),
        item_tokens=st.floats(1, 5_000),
        prompt_tokens=st.floats(0, 50_000),
        reply_tokens=st.floats(1, 500),
        most_items=st.floats(1, 100),
        cache_seconds=st.sampled_from([0.0, 300.0]),
        limits=st.builds(
            LimitOptions,
            requests_per_minute=st.integers(1, 10_000),
            input_tokens_per_minute=st.integers(1_000, 10_000_000),
            output_tokens_per_minute=st.integers(1_000, 10_000_000),
        ),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda step: step.name,
)


@settings(max_examples=50)
@given(
    steps_of_any_kind,
    st.builds(Demand, st.integers(0, 10**7), alone=st.floats(0, 1), arrival_per_second=st.floats(0, 1_000)),
    st.builds(Crew, st.integers(1, 100), st.integers(1, 100), max_calls=st.integers(1, 500)),
)
def test_no_plan_breaks_a_limit(steps, demand, crew):
    """Whatever is planned: tokens stay inside the limits, calls inside what workers bear, and every event has an end."""
    found = plan(demand, steps, crew)
    for case in (found.expected, found.best, found.worst):
        flow = case.flow
        assert flow.events_per_second > 0
        assert flow.events_per_second <= flow.account_per_second * (1 + 1e-9)
        assert flow.events_per_second <= flow.worker_per_second * crew.busy * (1 + 1e-9)
        for step in flow.steps:
            assert 1.0 <= step.items_per_call <= 100.0
            assert step.used["output_tokens"] <= 1 + 1e-6
        assert sum(step.answered for step in flow.steps) == pytest.approx(1.0)
    assert 1 <= found.useful_workers <= crew.partitions


def test_where_nothing_waits_speed_and_price_are_those_of_full_calls():
    """A plan of nothing is asked for to know the price and the pace: not those of calls with one event each."""
    steps = [_step(prompt_tokens=500.0)]
    nothing, much = plan(Demand(0), steps, _crew()).expected.flow, plan(Demand(1_000_000), steps, _crew()).expected.flow
    assert nothing == much


def test_no_backlog_costs_nothing():
    """Nothing before a group is no call and no cent."""
    found = plan(Demand(0), [_step(prompt_tokens=500.0)], _crew())
    assert (found.worst.usd, found.worst.seconds) == (0.0, 0.0)
