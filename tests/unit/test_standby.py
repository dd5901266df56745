"""More workers than partitions: said once, by name, and only where it is so."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from fakes import ScriptedTier, make_task
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.errors import LogUnavailable, SettingsError
from penstock.log.base import GroupMember, TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.topics import topic_specs
from penstock.ops.standby import SETTLED_LOOKS, Standby
from penstock.record import Partition

QUICK = PipelineOptions(commit_interval_seconds=0.01, drain_seconds=5.0)
QUIET = SqliteOptions(session_timeout_seconds=60.0)


class Unwilling(SqliteLog):
    """A log that says nothing about its groups when a test says so."""

    refusal: Exception | None = None
    refused = 0

    async def groups(self):
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal
        return await super().groups()


@asynccontextmanager
async def working(path):
    """A worker's pipeline at work on a log of its own."""
    log, tier = Unwilling(path, options=QUIET), ScriptedTier()
    pipeline, stop = Pipeline(make_task(tier), [tier], log, QUICK), asyncio.Event()
    run = asyncio.create_task(pipeline.run(stop))
    try:
        yield log, pipeline, stop, run
    finally:
        stop.set()
        await asyncio.gather(run, return_exceptions=True)
        await log.close()


async def made(path, partitions):
    log = SqliteLog(path, options=QUIET)
    specs = topic_specs(make_task(ScriptedTier()), partitions)
    await log.create_topics([TopicSpec(s.name, s.partitions, s.retention_ms, s.is_compacted) for s in specs])
    await log.close()


def inputs(pipeline):
    return sum(partition.topic == "notes" for partition in pipeline.positions())


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_worker_that_is_one_too_many_says_so_once(tmp_path, caplog):
    """Group, members and partitions are named; whoever has work says nothing; when one leaves, the spare one takes over."""
    await made(tmp_path / "one.db", partitions=1)
    caplog.set_level(logging.INFO, "penstock.ops")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(tmp_path / "one.db")) for _ in range(2)]
        await until(lambda: sorted(inputs(p) for _, p, _, _ in workers) == [0, 1])
        await until(lambda: all(p.reading().has_joined for _, p, _, _ in workers))
        spare, busy = sorted(workers, key=lambda worker: inputs(worker[1]))
        standby = Standby(spare[0], [spare[1]])
        for _ in range(3):
            await standby.look()
            await Standby(busy[0], [busy[1]]).look()
        (line,) = caplog.messages
        for part in ("group labeler has 2 members", "notes has 1 partition", "stands by", "Stop it"):
            assert part in line
        caplog.clear()
        busy[2].set()
        await busy[3]
        await until(lambda: inputs(spare[1]) == 1)
        await standby.look()
        assert caplog.messages == ["labeler: this worker has partitions of notes now"]


async def test_as_many_workers_as_partitions_say_nothing(tmp_path, caplog):
    """Nobody is one too many while everybody has a share."""
    await made(tmp_path / "two.db", partitions=2)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(tmp_path / "two.db")) for _ in range(2)]
        await until(lambda: [inputs(p) for _, p, _, _ in workers] == [1, 1])
        for log, pipeline, _, _ in workers:
            await Standby(log, [pipeline]).look()
    assert not [record for record in caplog.records if record.name == "penstock.ops"]


async def test_partitions_on_their_way_are_no_reason(tmp_path, caplog):
    """A worker that has joined and owns nothing yet is not one too many where the group has room for it."""
    await made(tmp_path / "three.db", partitions=3)
    async with AsyncExitStack() as stack:
        _, first, _, _ = await stack.enter_async_context(working(tmp_path / "three.db"))
        await until(lambda: inputs(first) == 3)
        log, late, _, _ = await stack.enter_async_context(working(tmp_path / "three.db"))
        await until(lambda: late.reading().has_joined)
        standby = Standby(log, [late])
        async with asyncio.timeout(20):
            while not inputs(late):
                await standby.look()
    assert not [record for record in caplog.records if record.name == "penstock.ops"]


class Skewed(SqliteLog):
    """A log whose group is shared out as a test says."""

    owned: tuple[list[Partition], ...] = ()

    async def groups(self):
        return {"labeler": [GroupMember(f"member-{n}", tuple(owned)) for n, owned in enumerate(self.owned)]}


@dataclass
class Owner:
    """A pipeline that owns these partitions."""

    owned: list[Partition]
    task = make_task(ScriptedTier())

    def positions(self):
        return dict.fromkeys(self.owned, 0)

    def reading(self):
        return SimpleNamespace(has_joined=True, is_draining=False)


async def test_a_worker_beside_the_events_says_so_once(tmp_path, caplog):
    """It owns only the retry topic's partitions, and that stays so: said once; not while the input's are on their way or one looks only."""
    await made(tmp_path / "four.db", partitions=4)
    caplog.set_level(logging.INFO, "penstock.ops")
    log = Skewed(tmp_path / "four.db", options=QUIET)
    events, retry = [Partition("notes", number) for number in range(4)], [Partition("labeler.retry", 0)]
    pipeline = Owner(retry)
    standby = Standby(log, [pipeline])
    for shared_out in ((events[:3], retry), (events, retry)):
        log.owned = shared_out
        for _ in range(SETTLED_LOOKS - 1):
            await standby.look()
    assert not caplog.messages
    for _ in range(3):
        await standby.look()
    (line,) = caplog.messages
    for part in ("labeler.retry", "none of notes", "kafka_log.group_protocol=consumer"):
        assert part in line
    caplog.clear()
    pipeline.owned = [*retry, events[0]]
    await standby.look()
    assert caplog.messages == ["labeler: this worker has partitions of notes now"]
    await log.close()


REFUSALS = [(LogUnavailable("away"), 0), (SettingsError("no right to look"), 1), (RuntimeError("a fault of ours"), 1)]


@pytest.mark.parametrize(("refusal", "lines"), REFUSALS)
async def test_what_the_log_does_not_tell_stops_nobody(tmp_path, caplog, refusal, lines):
    """Weather is asked again; a right that is missing, or a fault of ours, is said once; the next look is as good as any."""
    await made(tmp_path / "one.db", partitions=1)
    caplog.set_level(logging.WARNING, "penstock.ops")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(tmp_path / "one.db")) for _ in range(2)]
        await until(lambda: sorted(inputs(p) for _, p, _, _ in workers) == [0, 1])
        await until(lambda: all(p.reading().has_joined for _, p, _, _ in workers))
        log, pipeline, _, _ = min(workers, key=lambda worker: inputs(worker[1]))
        log.refusal = refusal
        standby = Standby(log, [pipeline])
        for _ in range(3):
            await standby.look()
        assert len(caplog.messages) == lines
        async with Standby(log, [pipeline], look_seconds=0.01):
            await until(lambda: log.refused > 4)
            log.refusal = None
            await until(lambda: any("stands by" in message for message in caplog.messages))
