"""The plan of a backlog: what it counts, what it costs, how long it takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from penstock import NewRecord, Task
from penstock.flow.plan import Backlog, StepCost, measure, plan
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog


class Text(BaseModel):
    text: str


def _task(**changes):
    return Task("counter", reads="events", input=Text, output=Text, instructions="Read it.", **changes)


def _step(name="haiku", *, usd_per_token=1e-6, per_minute=1e12, **changes):
    grants = {
        "requests_per_minute": per_minute,
        "input_tokens_per_minute": per_minute,
        "output_tokens_per_minute": per_minute,
        "prompt_tokens": 0,
        "reply_tokens_per_event": 0.0,
    }
    price = lambda fresh, cached, output: (fresh + cached / 10 + output * 5) * usd_per_token  # noqa: E731
    return StepCost(name, price, **{**grants, **changes})


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "plan.db")
    await log.create_topics([TopicSpec("events", 4)])
    yield log
    await log.close()


async def _produce(log, count, *, timestamp_ms=None):
    await log.append([NewRecord("events", b"%d" % n, b'{"text":"x"}', (), timestamp_ms) for n in range(count)])


@pytest.mark.parametrize(("start_from", "events"), [("earliest", 40), ("latest", 0)])
async def test_group_without_offsets_has_before_it_what_start_from_says(log, start_from, events):
    """`latest` leaves the past alone, `earliest` has all of it before it."""
    await _produce(log, 40)
    backlog = await measure(log, _task(start_from=start_from), lambda _: 7)
    assert backlog.events == events


async def test_moment_counts_what_came_after_it(log):
    """A datetime divides the backlog by the records' own times."""
    await _produce(log, 30, timestamp_ms=1_000_000)
    await _produce(log, 12, timestamp_ms=9_000_000)
    task = _task(start_from=datetime.fromtimestamp(5_000, tz=UTC))
    assert (await measure(log, task, lambda _: 7)).events == 12


async def test_sample_is_small_and_from_all_over_the_backlog(log):
    """The mean comes from a bounded sample in which every partition has its part."""
    await _produce(log, 2_000)
    seen = set()

    def tokens_of(record):
        seen.add(record.partition)
        return 10

    backlog = await measure(log, _task(start_from="earliest"), tokens_of, sample=40)
    assert backlog.mean_tokens == 10
    assert 40 <= backlog.sampled <= 80
    assert seen == {0, 1, 2, 3}


def test_money_is_events_prompt_and_reply_at_the_prices():
    """Uncached prompts are paid in full with every call, cached ones at the cache's price."""
    backlog = Backlog(1_000, 100, 20.0)
    step = _step(prompt_tokens=500, reply_tokens_per_event=3.0, is_cached=False)
    found = plan(backlog, [step], items_per_call=50, tokens_beside_event=5.0)
    assert found.steps[0].calls == 20
    assert found.usd_low == pytest.approx((1_000 * 25 + 20 * 500 + 1_000 * 3 * 5) * 1e-6)
    cached = plan(
        backlog, [_step(prompt_tokens=500, reply_tokens_per_event=3.0)], items_per_call=50, tokens_beside_event=5.0
    )
    assert cached.usd_low == pytest.approx((1_000 * 25 + 20 * 50 + 1_000 * 3 * 5) * 1e-6)


def test_dearest_case_asks_every_tier():
    """The range goes from the first tier alone to all of them in turn."""
    found = plan(Backlog(100, 10, 10.0), [_step(), _step("opus", usd_per_token=5e-6)], items_per_call=10)
    assert found.usd_high == pytest.approx(found.usd_low * 6)


@pytest.mark.parametrize("bound", ["requests", "input_tokens", "output_tokens"])
def test_scarcest_limit_decides_the_time(bound):
    """The time is that of the limit that binds, and the plan names it."""
    step = _step(reply_tokens_per_event=10.0, **{f"{bound}_per_minute": 10.0})
    found = plan(Backlog(100, 10, 10.0), [step], items_per_call=10, tokens_beside_event=0.0)
    needed = {"requests": 10, "input_tokens": 1_000, "output_tokens": 1_000}[bound]
    assert found.steps[0].bound_by == bound
    assert found.seconds_low == pytest.approx(needed / 10 * 60)


def test_no_backlog_costs_nothing():
    """Nothing before a group is no call and no cent."""
    found = plan(Backlog(0), [_step(prompt_tokens=500)], items_per_call=50)
    assert (found.usd_high, found.seconds_high) == (0.0, 0.0)
