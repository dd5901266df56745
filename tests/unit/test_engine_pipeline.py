"""The pipeline over the embedded log: every event ends once, costs add up, and nothing stands in the way of a neighbour."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from fakes import GatedTier, ScriptedTier, make_task, note, running, until
from penstock import Again, Failure, Partition, Step, TaskError
from penstock.deadletters.letter import read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.errors import TierStopped
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC, read_state

QUICK = PipelineOptions(
    commit_interval_seconds=0.01,
    drain_seconds=5.0,
    batch=BatchLimits(max_wait_seconds=0.01),
    retry=RetryOptions(first_seconds=0.01, most_seconds=0.05),
)


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    await log.create_topics(
        [TopicSpec(name, partitions=3) for name in ("notes", "labeler-results", "labeler-dlq", "labeler.retry")]
        + [TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)]
    )
    yield log
    await log.close()


async def everything(log, topic):
    """All committed records of a topic."""
    found = []
    for partition, bounds in sorted((await log.bounds(topic)).items()):
        at = bounds.low
        while records := await log.read(partition, at, 1_000):
            found += records
            at = records[-1].offset + 1
    return found


async def results(log):
    return [json.loads(record.value) for record in await everything(log, "labeler-results")]


async def letters(log):
    return [read_letter(record) for record in await everything(log, "labeler-dlq")]


async def run_until_ended(log, task, events, options=QUICK):
    """Run a task until every event has a result or a dead letter; the pipeline, stopped."""
    pipeline = Pipeline(task, [step.tier for step in task.route.steps], log, options)
    await log.append(events)

    async def ended():
        return pipeline.counts.done >= len(events)

    async with running(pipeline):
        await until(ended)
    return pipeline


async def test_every_event_ends_in_one_result_and_costs_add_up(log):
    """Laws 1 and 9: one result per event with its source, and the shares add up to what was billed."""
    tier = ScriptedTier(seconds=0.01)
    await run_until_ended(log, make_task(tier), [note(n) for n in range(200)])
    found = await results(log)
    assert sorted(r["event_id"] for r in found) == sorted(f"n{n}" for n in range(200))
    assert len({r["id"] for r in found}) == 200
    assert sum(r["nanousd"] for r in found) == tier.billed_nanousd
    assert all(r["output"]["echo"] == f"note {r['event_id'][1:]}" for r in found)
    assert tier.closed
    committed = await log.committed("labeler", "notes")
    assert {p: m.base for p, m in committed.items()} == {p: b.high for p, b in (await log.bounds("notes")).items()}


async def test_a_result_does_not_wait_for_a_slower_neighbour(log):
    """Law 3: with one call hanging, all later events of its partition are visible; after a restart only it is asked."""
    tier = GatedTier("n0")
    task = make_task(tier, max_batch_items=1)
    pipeline = Pipeline(task, [tier], log, QUICK)
    await log.append([note(n, key="same") for n in range(40)])
    stop = asyncio.Event()
    run = asyncio.create_task(pipeline.run(stop))

    async def others_ended():
        return len(await results(log)) == 39

    await until(others_ended)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    again = ScriptedTier()

    async def all_ended():
        return len(await results(log)) == 40

    second = Pipeline(make_task(again), [again], log, QUICK)
    async with running(second):
        await until(all_ended)
    assert [event for call in again.calls for event in call] == ["n0"]


async def test_order_by_key_is_kept_while_calls_run_side_by_side(log):
    """With order by key, results of a key appear in the order of its events though answers come back in any order."""

    class Uneven(ScriptedTier):
        async def answer(self, task, items):
            await asyncio.sleep(0.03 if int(items[0].event_id[1:]) % 7 == 0 else 0.001)
            return await super().answer(task, items)

    tier = Uneven()
    task = make_task(tier, order="key", max_batch_items=3)
    await run_until_ended(log, task, [note(n, key=f"k{n % 3}") for n in range(120)])
    by_key: dict[bytes, list[int]] = {}
    for record in await everything(log, "labeler-results"):
        by_key.setdefault(record.key, []).append(json.loads(record.value)["source"]["offset"])
    assert len(tier.calls) > 3
    assert all(offsets == sorted(offsets) for offsets in by_key.values())
    assert sum(map(len, by_key.values())) == 120


async def test_bad_events_become_dead_letters_with_their_bytes_and_stop_nobody(log):
    """Undecodable events are buried byte for byte with their reason; a tombstone of nothing is skipped; the others are answered."""
    tier = ScriptedTier()
    bad = note(1)._replace(value=b"\xff{broken", headers=(("a", None), ("a", b"\x00")))
    wrong = note(2)._replace(value=b'{"text": 7}')
    gone = note(3)._replace(key=None, value=None)
    large = note(4, text="long " * 100)
    await run_until_ended(log, make_task(tier, max_event_tokens=100), [bad, wrong, gone, large, note(5)])
    found = {letter.reason: letter for letter in await letters(log)}
    assert set(found) == {"undecodable", "too_large"}
    buried = [letter.record for letter in await letters(log)]
    assert (bad.value, bad.key) in {(record.value, record.key) for record in buried}
    assert [r.headers[:2] for r in buried if r.value == bad.value] == [bad.headers]
    assert [r["event_id"] for r in await results(log)] == ["n5"]
    assert tier.calls == [["n5"]]


async def test_only_the_unanswered_are_asked_again(log):
    """Law 7: 49 good answers never wait for the fiftieth, and it alone is asked again; its result carries both costs."""

    def forget_one(tier, items):
        return [tier.again("missing") if i.event_id == "n7" and len(items) > 1 else tier.answer_of(i) for i in items]

    tier = ScriptedTier(script=forget_one)
    await run_until_ended(log, make_task(tier), [note(n, key="same") for n in range(20)])
    asked = Counter(event for call in tier.calls for event in call)
    assert asked == Counter({f"n{n}": 1 for n in range(20)}) + Counter(["n7"])
    late = next(r for r in await results(log) if r["event_id"] == "n7")
    assert (late["attempts"], len(late["calls"]), late["nanousd"]) == (2, 2, 14)


async def test_a_refused_batch_is_halved_until_the_culprit_stands_alone(log):
    """Law 7: one poisonous event costs its neighbours some calls, never their answers."""

    def refuse(tier, items):
        if any(item.event_id == "n13" for item in items):
            if len(items) == 1:
                return [Failure("refused", "declined", tier.charge())]
            return [Again("refused", split=True) for _ in items]
        return [tier.answer_of(item) for item in items]

    tier = ScriptedTier(script=refuse)
    await run_until_ended(log, make_task(tier), [note(n, key="same") for n in range(32)])
    assert [letter.event_id for letter in await letters(log)] == ["n13"]
    assert len(await results(log)) == 31
    assert len(tier.calls) <= 14


async def test_weather_uses_up_no_attempt_and_no_dead_letter(log):
    """Law 5: many rate limits and outages in a row end in plain answers with one attempt."""
    storms = iter(["rate_limited"] * 5 + ["overloaded"] * 5 + ["unreachable"] * 5 + ["spend_cap"] * 5)

    def storm(tier, items):
        reason = next(storms, None)
        return [Again(reason, after_seconds=0.01) if reason else tier.answer_of(item) for item in items]

    tier = ScriptedTier(script=storm)
    await run_until_ended(log, make_task(tier, max_attempts=2), [note(n) for n in range(10)])
    assert {r["attempts"] for r in await results(log)} == {1}
    assert await letters(log) == []


async def test_attempts_end_in_a_dead_letter_that_tells_cost_and_reason(log):
    """An item that is never answered is buried after its attempts with everything that it cost."""
    tier = ScriptedTier(script=lambda tier, items: [tier.again("invalid_output", detail="label: wrong") for _ in items])
    await run_until_ended(log, make_task(tier, max_attempts=3), [note(1)])
    (letter,) = await letters(log)
    assert (letter.reason, letter.attempts, letter.nanousd, letter.stage) == ("invalid_output", 3, 21, "answer")
    assert "label: wrong" in letter.detail
    assert sum(nanousd for _, nanousd in letter.calls) == tier.billed_nanousd


async def test_unsure_answers_escalate_and_the_last_step_accepts(log):
    """A step keeps what is sure enough and hands on the rest; the result names who answered and carries all costs."""

    def unsure_about_odd(tier, items):
        return [tier.answer_of(i, "sure" if int(i.event_id[1:]) % 2 == 0 else "unsure") for i in items]

    small, large = ScriptedTier("small", unsure_about_odd), ScriptedTier("large", unsure_about_odd)
    task = make_task(Step(small, accept="likely"), Step(large, accept="sure"))
    await run_until_ended(log, task, [note(n) for n in range(20)])
    found = {r["event_id"]: r for r in await results(log)}
    assert {r["tier"] for e, r in found.items() if int(e[1:]) % 2} == {"large"}
    assert {r["tier"] for e, r in found.items() if not int(e[1:]) % 2} == {"small"}
    assert found["n1"]["nanousd"] == 14
    assert found["n2"]["nanousd"] == 7


async def test_an_earlier_answer_is_better_than_a_dead_letter(log):
    """Where the next tier fails for good, the answer that was not sure enough stands."""
    small = ScriptedTier("small", lambda t, items: [t.answer_of(i, "likely") for i in items])
    large = ScriptedTier("large", lambda t, items: [Failure("refused", "no", t.charge()) for _ in items])
    await run_until_ended(log, make_task(Step(small, accept="sure"), Step(large)), [note(1)])
    (result,) = await results(log)
    assert (result["tier"], result["confidence"], result["nanousd"]) == ("small", "likely", 14)
    assert await letters(log) == []


async def test_a_stop_commits_what_is_in_flight_and_pays_nothing_twice(log):
    """A stop while calls are out: they come back and are committed; the next worker asks only what was never asked."""
    first = ScriptedTier(seconds=0.2, max_calls=3)
    task = make_task(first, max_batch_items=5)
    pipeline = Pipeline(task, [first], log, QUICK)
    await log.append([note(n) for n in range(60)])

    async def some_out():
        return bool(first.calls)

    async with running(pipeline):
        await until(some_out)
    assert first.finished == len(first.calls)
    assert 0 < len(await results(log)) < 60
    second = ScriptedTier()

    async def all_ended():
        return len(await results(log)) == 60

    async with running(Pipeline(make_task(second), [second], log, QUICK)):
        await until(all_ended)
    asked = Counter(event for call in first.calls + second.calls for event in call)
    assert set(asked.values()) == {1}
    assert sum(r["nanousd"] for r in await results(log)) == first.billed_nanousd + second.billed_nanousd


async def test_a_second_worker_takes_its_share_and_nothing_is_doubled(log):
    """A rebalance with work in flight: every event has one result, and all money is on results or waste."""
    one, two = ScriptedTier("one", seconds=0.02, max_calls=2), ScriptedTier("two", seconds=0.02, max_calls=2)
    await log.append([note(n) for n in range(300)])

    async def all_ended():
        return len(await results(log)) >= 300

    async def one_started():
        return len(one.calls) > 3

    async with running(Pipeline(make_task(one, max_batch_items=2), [one], log, QUICK)):
        await until(one_started)
        async with running(Pipeline(make_task(two, max_batch_items=2), [two], log, QUICK)):
            await until(all_ended, 30)
    found = await results(log)
    assert Counter(r["event_id"] for r in found) == Counter(f"n{n}" for n in range(300))
    assert two.calls
    waste = [read_state(record).value["nanousd"] for record in await everything(log, STATE_TOPIC)]
    assert sum(r["nanousd"] for r in found) + sum(waste) == one.billed_nanousd + two.billed_nanousd


async def test_an_answer_for_a_lost_partition_is_waste_not_a_result(log):
    """A late answer is dropped, and its cost is remembered in the state topic."""
    tier = GatedTier()
    pipeline = Pipeline(make_task(tier), [tier], log, QUICK)
    await log.append([note(n) for n in range(5)])

    async def asked():
        return bool(pipeline.counts.calls)

    async with running(pipeline):
        await until(asked)
        await pipeline.lost([Partition("notes", n) for n in range(3)])
        tier.gate.set()

        async def waste_written():
            return bool(await everything(log, STATE_TOPIC))

        await until(waste_written)
    waste = [read_state(record).value for record in await everything(log, STATE_TOPIC)]
    assert sum(w["nanousd"] for w in waste) == tier.billed_nanousd > 0
    assert await results(log) == []


async def test_a_stopped_tier_stops_the_worker_and_loses_nothing(log):
    """A wrong key ends the run with the tier's own words; the events stay for the next worker."""

    def wrong_key(tier, items):
        raise TierStopped("the API key is not valid: set PENSTOCK_CLAUDE__API_KEY")

    tier = ScriptedTier(script=wrong_key)
    await log.append([note(1)])
    pipeline = Pipeline(make_task(tier), [tier], log, QUICK)
    with pytest.raises(TierStopped, match="PENSTOCK_CLAUDE__API_KEY"):
        await asyncio.wait_for(pipeline.run(asyncio.Event()), 20)
    good = ScriptedTier()
    await run_until_ended(log, make_task(good), [note(2)])

    async def both():
        return len(await results(log)) == 2

    async with running(Pipeline(make_task(good), [good], log, QUICK)):
        await until(both)


async def test_a_tier_that_breaks_its_contract_costs_attempts_not_the_worker(log):
    """A user's tier that raises, or answers too few, ends in dead letters; other events go on."""

    def broken(tier, items):
        if items[0].event_id == "n1":
            raise ZeroDivisionError
        if items[0].event_id == "n2":
            return []
        return [tier.answer_of(item) for item in items]

    tier = ScriptedTier(script=broken)
    await run_until_ended(log, make_task(tier, max_batch_items=1, max_attempts=2), [note(1), note(2), note(3)])
    assert sorted((letter.event_id, letter.reason) for letter in await letters(log)) == [
        ("n1", "server_error"),
        ("n2", "invalid_output"),
    ]
    assert [r["event_id"] for r in await results(log)] == ["n3"]


async def test_a_long_wait_goes_through_the_retry_topic_and_keeps_its_books(log):
    """An item that must wait long frees its place; it is answered later with its attempts, costs and original position."""
    seen = []

    def later(tier, items):
        outcomes = []
        for item in items:
            seen.append(item.partition.topic)
            first_time = item.partition.topic == "notes"
            outcomes.append(tier.again("server_error", after_seconds=0.3) if first_time else tier.answer_of(item))
        return outcomes

    tier = ScriptedTier(script=later)
    options = PipelineOptions(
        commit_interval_seconds=0.01,
        batch=QUICK.batch,
        retry=RetryOptions(first_seconds=0.2, hand_over_after_seconds=0.1),
    )
    pipeline = await run_until_ended(log, make_task(tier), [note(1)], options)
    assert pipeline.counts.hand_overs == 1
    assert seen == ["notes", "labeler.retry"]
    (result,) = await results(log)
    assert (result["event_id"], result["attempts"], result["nanousd"]) == ("n1", 2, 14)
    assert result["source"]["topic"] == "notes"


async def test_results_carry_trace_and_identity_headers(log):
    """CloudEvents attributes name the result, and the event's trace context goes on with it."""
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = note(1)._replace(headers=(("traceparent", trace), ("ce_tenant", b"shop-7"), ("ce_id", b"outer-1")))
    await run_until_ended(log, make_task(ScriptedTier()), [event])
    (record,) = await everything(log, "labeler-results")
    headers = dict(record.headers)
    assert headers["traceparent"] == trace
    assert headers["ce_tenant"] == b"shop-7"
    assert headers["ce_type"] == b"penstock.result.v1"
    assert headers["ce_id"].decode() == json.loads(record.value)["id"]


def test_a_route_of_nobody_is_refused():
    """A task without tiers cannot be declared."""
    with pytest.raises(TaskError, match="route is empty"):
        make_task()


async def test_no_bytes_are_left_behind_where_nothing_is_in_flight(log):
    """Law 10: what was read is given back to the byte, also of events that went through the retry topic and came back."""

    def fails_first(tier, items):
        return [tier.answer_of(item) if item.attempts else tier.again("server_error") for item in items]

    options = PipelineOptions(
        commit_interval_seconds=0.01,
        batch=BatchLimits(max_wait_seconds=0.01),
        retry=RetryOptions(first_seconds=0.03, most_seconds=0.05, hand_over_after_seconds=0.01, budget_share=1.0),
    )
    pipeline = await run_until_ended(
        log, make_task(ScriptedTier(script=fails_first)), [note(n) for n in range(20)], options
    )
    assert pipeline.counts.hand_overs > 0
    assert pipeline.reading().bytes_in_flight == 0
