"""Commits whose waiter is cut off while the log has the act: what it wrote counts once, and nothing of it is waste (laws 1, 2, 9)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from fakes import ScriptedTier, make_task, note, until
from penstock import Partition
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC, read_state
from penstock.log.topics import state_spec

EVENTS = 20
OPTIONS = PipelineOptions(commit_interval_seconds=1.0, drain_seconds=5.0, batch=BatchLimits(max_wait_seconds=0.01))


class SlowConsumer:
    """The log's own, but an act that it was given goes on whoever waits for it, and ends when the gate opens: as on a slow broker."""

    def __init__(self, consumer, log):
        self._consumer, self._log = consumer, log
        self._acts = asyncio.Lock()

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    async def commit(self, progress):
        await asyncio.shield(asyncio.ensure_future(self._act(progress)))

    async def _act(self, progress):
        async with self._acts:
            self._log.under_way += 1
            await self._log.gate.wait()
            await self._consumer.commit(progress)


class SlowLog(SqliteLog):
    """A log whose commits wait for a gate."""

    under_way = 0

    async def join(self, *arguments, **options):
        return SlowConsumer(await super().join(*arguments, **options), self)


@pytest.fixture
async def log(tmp_path):
    log = SlowLog(tmp_path / "events.db")
    log.gate = asyncio.Event()
    log.gate.set()
    names = ("notes", "labeler-results", "labeler-dlq", "labeler.retry")
    await log.create_topics([*(TopicSpec(name, partitions=2) for name in names), state_spec()])
    yield log
    await log.close()


async def everything(log, topic):
    found = []
    for partition, bounds in (await log.bounds(topic)).items():
        found += await log.read(partition, bounds.low, 10_000)
    return found


async def assert_once_and_paid_for(log, pipeline, tier, events):
    """Each event has one result, and what was billed stands on the results: none of it is called waste."""
    results = [json.loads(record.value) for record in await everything(log, "labeler-results")]
    ended = Counter((result["source"]["partition"], result["source"]["offset"]) for result in results)
    assert (len(ended), set(ended.values())) == (events, {1})
    states = [read_state(record) for record in await everything(log, STATE_TOPIC)]
    assert [state.value for state in states if state.kind == "waste"] == []
    assert (pipeline.counts.waste_nanousd, pipeline.counts.nanousd) == (0, tier.billed_nanousd)


async def at_work(log):
    """A pipeline that has written one result, and rests for a second before it writes the next ones."""
    tier = ScriptedTier()
    pipeline = Pipeline(make_task(tier), [tier], log, OPTIONS)
    stop = asyncio.Event()
    work = asyncio.create_task(pipeline.run(stop))
    await log.append([note(EVENTS)])
    await until(lambda: _is(pipeline.counts.results == 1))
    return tier, pipeline, stop, work


async def _is(what):
    return what


async def test_a_revoke_past_its_deadline_doubles_nothing_and_wastes_nothing(log):
    """One partition is taken in the midst of an act that covers another one, too: both are written once."""
    tier, pipeline, stop, work = await at_work(log)
    log.gate.clear()
    log.under_way = 0
    await log.append([note(number) for number in range(EVENTS)])
    await until(lambda: _is(len(tier.calls) > 1 and not pipeline._calls))
    leaving = asyncio.create_task(pipeline.revoked([Partition("notes", 0)], time.monotonic() + 0.2))
    await until(lambda: _is(log.under_way == 1))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    log.gate.set()
    await until(lambda: _is(pipeline.counts.results == EVENTS + 1))
    stop.set()
    await work
    await assert_once_and_paid_for(log, pipeline, tier, EVENTS + 1)


async def test_a_worker_that_is_told_twice_to_stop_wastes_nothing_that_the_log_has(log):
    """The second signal ends its waiting, not the act: what that wrote is no waste."""
    tier, pipeline, stop, work = await at_work(log)
    log.gate.clear()
    log.under_way = 0
    await log.append([note(number) for number in range(EVENTS)])
    await until(lambda: _is(len(tier.calls) > 1 and not pipeline._calls))
    stop.set()
    await until(lambda: _is(log.under_way == 1))
    work.cancel()
    await asyncio.sleep(0.1)
    log.gate.set()
    await asyncio.gather(work, return_exceptions=True)
    await assert_once_and_paid_for(log, pipeline, tier, EVENTS + 1)
