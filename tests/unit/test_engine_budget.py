"""At the ceiling: whole workers (pipeline, Claude tier over HTTP, log, tail) wait, take the cheaper answer, bury, or stop."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from fakes import make_task, note, until
from penstock import Partition, Route, Step
from penstock.claude.models import Models, Tokens
from penstock.claude.tier import ClaudeTier
from penstock.cli.failures import BUDGET_SPENT, settle
from penstock.deadletters.letter import read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.guard import GuardOptions
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.errors import BudgetSpent
from penstock.flow.ceilings import Ceilings, SpendOptions
from penstock.flow.gate import Gate
from penstock.flow.limits import LimitOptions
from penstock.flow.spend import Spend
from penstock.flow.tail import SpendTail, read_claims
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from scripted_claude import asked_events, entries, error, message, scripted

MODELS = Models.load()
HAIKU, SONNET = MODELS.resolve("haiku").id, MODELS.resolve("sonnet").id
HOUR_BEGINS = 1_790_002_800.0
QUICK = PipelineOptions(
    commit_interval_seconds=0.01,
    drain_seconds=5.0,
    batch=BatchLimits(max_wait_seconds=0.01),
    retry=RetryOptions(first_seconds=0.01, most_seconds=0.05),
)


def answering(confidence="s", output_tokens=100):
    """Every event is answered, with this confidence."""

    def script(body):
        found = entries(*[{"i": key, "c": confidence, "l": "g"} for key, _ in asked_events(body)])
        return message(found, output_tokens=output_tokens * len(asked_events(body)))

    return script


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    await log.create_topics(
        [TopicSpec(name, 2) for name in ("notes", "labeler-results", "labeler-dlq", "labeler.retry")]
        + [TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)]
    )
    yield log
    await log.close()


class AtWork:
    """One worker: what it is made of."""

    def __init__(self, log, client, spend: SpendOptions, route: Route, unix, run: str, options=QUICK) -> None:
        self.spend = Spend(spend, time.monotonic, unix, run=run)
        self.gate = Gate(LimitOptions(10**6, 10**9, 10**8), self.spend)
        most = 20 if options.guard.share else 5
        task = make_task(Step("x"), route=route, max_batch_items=most)
        tiers = [ClaudeTier(step.name, MODELS.resolve(step.name), client, self.gate) for step in route.steps]
        self.pipeline = Pipeline(task, tiers, log, options, spend=self.spend)
        self.counts = self.pipeline.counts

    @property
    def causes(self) -> list[str]:
        return [stage.cause for stage in self.pipeline.reading().stages]


@asynccontextmanager
async def worker(
    log, client, spend, *, route=None, unix=lambda: HOUR_BEGINS + time.monotonic() % 60, run="r1", options=QUICK
):
    """At work until the context ends; then it stops in order."""
    made = AtWork(log, client, spend, route or Route("haiku"), unix, run, options)
    stop = asyncio.Event()
    async with SpendTail(log, made.spend, 0.02):
        work = asyncio.create_task(made.pipeline.run(stop))
        try:
            async with asyncio.timeout(30):
                yield made, work
        finally:
            stop.set()
            await asyncio.gather(work, return_exceptions=True)


async def everything(log, topic):
    return [r for p in (0, 1) for r in await log.read(Partition(topic, p), 0, 10_000)]


async def until_true(condition) -> None:
    async def holds() -> bool:
        return bool(condition())

    await until(holds)


async def billed(log) -> int:
    """What stands on results and dead letters."""
    results = [json.loads(record.value)["nanousd"] for record in await everything(log, "labeler-results")]
    letters = [read_letter(record).nanousd for record in await everything(log, "labeler-dlq")]
    return sum(results) + sum(letters)


async def test_it_waits_till_the_period_ends_and_goes_on(log):
    """`wait`: nothing is lost or buried, the cause and the time are told, and the next hour answers the rest."""
    unix = [HOUR_BEGINS]
    async with scripted(answering()) as (_, client):
        await log.append([note(n) for n in range(200)])
        options = SpendOptions(hour_usd=0.012)
        async with worker(log, client, options, unix=lambda: unix[0]) as (made, _):
            await until_true(lambda: made.causes == ["spend"])
            held = made.pipeline._tiers[0].capacity(made.pipeline.task)
            assert abs(held.until - time.monotonic() - 3_600) < 1.0
            first = made.counts.results
            assert 0 < first < 200
            assert made.spend.spent_nanousd <= 12_000_000
            unix[0] += 3_600
            await until_true(lambda: made.counts.results == 200)
    assert (made.counts.dead_letters, made.counts.hand_overs) == (0, 0)
    assert await billed(log) == made.spend.spent_nanousd


async def test_the_cheaper_answer_stands(log):
    """`cheaper`: what the ceiling keeps from being escalated ends with the answer that the cheaper tier gave."""
    async with scripted(answering(confidence="l")) as (_, client):
        await log.append([note(n) for n in range(20)])
        options = SpendOptions(day_usd=10, models={SONNET: Ceilings(hour_usd=0.000_01, at_ceiling="cheaper")})
        route = Route(Step("haiku", accept="sure"), Step("sonnet"))
        async with worker(log, client, options, route=route) as (made, _):
            await until_true(lambda: made.counts.results == 20)
    results = [json.loads(record.value) for record in await everything(log, "labeler-results")]
    assert {(result["tier"], result["confidence"]) for result in results} == {("haiku", "likely")}


async def test_without_a_cheaper_answer_it_waits(log):
    """`cheaper` at the first step of a route: there is none, and nobody is buried for it."""
    async with scripted(answering()) as (api, client):
        await log.append([note(1)])
        options = SpendOptions(hour_usd=0.000_01, at_ceiling="cheaper")
        async with worker(log, client, options) as (made, _):
            await until_true(lambda: made.causes == ["spend"])
            await asyncio.sleep(0.1)
            assert made.counts.done == 0
    assert api.requests == []


async def test_it_buries(log):
    """`bury`: a dead letter that names the ceiling, without a call, and without a claim that stays behind."""
    async with scripted(answering()) as (api, client):
        await log.append([note(n) for n in range(7)])
        options = SpendOptions(hour_usd=0.000_01, at_ceiling="bury")
        async with worker(log, client, options) as (made, _):
            await until_true(lambda: made.counts.dead_letters == 7)
    letters = [read_letter(record) for record in await everything(log, "labeler-dlq")]
    assert {letter.reason for letter in letters} == {"over_budget"}
    assert all("spend.hour_usd=1e-05" in letter.detail for letter in letters)
    assert api.requests == []


async def test_a_large_event_after_small_ones_gets_its_claim(log):
    """Its call costs more than those before it, for which there is a claim: it is claimed for, too, and asked once."""
    async with scripted(answering()) as (api, client):
        await log.append([note(n) for n in range(3)])
        async with worker(log, client, SpendOptions(hour_usd=1.0)) as (made, _):
            await until_true(lambda: made.counts.results == 3)
            await log.append([note(3, text="long " * 8_000)])
            await until_true(lambda: made.counts.results == 4)
        held_back = made.counts.tiers["haiku"].outcomes["again", "busy"]
    assert len(api.requests) <= 4
    assert held_back < 100


async def test_one_event_that_does_not_fit_is_buried_alone(log):
    """`bury`: average events still have room, a large one has not: it does not wait till the period ends."""
    async with scripted(answering()) as (api, client):
        await log.append([note(n) for n in range(3)])
        options = SpendOptions(hour_usd=0.006, at_ceiling="bury")
        async with worker(log, client, options) as (made, _):
            await until_true(lambda: made.counts.results == 3)
            await log.append([note(3, text="long " * 8_000)])
            await until_true(lambda: made.counts.dead_letters == 1)
            await log.append([note(4)])
            await until_true(lambda: made.counts.results == 4)
    (letter,) = [read_letter(record) for record in await everything(log, "labeler-dlq")]
    assert letter.reason == "over_budget"
    assert "spend.hour_usd=0.006 is less than a single call may cost" in letter.detail
    assert all("long long" not in str(request) for request in api.requests)


async def test_it_stops(log, capsys):
    """`stop`: what was asked is committed, and the worker ends with a text that says why and an exit code of its own."""
    async with scripted(answering()) as (_, client):
        await log.append([note(n) for n in range(300)])
        options = SpendOptions(day_usd=0.012, at_ceiling="stop")
        async with worker(log, client, options) as (made, work):
            with pytest.raises(BudgetSpent, match=r"spend\.day_usd=0\.012 is reached.*UTC") as caught:
                await work
    assert 0 < made.counts.results < 300
    assert await billed(log) == made.spend.spent_nanousd <= 12_000_000
    assert settle(caught.value) == BUDGET_SPENT == 4
    assert "spend.day_usd" in capsys.readouterr().err


@pytest.mark.slow
async def test_workers_share_a_ceiling_and_a_restarted_one_spends_nothing(log):
    """Two side by side spend no more than the ceiling and nearly all of it; who comes later asks nothing."""
    async with scripted(answering(output_tokens=40)) as (api, client):
        await log.append([note(n, key=str(n)) for n in range(1_500)])
        options = SpendOptions(day_usd=0.05)
        async with (
            worker(log, client, options, run="r1") as (one, _),
            worker(log, client, options, run="r2") as (two, _),
        ):
            await until_true(lambda: all(causes == ["spend"] for causes in (one.causes, two.causes)))
            spent = one.spend.spent_nanousd + two.spend.spent_nanousd
            assert 47_500_000 <= spent <= 50_000_000
            assert one.spend.spent_nanousd > 0 < two.spend.spent_nanousd
        asked = len(api.requests)
        async with worker(log, client, options, run="r3") as (late, _):
            await until_true(lambda: late.causes == ["spend"])
        assert len(api.requests) == asked
    claims = await read_claims(log, lambda: HOUR_BEGINS)
    total = claims.sum(("all", "", "2026-09-21"))
    assert total == (spent, spent, 0)
    assert await billed(log) == spent


async def test_what_the_log_does_not_take_is_not_spent(log):
    """Claims that can't be written or read back give no right: without a tail nothing is asked."""
    async with scripted(answering()) as (api, client):
        await log.append([note(1)])
        made = AtWork(log, client, SpendOptions(day_usd=1.0), Route("haiku"), time.time, "r1")
        stop = asyncio.Event()
        work = asyncio.create_task(made.pipeline.run(stop))
        await until_true(lambda: made.causes == ["claim"])
        await asyncio.sleep(0.2)
        stop.set()
        await work
    assert api.requests == []


@pytest.mark.parametrize(
    "stopped",
    [
        lambda: error(402, "billing_error"),
        lambda: error(429, code="enforced_spend_limit_reached", headers={"x-should-retry": "false"}),
        lambda: error(400, "invalid_request_error", text="You have reached your specified API usage limits."),
    ],
    ids=["402", "429", "400"],
)
async def test_the_accounts_own_stop_pauses_and_buries_nothing(log, stopped):
    """An account that may spend no more: everything waits under a name of its own, no attempt is used, none is buried."""
    async with scripted(lambda _: stopped()) as (api, client):
        await log.append([note(n) for n in range(12)])
        async with worker(
            log, client, SpendOptions(day_usd=9), route=Route(Step("haiku", accept="sure"), "sonnet")
        ) as (
            made,
            _,
        ):
            await until_true(lambda: made.causes[0] == "spend_cap")
            await asyncio.sleep(0.2)
            asked = len(api.requests)
            assert (made.counts.done, made.counts.hand_overs) == (0, 0)
    assert asked <= 3
    assert made.spend.spent_nanousd == 0


class Billing:
    """An API that fails now and then, leaves answers out, is unsure by turns, and writes its own bill."""

    def __init__(self) -> None:
        self.nanousd = self.arrived = self.failed = self.left_out = 0
        self.models: set[str] = set()

    def __call__(self, body):
        self.arrived += 1
        if self.arrived % 9 == 0:
            self.failed += 1
            return error(529, "overloaded_error")
        events = asked_events(body)
        kept = events[:-1] if len(events) > 1 and self.arrived % 3 == 0 else events
        self.left_out += len(events) - len(kept)
        self.models.add(body["model"])
        self.nanousd += MODELS.resolve(body["model"]).cost_nanousd(Tokens(input=800, output=100))
        confidence = "u" if body["model"] == HAIKU and self.arrived % 2 else "s"
        return message(entries(*[{"i": key, "c": confidence, "l": "g"} for key, _ in kept]))


async def test_there_is_no_way_around_it(log):
    """Repetitions, answers asked for again, escalations and the guard's second questions stay under the ceiling together."""
    api_bill = Billing()
    options = replace(QUICK, guard=GuardOptions(share=0.5))
    async with scripted(api_bill) as (_, client):
        await log.append([note(n) for n in range(400)])
        route = Route(Step("haiku", accept="sure"), "sonnet")
        async with worker(log, client, SpendOptions(hour_usd=0.06), route=route, options=options) as (made, _):
            await until_true(lambda: "spend" in made.causes and not made.gate.concurrency.in_flight)
            assert (made.counts.guard_nanousd > 0, api_bill.failed > 0, api_bill.left_out > 0) == (True, True, True)
            assert api_bill.models == {HAIKU, SONNET}
            assert 0 < made.counts.results < 400
            assert api_bill.nanousd == made.spend.spent_nanousd
            assert api_bill.nanousd <= 0.06e9
