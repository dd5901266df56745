"""Why a partition waits: the cause named is the true one, since when is right, and an estimate stands only where one is known."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cli_calls import cli_in
from fakes import GatedTier, ScriptedTier, make_task, note, until
from penstock import Again, Partition
from penstock.claude.client import ClaudeClient, ClaudeOptions
from penstock.claude.models import Models
from penstock.claude.tier import ClaudeTier
from penstock.engine.batcher import BatchLimits
from penstock.engine.explain import Explainer
from penstock.engine.intake import IntakeLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.errors import LogUnavailable
from penstock.flow.breaker import BreakerOptions
from penstock.flow.concurrency import ConcurrencyOptions
from penstock.flow.gate import Gate
from penstock.flow.limits import LimitOptions
from penstock.flow.ramp import RampOptions
from penstock.flow.spend import SpendOptions
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from penstock.ops import register
from penstock.ops.ops import Ops
from penstock.ops.server import OpsOptions
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import spawn

P = Partition("notes", 0)
WIDE = {"requests_per_minute": 10**6, "input_tokens_per_minute": 10**9, "output_tokens_per_minute": 10**9}
QUICK = {
    "commit_interval_seconds": 0.01,
    "drain_seconds": 0.2,
    "batch": BatchLimits(max_wait_seconds=0.01),
    "retry": RetryOptions(first_seconds=30.0, most_seconds=60.0, hand_over_after_seconds=10_000.0),
}


class Troubled(SqliteLog):
    """A log whose commits fail while a test wants it."""

    is_away = False

    async def join(self, *arguments, **settings):
        consumer = await super().join(*arguments, **settings)
        write = consumer.commit

        async def commit(progress):
            if self.is_away:
                await asyncio.sleep(0.01)
                raise LogUnavailable("the disk is full")
            await write(progress)

        consumer.commit = commit
        return consumer


@pytest.fixture
async def log(tmp_path):
    log = Troubled(tmp_path / "events.db")
    names = ("notes", "labeler-results", "labeler-dlq", "labeler.retry")
    specs = [TopicSpec(name, 1) for name in names] + [TopicSpec(STATE_TOPIC, 1, is_compacted=True)]
    await log.create_topics(specs)
    yield log
    await log.close()


@pytest.fixture(autouse=True)
def own_register(tmp_path, monkeypatch):
    """Notes of these workers stay in the test's directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture(scope="module")
def simulator():
    with spawn(SimulatorOptions(latency_ms=50.0)) as process:
        yield process


@asynccontextmanager
async def working(log, *tiers, options=None, shares=None, **changes):
    """A pipeline at work over `notes` beside its ops port; stopped in order."""
    pipeline = Pipeline(
        make_task(*tiers, **changes), tiers, log, PipelineOptions(**{**QUICK, **(options or {})}), shares=shares
    )
    stop = asyncio.Event()
    async with Ops(OpsOptions(port=0, lag_interval_seconds=0.05), [pipeline], log, place="here") as ops:
        run = asyncio.create_task(pipeline.run(stop))
        try:
            yield ops, pipeline
        finally:
            stop.set()
            await asyncio.gather(run, return_exceptions=True)


async def told(ops, cause):
    """What the ops port says of the partition, as soon as it names this cause."""
    seen = {}

    async def named():
        nonlocal seen
        async with aiohttp.ClientSession() as session, session.get(f"{ops.server.url}/status") as reply:
            page = await reply.json()
        parts = {(part["topic"], part["partition"]): part for part in page["tasks"][0]["partitions"]}
        seen = parts.get(tuple(P), {"cause": "none of ours yet"})
        return seen["cause"] == cause

    try:
        await until(named)
    except TimeoutError:
        pytest.fail(f"{cause!r} was never named, at last {seen}")
    return seen


@asynccontextmanager
async def claude(simulator, **options):
    """A Claude tier on the simulator and the gate behind it."""
    simulator.reset()
    simulator.set_faults(rates={}, script=[])
    limits = LimitOptions(**{**WIDE, **options.pop("limits", {}), "is_ceiling": True})
    gate = Gate(limits, ramp=options.pop("ramp", RampOptions(start_share=1.0)), **options)
    client = ClaudeClient(ClaudeOptions(api_key="offline", base_url=simulator.url))
    try:
        yield ClaudeTier("haiku", Models.load().resolve("haiku"), client, gate), gate
    finally:
        await client.close()


def lately(part, began):
    """Since when is between the beginning and now."""
    return began - 0.1 <= part["since"] <= time.time()


# --- limits of the account


@pytest.mark.parametrize(
    ("cause", "limits", "ramp"),
    [
        ("requests", {"requests_per_minute": 2}, 1.0),
        ("input_tokens", {"input_tokens_per_minute": 100}, 1.0),
        ("output_tokens", {"output_tokens_per_minute": 10}, 1.0),
        ("slow_start", {"output_tokens_per_minute": 10}, 0.05),
    ],
)
async def test_an_empty_bucket_is_named_with_the_time_it_fills(log, simulator, cause, limits, ramp):
    """Which bucket of which family, since when, and when the next call may go: all of it is known."""
    began = time.time()
    async with claude(simulator, limits=limits, ramp=RampOptions(start_share=ramp, doubling_seconds=1e6)) as (tier, _):
        await log.append([note(number) for number in range(200)])
        async with working(log, tier) as (ops, _):
            part = await told(ops, cause)
    assert (part["tier"], part["family"], part["waits"]) == ("haiku", "haiku-5.5", True)
    assert lately(part, began)
    assert time.time() < part["until"] < time.time() + 10**6
    assert part["next_try"] is None
    assert part["items"] > 0


async def test_retry_after_is_named_until_the_moment_the_api_said(log, simulator):
    """A 429 with a time stops the family until then, and that is no guess."""
    async with claude(simulator) as (tier, gate):
        await log.append([note(1)])
        gate.limits.block("haiku-5.5", 500.0)
        began = time.time()
        async with working(log, tier) as (ops, _):
            part = await told(ops, "retry_after")
    assert part["until"] == pytest.approx(began + 500, abs=5)
    assert lately(part, began)


async def test_calls_in_flight_have_no_end_that_anybody_knows(log, simulator):
    """All calls that may be in flight are: the tier waits, and nobody says for how long."""
    async with claude(simulator, concurrency=ConcurrencyOptions(max_calls=1, start_calls=1)) as (tier, gate):
        await log.append([note(number) for number in range(9)])
        gate.concurrency.begin("haiku-5.5")
        async with working(log, tier) as (ops, _):
            part = await told(ops, "concurrency")
    assert (part["until"], part["next_try"], part["items"]) == (None, None, 9)


async def test_a_cold_prompt_lets_one_call_go_first(log, simulator):
    """The first call writes the prompt cache; the others wait for it."""
    simulator.set_faults(rates={}, script=[])
    async with claude(simulator) as (tier, _):
        await log.append([note(number) for number in range(9)])
        task_text = "Label the note. " + "Read it with care and do as you were told. " * 90
        async with working(log, tier, instructions=task_text, max_batch_items=1) as (ops, pipeline):
            simulator.set_faults(script=["stall"])
            part = await told(ops, "cold_cache")
            assert part["until"] is None
            assert pipeline.counts.calls == 1


# --- money and weather


async def test_the_own_budget_and_the_account_stop_are_two_things(log, simulator):
    """The ceiling's period ends when it ends; the account's stop is tried again, and nobody says when it ends."""
    hour_ends = (time.time() // 3_600 + 1) * 3_600
    async with claude(simulator, spend=SpendOptions(hour_usd=1e-6)) as (tier, gate):
        await log.append([note(1)])
        async with working(log, tier) as (ops, _):
            budget = await told(ops, "budget")
            gate.pause(300.0)
            account = await told(ops, "account_stop")
    assert budget["until"] == pytest.approx(hour_ends, abs=5) or time.time() > hour_ends
    assert budget["next_try"] is None
    assert account["until"] is None
    assert account["next_try"] == pytest.approx(time.time() + 300, abs=10)
    assert account["since"] >= budget["since"]


async def test_an_outage_is_tried_again_and_its_end_is_not_guessed(log, simulator):
    """The breaker of the family holds calls back: the next trial is known, the end is not."""
    async with claude(simulator, breaker=BreakerOptions(1, 200.0, 200.0)) as (tier, gate):
        simulator.set_faults(rates={"529": 1.0})
        await log.append([note(number) for number in range(5)])
        began = time.time()
        options = {"retry": RetryOptions(first_seconds=0.01, most_seconds=0.02)}
        async with working(log, tier, options=options) as (ops, _):
            part = await told(ops, "outage")
    simulator.set_faults(rates={})
    assert part["until"] is None
    assert began + 100 < part["next_try"] < began + 230
    assert lately(part, began)
    assert part["family"] == "haiku-5.5"
    assert gate.breaker("haiku-5.5").is_holding


async def test_weather_of_a_tier_of_your_own_is_named_as_it_said(log):
    """A tier without a gate says why by its outcomes; the pause before the next try is known."""
    storm = ScriptedTier("rules", lambda _, items: [Again("unreachable") for _ in items])
    await log.append([note(1)])
    began = time.time()
    async with working(log, storm) as (ops, _):
        part = await told(ops, "unreachable")
    assert part["until"] is None
    assert part["next_try"] > began
    assert (part["tier"], part["family"]) == ("rules", "")


async def test_items_that_come_back_later_say_when(log):
    """An item that is to be asked again after a pause: the moment is known."""

    def once(tier, items):
        return [tier.again("server_error", counts=True, after_seconds=600.0) for _ in items]

    await log.append([note(1)])
    began = time.time()
    async with working(log, ScriptedTier("rules", once)) as (ops, _):
        part = await told(ops, "retry_later")
    assert part["until"] == pytest.approx(began + 600, abs=200)
    assert part["items"] == 1


# --- one event holds others


async def test_the_order_of_a_key_names_the_event_that_holds_it(log):
    """With order="key" answers wait for an earlier one: its offset, its tier and since when it is in flight."""
    tier = GatedTier("n0")
    began = time.time()
    await log.append([note(number, key="same") for number in range(6)])
    async with working(log, tier, order="key", max_batch_items=1) as (ops, _):
        part = await told(ops, "key_order")

        async def all_held():
            nonlocal part
            part = await told(ops, "key_order")
            return part["items"] == 5

        await until(all_held)
        tier.gate.set()
        await told(ops, "nothing_to_read")
    assert (part["offset"], part["tier"], part["until"]) == (0, "scripted", None)
    assert lately(part, began)


class EvenWait(GatedTier):
    """Calls with an even event wait for the gate."""

    async def answer(self, task, items):
        if any(int(item.event_id[1:]) % 2 == 0 for item in items):
            await self.gate.wait()
        return await ScriptedTier.answer(self, task, items)


async def paused(pipeline):
    """Until a partition is not read on."""

    async def now():
        return bool(pipeline.reading().paused)

    await until(now)
    return time.time()


async def test_a_key_that_is_full_names_its_offset_and_since_when_it_is_not_read(log):
    """What keeps a partition from being read on stands before what its items wait for."""
    tier = GatedTier("n0")
    await log.append([note(number, key="same") for number in range(30)])
    options = {"intake": IntakeLimits(max_per_key=10, max_poll_records=5)}
    began = time.time()
    async with working(log, tier, order="key", max_batch_items=1, options=options) as (ops, pipeline):
        seen = await paused(pipeline)
        part = await told(ops, "key_order")
        tier.gate.set()
        await told(ops, "nothing_to_read")
    assert (part["offset"], part["until"]) == (0, None)
    assert began <= part["since"] <= seen


async def test_room_in_the_map_is_named_with_the_slow_offset(log):
    """Behind slow events the map has no room: the first of them, and since when its partition is not read."""
    tier = EvenWait()
    await log.append([note(number) for number in range(600)])
    join = log.join

    async def narrow(*arguments, **settings):
        consumer = await join(*arguments, **settings)
        consumer.max_metadata_bytes = 80
        return consumer

    log.join = narrow
    began = time.time()
    async with working(log, tier, max_batch_items=1) as (ops, pipeline):
        seen = await paused(pipeline)
        part = await told(ops, "offset_map")
        tier.gate.set()
        await told(ops, "nothing_to_read")
    assert (part["offset"], part["until"]) == (0, None)
    assert began <= part["since"] <= seen


async def test_a_worker_that_is_full_says_so_for_partitions_it_cannot_read(log):
    """Where other partitions' items take all the room, the empty-handed one waits for that, not for nothing."""
    await log.create_topics([TopicSpec("notes2", 1)])
    tier = GatedTier()
    await log.append([note(number) for number in range(3)])
    options = {"intake": IntakeLimits(max_items=3)}
    async with working(log, tier, options=options) as (_, pipeline):

        async def full():
            return pipeline.reading().items_in_flight == 3

        await until(full)
        parts = {wait.partition.topic: wait.reasons[0].cause for wait in pipeline.reading().explain()}
        assert parts == {"notes": "asked", "labeler.retry": "worker_full"}
        tier.gate.set()


# --- the log and the worker


async def test_a_log_that_takes_nothing_is_named_before_all_else(log):
    """What is answered and can't be written: since the first refusal, whatever the tiers do."""
    await log.append([note(1)])
    log.is_away = True
    began = time.time()
    async with working(log, ScriptedTier()) as (ops, _):
        part = await told(ops, "log")
        log.is_away = False
    assert lately(part, began)
    assert part["until"] is None


async def test_a_call_in_flight_is_no_wait_and_an_empty_topic_neither(log):
    """Being asked is work; nothing to read is rest."""
    tier = GatedTier()
    async with working(log, tier) as (ops, _):
        idle = await told(ops, "nothing_to_read")
        first = (await told(ops, "nothing_to_read"))["since"]
        await log.append([note(1)])
        asked = await told(ops, "asked")
        tier.gate.set()
        again = await told(ops, "nothing_to_read")
    assert not idle["waits"]
    assert not asked["waits"]
    assert first == idle["since"] <= again["since"]
    assert asked["items"] == 1


async def test_since_when_outlasts_the_calls_between(log, simulator):
    """At a limit a tier waits, calls and waits again: that is one spell, and it began with the first."""
    async with claude(simulator, limits={"requests_per_minute": 120}) as (tier, _):
        await log.append([note(number) for number in range(300)])
        began = time.time()
        async with working(log, tier, max_batch_items=2) as (ops, pipeline):
            first = await told(ops, "requests")
            seen = pipeline.counts.calls

            async def more_calls():
                return pipeline.counts.calls >= seen + 3

            await until(more_calls)
            later = await told(ops, "requests")
    assert later["since"] == pytest.approx(first["since"], abs=0.2)
    assert lately(later, began)


# --- where it is read


async def test_metrics_tell_the_same(log, simulator):
    """One series per partition that waits, with the cause and for how long."""
    async with claude(simulator, limits={"requests_per_minute": 2}) as (tier, _):
        await log.append([note(number) for number in range(200)])
        async with working(log, tier) as (ops, _):
            await told(ops, "requests")
            async with aiohttp.ClientSession() as session, session.get(f"{ops.server.url}/metrics") as reply:
                lines = [line for line in (await reply.text()).splitlines() if "partition_waiting_seconds{" in line]
    (line,) = lines
    labels, _, value = line.rpartition(" ")
    for part in ('cause="requests"', 'partition="0"', 'topic="notes"', 'task="labeler"'):
        assert part in labels
    assert float(value) >= 0


async def test_a_worker_leaves_a_note_while_it_runs(log):
    """That is how a machine's workers are found; what a dead one left behind is taken away."""
    async with working(log, ScriptedTier()) as (ops, _):
        assert [(found.url, found.log) for found in register.noted()] == [(ops.server.url, "here")]
        dead = register.place() / "stale.json"
        dead.write_text(json.dumps({"url": "http://127.0.0.1:1", "log": "here", "pid": 2**22 + 5}))
        (register.place() / "broken.json").write_text("{")
        assert len(register.noted()) == 1
        assert not dead.exists()
    assert register.noted() == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
async def test_a_directory_that_others_may_write_is_not_believed(log):
    """Nobody else says where our workers are."""
    async with working(log, ScriptedTier()):
        register.place().chmod(0o777)
        assert register.noted() == []


async def test_status_finds_workers_by_itself_and_by_address(tmp_path, log):
    """On this machine without being told; elsewhere by HOST:PORT. One that is gone is named, and the rest is shown."""
    await log.append([note(1)])
    tier = GatedTier()
    with cli_in(tmp_path) as cli:
        place = ["--log", f"sqlite:{tmp_path / 'events.db'}"]
        pipeline = Pipeline(make_task(tier), [tier], log, PipelineOptions(**QUICK))
        stop = asyncio.Event()
        home = f"sqlite:{(tmp_path / 'events.db').resolve()}"
        async with Ops(OpsOptions(port=0), [pipeline], log, place=home) as ops:
            run = asyncio.create_task(pipeline.run(stop))
            await told(ops, "asked")
            found = await asyncio.to_thread(cli.page, "status", "--json", *place)
            address = ops.server.url.removeprefix("http://")
            named = await asyncio.to_thread(cli, "status", *place, "--worker", address, "--worker", "127.0.0.1:1")
            tier.gate.set()
            stop.set()
            await run
        assert {part["cause"] for part in found["partitions"]} == {"asked", "nothing_to_read"}
        assert found["workers"][0]["pid"] == os.getpid()
        assert "its items are being asked" in named.stdout
        assert "worker http://127.0.0.1:1 did not answer" in named.stderr
        wrong = await asyncio.to_thread(cli, "status", *place, "--worker", "here:there")
        assert (wrong.exit_code, "write HOST:PORT" in wrong.stderr) == (2, True)


async def test_partitions_of_workers_that_were_not_asked_are_named(tmp_path, log):
    """Whoever has them, or that nobody has: lag is never without a reason."""
    tier = ScriptedTier()
    with cli_in(tmp_path) as cli:
        place = ["--log", f"sqlite:{tmp_path / 'events.db'}"]
        pipeline = Pipeline(make_task(tier), [tier], log, PipelineOptions(**QUICK))
        stop = asyncio.Event()
        run = asyncio.create_task(pipeline.run(stop))
        await log.append([note(1)])

        async def done():
            return pipeline.counts.results == 1

        await until(done)
        log.is_away = True
        await log.append([note(2)])

        async def asked():
            return len(tier.calls) == 2

        await until(asked)
        other = await asyncio.to_thread(cli.page, "status", "--json", *place)
        log.is_away = False
        stop.set()
        await run
        await log.append([note(3)])
        nobody = await asyncio.to_thread(cli.page, "status", "--json", *place)
    (part,) = other["partitions"]
    assert (part["cause"], part["waits"], bool(part["worker"])) == ("other_worker", False, True)
    assert [(part["cause"], part["waits"]) for part in nobody["partitions"]] == [("no_worker", True)]


def test_the_explainer_is_read_only():
    """Asking why changes nothing: it has no method but the one that tells."""
    assert [name for name in vars(Explainer) if not name.startswith("_")] == ["explain"]
