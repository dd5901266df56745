"""One attempt of a Claude tier over real HTTP: outcomes, charges, permits, and what stops it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from aiohttp import web
from pydantic import BaseModel

from penstock.claude.client import ClaudeClient
from penstock.claude.models import Models
from penstock.claude.tier import ClaudeTier
from penstock.errors import TierStopped
from penstock.flow.ceilings import SpendOptions
from penstock.flow.concurrency import ConcurrencyOptions
from penstock.flow.gate import Gate
from penstock.flow.limits import LimitOptions
from penstock.outcome import Again, Answer, Failure, Outcome
from penstock.record import Partition, Record
from penstock.task import Task
from penstock.tier import Item
from scripted_claude import asked_events, entries, error, message, scripted

MODELS = Models.load()


class Review(BaseModel):
    text: str


class Verdict(BaseModel):
    decision: Literal["publish", "hold", "reject"]
    note: str = ""


TASK = Task("judge", reads="events", input=Review, output=Verdict, instructions="Judge.")


def item(number: int, text: str = "fine") -> Item:
    shown = json.dumps({"text": text})
    record = Record("events", 0, number, None, b"", (), 0)
    return Item(record, Partition("events", 0), f"e{number}", Review(text=text), shown, 7 + number)


def items(count: int) -> list[Item]:
    return [item(n) for n in range(count)]


def tier_of(client: ClaudeClient, gate: Gate | None = None, model: str = "haiku") -> ClaudeTier:
    return ClaudeTier(model, MODELS.resolve(model), client, gate or Gate())


def all_published(body: dict[str, Any], **fields: Any) -> web.Response:
    return message(entries(*[{"i": key, "c": "s", "d": "p"} for key, _ in asked_events(body)]), **fields)


def reasons(outcomes: Sequence[Outcome]) -> list[str]:
    return [o.reason if isinstance(o, Again | Failure) else type(o).__name__ for o in outcomes]


async def test_a_call_is_paid_to_the_last_nanodollar() -> None:
    """Charges of a call's items add up to its bill and its tokens, whoever was answered; the gate knows the sum."""

    def script(body: dict[str, Any]) -> web.Response:
        keys = [key for key, _ in asked_events(body)]
        text = entries({"i": keys[0], "c": "s", "d": "p"}, {"i": keys[1], "c": "s", "d": "?"})
        return message(text, input_tokens=812, cache_read_input_tokens=2_051, output_tokens=211)

    async with scripted(script) as (_, client):
        gate = Gate(spend=SpendOptions(month_usd=1.0))
        outcomes = await tier_of(client, gate).answer(TASK, items(3))
    assert reasons(outcomes) == ["Answer", "invalid_output", "missing"]
    charges = [o.charge for o in outcomes]
    assert all(c is not None and c.call_id == "req_1" and c.model == "claude-haiku-5-5" for c in charges)
    totals = [sum(column) for column in zip(*[c[2:] for c in charges if c], strict=True)]
    assert totals == [207_210, 812, 0, 2_051, 211]
    assert (gate.spend.spent_nanousd, gate.spend.reserved_nanousd) == (207_210, 0)


async def test_an_answer_says_who_gave_it() -> None:
    """Tier, the model that answered, the prompt's version, and that it was simulated where it was."""
    async with scripted(lambda body: all_published(body, headers={"x-simulated": "penstock"})) as (_, client):
        (answer,) = await tier_of(client).answer(TASK, items(1))
    assert isinstance(answer, Answer)
    assert answer.output == Verdict(decision="publish")
    assert (answer.confidence, answer.by.tier, answer.by.model) == ("sure", "haiku", "claude-haiku-5-5")
    assert answer.by.simulated
    assert len(answer.by.prompt) == 12


async def test_every_call_asks_under_fresh_ids_and_with_enough_room() -> None:
    """Two attempts at the same items share no id, and max_tokens leaves room for every item."""
    async with scripted(all_published) as (api, client):
        tier = tier_of(client)
        await tier.answer(TASK, items(20))
        await tier.answer(TASK, items(20))
    first, second = [{key for key, _ in asked_events(body)} for body in api.requests]
    assert len(first) == len(second) == 20
    assert len(first & second) <= 1
    assert api.requests[0]["max_tokens"] >= 20 * 100
    assert api.requests[0]["thinking"] == {"type": "disabled"}


async def test_ids_of_another_call_are_not_believed() -> None:
    """An answer under an id that was asked in an earlier call reaches nobody."""
    seen: list[str] = []

    def script(body: dict[str, Any]) -> web.Response:
        keys = [key for key, _ in asked_events(body)]
        answered = list(seen) or keys
        seen[:] = keys
        return message(entries(*[{"i": key, "c": "s", "d": "r"} for key in answered]))

    async with scripted(script) as (_, client):
        tier = tier_of(client)
        assert reasons(await tier.answer(TASK, items(5))) == ["Answer"] * 5
        assert reasons(await tier.answer(TASK, items(5))) == ["missing"] * 5


async def test_a_refusal_before_output_costs_nothing() -> None:
    """An unbilled refusal carries no charge and spends nothing."""
    refusal = {"stop_reason": "refusal", "output_tokens": 0}
    async with scripted(lambda _: message(None, **refusal)) as (_, client):
        gate = Gate()
        tier = tier_of(client, gate)
        both = await tier.answer(TASK, items(2))
        (alone,) = await tier.answer(TASK, items(1))
    assert all(isinstance(o, Again) and o.split and o.charge is None for o in both)
    assert isinstance(alone, Failure)
    assert (alone.reason, alone.charge) == ("refused", None)
    assert gate.spend.spent_nanousd == 0


@pytest.mark.parametrize(
    ("response", "reason", "after", "cause"),
    [
        (lambda: error(429, headers={"retry-after": "40"}), "rate_limited", 40.0, "retry_after"),
        (lambda: error(529, headers={"retry-after": "40"}), "overloaded", 40.0, "retry_after"),
        (lambda: error(402, "billing_error"), "spend_cap", 300.0, "spend_cap"),
        (lambda: error(429, code="enforced_spend_limit_reached"), "spend_cap", 300.0, "spend_cap"),
    ],
)
async def test_weather_uses_up_no_attempt_and_holds_the_next_call(
    response: Any, reason: str, after: float, cause: str
) -> None:
    """Limits, overload and spend caps: every item waits, none is split or buried, and capacity says until when."""
    async with scripted(lambda _: response()) as (api, client):
        gate = Gate()
        tier = tier_of(client, gate)
        outcomes = await tier.answer(TASK, items(3))
        capacity = tier.capacity(TASK)
        held = await tier.answer(TASK, items(3))
    assert reasons(outcomes) == [reason] * 3
    assert all(isinstance(o, Again) and not o.is_attempt and not o.split for o in outcomes)
    assert all(isinstance(o, Again) and o.after_seconds == after for o in outcomes)
    assert (capacity.items, capacity.cause) == (0, cause)
    assert capacity.until is not None
    assert capacity.until == pytest.approx(gate.clock() + after, abs=5)
    assert len(api.requests) == 1
    assert reasons(held) == [reason if reason == "spend_cap" else "rate_limited"] * 3


RATE_LIMITS = {
    "anthropic-ratelimit-output-tokens-limit": "6000000",
    "anthropic-ratelimit-output-tokens-remaining": "1500000",
    "anthropic-ratelimit-requests-limit": "banana",
    "anthropic-ratelimit-input-tokens-limit": "-1",
}


async def test_every_reply_tells_the_gate_the_accounts_limits() -> None:
    """Headers of answers and of refusals are heard; those that cannot be true leave the settings as they are."""
    turned_away = iter([False, True])

    def script(body: dict[str, Any]) -> web.Response:
        if next(turned_away):
            return error(429, headers={"retry-after": "5", **RATE_LIMITS})
        return all_published(body, headers=RATE_LIMITS)

    async with scripted(script) as (_, client):
        gate = Gate(LimitOptions(requests_per_minute=5_000))
        tier = tier_of(client, gate)
        await tier.answer(TASK, items(1))
        await tier.answer(TASK, items(1))
    grants = {grant.kind: grant for grant in gate.limits.grants()}
    assert grants["output_tokens"].limit == 6_000_000
    assert grants["output_tokens"].level == pytest.approx(0.25)
    assert (grants["requests"].limit, grants["requests"].level) == (5_000, None)
    assert (grants["input_tokens"].limit, grants["input_tokens"].level) == (2_000_000, None)


@pytest.mark.parametrize("code", ["ramp_limit_exceeded", ""])
async def test_a_ramp_limit_slows_growth_and_a_rate_limit_does_not(code: str) -> None:
    """`ramp_limit_exceeded` is told apart from a limit that is used up."""
    async with scripted(lambda _: error(429, "rate_limit_error", code=code, headers={"retry-after": "1"})) as (
        _,
        client,
    ):
        gate = Gate()
        await tier_of(client, gate).answer(TASK, items(1))
    counted = {kind: count for _, kind, count in gate.limits.refusals()}
    assert counted == {"ramp": int(bool(code)), "rate": int(not code)}


async def test_the_first_call_on_a_cold_prompt_goes_alone() -> None:
    """Calls that start together would each pay for writing the cache: while the first one is out, there is no room."""
    release = asyncio.Event()

    async def wait(body: dict[str, Any]) -> web.StreamResponse:
        await release.wait()
        return all_published(body)

    task = dataclasses.replace(TASK, instructions="Judge by the policy. " * 3_000)
    async with scripted(wait) as (_, client):
        tier = tier_of(client, Gate(LimitOptions(10**6, 10**9, 10**8)))
        assert tier.capacity(task).items > 0
        call = asyncio.create_task(tier.answer(task, items(1)))
        await asyncio.sleep(0)
        assert (tier.capacity(task).items, tier.capacity(task).cause) == (0, "cold_cache")
        release.set()
        await call
        assert tier.capacity(task).items > 0
        again = asyncio.create_task(tier.answer(task, items(1)))
        await asyncio.sleep(0)
        assert tier.capacity(task).items > 0
        await again


async def test_a_rejected_batch_is_halved_and_a_rejected_event_buried() -> None:
    """400 with many items asks for halves; alone it ends the item, once the API is known to answer others."""

    def script(body: dict[str, Any]) -> web.Response:
        events = [event for _, event in asked_events(body)]
        return error(400, "invalid_request_error") if {"text": "poison"} in events else all_published(body)

    async with scripted(script) as (_, client):
        tier = tier_of(client)
        poisoned = [item(0), item(1, "poison")]
        outcomes = await tier.answer(TASK, poisoned)
        assert all(isinstance(o, Again) and o.split and o.is_attempt for o in outcomes)
        assert reasons(await tier.answer(TASK, poisoned[:1])) == ["Answer"]
        (buried,) = await tier.answer(TASK, poisoned[1:])
    assert isinstance(buried, Failure)
    assert buried.reason == "rejected"
    assert "poison" not in buried.detail


async def test_an_event_too_large_is_buried() -> None:
    """413 of one event alone ends it as too_large, also in the proxy's HTML."""
    html = {"status": 413, "text": "<html>", "content_type": "text/html"}
    async with scripted(lambda _: web.Response(**html)) as (_, client):
        tier = tier_of(client)
        assert reasons(await tier.answer(TASK, items(2))) == ["rejected"] * 2
        assert reasons(await tier.answer(TASK, items(1))) == ["too_large"]


async def test_a_wrong_request_buries_no_events() -> None:
    """Where every event alone is rejected before anything was answered, the tier stops instead."""
    async with scripted(lambda _: error(400, "invalid_request_error", "output_config: bad")) as (_, client):
        tier = tier_of(client)
        for number in (0, 0, 0, 1):
            (outcome,) = await tier.answer(TASK, [item(number)])
            assert isinstance(outcome, Again)
        with pytest.raises(TierStopped, match="output_config: bad"):
            await tier.answer(TASK, [item(2)])
        assert tier.capacity(TASK).cause == "stopped"


@pytest.mark.parametrize(("status", "says"), [(401, "ANTHROPIC_API_KEY"), (403, "right"), (404, "retired")])
async def test_what_only_a_person_can_mend_stops_the_tier(status: int, says: str) -> None:
    """A wrong key, a missing right and an unknown model stop it, with what to do; nothing more is sent."""
    async with scripted(lambda _: error(status, "some_error")) as (api, client):
        gate = Gate()
        tier = tier_of(client, gate)
        for _ in range(2):
            with pytest.raises(TierStopped, match=says):
                await tier.answer(TASK, items(1))
        assert tier.capacity(TASK).cause == "stopped"
        assert len(api.requests) == 1
    assert gate.concurrency.in_flight == 0
    assert gate.spend.reserved_nanousd == 0


@pytest.mark.parametrize("status", [500, 504])
async def test_server_errors_count_only_against_events_that_fail_alone(status: int) -> None:
    """An error is weather unless the API answered another call meanwhile; then the batch is at fault and halved."""
    answered = asyncio.Event()

    async def script(body: dict[str, Any]) -> web.StreamResponse:
        if {"text": "bad"} not in [event for _, event in asked_events(body)]:
            return all_published(body)
        await asyncio.wait_for(answered.wait(), 5)
        return error(status, "api_error")

    async with scripted(script) as (_, client):
        tier = tier_of(client)
        answered.set()
        weather = await tier.answer(TASK, [item(0, "bad"), item(1)])
        assert all(isinstance(o, Again) and not o.is_attempt and not o.split for o in weather)
        answered.clear()
        failing = asyncio.create_task(tier.answer(TASK, [item(0, "bad"), item(1)]))
        await asyncio.sleep(0)
        await tier.answer(TASK, items(1))
        answered.set()
        ours = await failing
    assert reasons(ours) == ["server_error"] * 2
    assert all(isinstance(o, Again) and o.is_attempt and o.split for o in ours)


async def test_a_call_without_a_reply_keeps_its_worst_on_the_books() -> None:
    """A time-out may have been billed: its reserve stays held, and the time-out is weather while nothing answers."""

    async def stall(_: Any) -> web.StreamResponse:
        await asyncio.sleep(30)
        return message("late")

    async with scripted(stall, timeout_seconds=0.1) as (_, client):
        gate = Gate(spend=SpendOptions(month_usd=1.0))
        (outcome,) = await tier_of(client, gate).answer(TASK, items(1))
    assert isinstance(outcome, Again)
    assert (outcome.reason, outcome.is_attempt, outcome.charge) == ("timed_out", False, None)
    assert gate.spend.unconfirmed_nanousd > 0
    assert (gate.spend.reserved_nanousd, gate.concurrency.in_flight) == (0, 0)


async def test_a_cancelled_call_leaks_no_permit() -> None:
    """Abandoning a call frees its place and keeps its worst on the books."""
    arrived = asyncio.Event()

    async def stall(_: Any) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(30)
        return message("late")

    async with scripted(stall) as (_, client):
        gate = Gate(spend=SpendOptions(month_usd=1.0))
        call = asyncio.create_task(tier_of(client, gate).answer(TASK, items(1)))
        await asyncio.wait_for(arrived.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert gate.concurrency.in_flight == gate.spend.reserved_nanousd == 0
    assert gate.spend.unconfirmed_nanousd > 0


async def test_the_ceiling_is_never_passed_over_many_calls() -> None:
    """Calls side by side under a small ceiling stop before it; what was billed is below it, and capacity says why."""
    async with scripted(lambda body: all_published(body, output_tokens=500)) as (_, client):
        gate = Gate(
            spend=SpendOptions(month_usd=0.02),
            limits=LimitOptions(10**6, 10**9, 10**8),
        )
        tier = tier_of(client, gate)
        paid = 0
        calls = 0
        while (room := tier.capacity(TASK).items) and calls < 200:
            batch = items(min(room, 10))
            for outcomes in await asyncio.gather(*[tier.answer(TASK, batch) for _ in range(8)]):
                paid += sum(o.charge.nanousd for o in outcomes if o.charge)
                calls += 1
        held = tier.capacity(TASK)
        assert held.cause == "spend"
        assert held.until is not None
        assert held.until > gate.clock()
    assert 15_000_000 < paid == gate.spend.spent_nanousd <= 20_000_000


async def test_capacity_tells_what_a_call_may_hold() -> None:
    """A free tier takes a whole batch inside the cheapest price band; a busy one says concurrency."""
    release = asyncio.Event()

    async def wait(body: dict[str, Any]) -> web.StreamResponse:
        await release.wait()
        return all_published(body)

    async with scripted(wait) as (_, client):
        gate = Gate(concurrency=ConcurrencyOptions(1))
        tier = tier_of(client, gate)
        free = tier.capacity(TASK)
        assert free.items == TASK.max_batch_items
        assert 10_000 < free.tokens < 100_000
        call = asyncio.create_task(tier.answer(TASK, items(1)))
        await asyncio.sleep(0)
        assert (tier.capacity(TASK).items, tier.capacity(TASK).cause) == (0, "concurrency")
        assert reasons(await tier.answer(TASK, items(2))) == ["busy"] * 2
        release.set()
        await call
        assert tier.capacity(TASK).items == free.items


async def test_a_small_limit_makes_small_batches() -> None:
    """Where the output limit holds less than a batch, capacity offers what it holds, and says when it is there."""
    limits = LimitOptions(output_tokens_per_minute=6_000)
    async with scripted(lambda body: all_published(body, output_tokens=15 * len(asked_events(body)))) as (_, client):
        gate = Gate(limits)
        tier = tier_of(client, gate)
        offered = tier.capacity(TASK).items
        assert 1 <= offered < TASK.max_batch_items
        assert reasons(await tier.answer(TASK, items(offered))) == ["Answer"] * offered
        later = tier.capacity(TASK)
    assert (later.items, later.cause) == (0, "output_tokens")
    assert later.until is not None
    assert later.until > gate.clock()


async def test_a_cut_reply_gets_more_room_next_time() -> None:
    """After max_tokens cut a reply, the next call may be longer; what was complete is not asked again."""

    def script(body: dict[str, Any]) -> web.Response:
        keys = [key for key, _ in asked_events(body)]
        return message(entries({"i": keys[0], "c": "s", "d": "p"})[:-2] + ', {"i":"', stop_reason="max_tokens")

    async with scripted(script) as (api, client):
        tier = tier_of(client)
        first = await tier.answer(TASK, items(2))
        await tier.answer(TASK, items(2))
    assert reasons(first) == ["Answer", "truncated"]
    assert api.requests[1]["max_tokens"] > api.requests[0]["max_tokens"]


async def test_models_that_always_think_get_room_for_it() -> None:
    """No thinking parameter where it cannot be turned off, and room for the thinking beside the entries."""
    async with scripted(all_published) as (api, client):
        await tier_of(client, model="opus").answer(TASK, items(1))
    assert "thinking" not in api.requests[0]
    assert api.requests[0]["max_tokens"] > 4_000


async def test_nothing_asked_is_nothing_sent() -> None:
    """An empty batch makes no call."""
    async with scripted(all_published) as (api, client):
        assert await tier_of(client).answer(TASK, []) == []
    assert api.requests == []
