"""A call that takes minutes holds up nothing but itself: not its partition, not its neighbours, not after a restart."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from fakes import make_task, running, until
from held_worker import HeldTier
from kafka_broker import session_broker
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.errors import RecordsLost
from penstock.log.base import EventLog, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.state import STATE_TOPIC, read_state
from penstock.log.topics import state_spec
from penstock.record import NewRecord, Partition
from penstock.settings import load_settings
from penstock.wiring import open_log

pytestmark = pytest.mark.slow

HOT = 0
QUICK = PipelineOptions(commit_interval_seconds=0.05)
PATIENCE_SECONDS = 120.0


class Ground:
    """A log with topics of its own, and what a reader of committed records sees in them."""

    def __init__(self, setting: str, name: str, *assignments: str) -> None:
        self.setting, self.name = setting, name
        self.log: EventLog = open_log(load_settings(assignments=[f"log={setting}", *assignments]).settings)
        self.task_options = {
            "reads": name, "writes": f"{name}-results", "dead_letters": f"{name}-dlq", "max_batch_items": 10,
        }  # fmt: skip
        self.ended: Counter[tuple[int, int]] = Counter()
        """(partition, offset) of each result."""
        self.in_order: list[tuple[int, str]] = []
        self._at: dict[Partition, int] = {}

    async def prepare(self) -> None:
        names = [self.name, f"{self.name}-results", f"{self.name}-dlq", "labeler.retry"]
        await self.log.create_topics([TopicSpec(name, partitions=2) for name in names])
        await self.log.create_topics([state_spec()])

    async def send(self, partition: int, texts: list[str], keys: int = 1_000_000) -> None:
        """One event for each text."""
        for first in range(0, len(texts), 2_000):
            await self.log.append(
                [
                    NewRecord(
                        self.name,
                        b"k%d" % (number % keys),
                        json.dumps({"id": f"{partition}-{number}", "text": texts[number]}).encode(),
                        partition=partition,
                    )
                    for number in range(first, min(first + 2_000, len(texts)))
                ]
            )

    async def look(self) -> Counter[tuple[int, int]]:
        """Read the results that are new."""
        for partition in sorted(await self.log.bounds(f"{self.name}-results")):
            while records := await self.log.read(partition, self._at.get(partition, 0), 5_000):
                for record in records:
                    source = json.loads(record.value or b"")["source"]
                    self.ended[source["partition"], source["offset"]] += 1
                    self.in_order.append((source["offset"], (record.key or b"").decode()))
                self._at[partition] = records[-1].offset + 1
        return self.ended

    async def until_ended(self, count: int) -> None:
        async def have_ended() -> bool:
            return len(await self.look()) >= count

        await until(have_ended, PATIENCE_SECONDS)

    async def progress(self) -> OffsetMap:
        """Of the hot partition."""
        return (await self.log.committed("labeler", self.name))[Partition(self.name, HOT)]

    async def has_progress(self) -> bool:
        return bool(await self.log.committed("labeler", self.name))

    async def losses(self) -> list[dict[str, Any]]:
        """What the state topic remembers of records of ours that were deleted unread."""
        found = []
        partition = Partition(STATE_TOPIC, 0)
        at = (await self.log.bounds(STATE_TOPIC))[partition].low
        while records := await self.log.read(partition, at, 1_000):
            found += [state.value for record in records if (state := read_state(record)).kind == "loss"]
            at = records[-1].offset + 1
        return [loss for loss in found if loss and loss["topic"] == self.name]

    def pipeline(self, tier: HeldTier, **options: Any) -> Pipeline:
        return Pipeline(make_task(tier, **self.task_options | options), [tier], self.log, QUICK)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def ground(request, tmp_path) -> AsyncIterator[Ground]:
    setting = f"sqlite:{tmp_path / 'events.db'}" if request.param == "sqlite" else f"kafka:{session_broker().bootstrap}"
    made = Ground(setting, f"hot-{tmp_path.name.replace('[', '-').replace(']', '')}-{id(request):x}")
    await made.prepare()
    yield made
    await made.log.close()


async def test_one_slow_call_holds_up_nothing_but_itself(ground: Ground):
    """Law 3: while one call takes its time, tens of thousands of later offsets of its partition are resolved and visible."""
    await ground.send(HOT, ["hold"] + ["quick"] * 39_999)
    await ground.send(1, ["quick"] * 500)
    tier = HeldTier()
    pipeline = ground.pipeline(tier)
    async with running(pipeline):
        await ground.until_ended(40_500 - 10)  # its call holds nine neighbours
        assert not pipeline.reading().paused
        assert (HOT, 0) not in ground.ended
        assert (await ground.progress()).base == 0
        tier.let()
        await ground.until_ended(40_500)
    assert set(ground.ended.values()) == {1}
    assert await ground.progress() == OffsetMap(40_000)


async def test_with_order_by_key_it_holds_its_key_alone(ground: Ground):
    """Law 3: where order is asked only the results of its own key wait for it, and then come in order."""
    await ground.send(HOT, ["hold"] + ["quick"] * 14_999, keys=100)
    tier = HeldTier()
    async with running(ground.pipeline(tier, order="key", max_batch_items=1)):
        await ground.until_ended(14_850)
        assert {offset % 100 for _, offset in ground.ended} == set(range(1, 100))
        tier.let()
        await ground.until_ended(15_000)
    for key in range(100):
        offsets = [offset for offset, of in ground.in_order if of == f"k{key}"]
        assert offsets == sorted(offsets)


async def test_where_the_map_is_full_the_partition_waits_and_says_so(ground: Ground, caplog):
    """Every second call is slow, the worst for the map: its partition alone is not read on, says so once, and goes on by itself."""
    await ground.send(HOT, ["hold", "quick"] * 14_000)
    tier = HeldTier()
    pipeline = ground.pipeline(tier, max_batch_items=1)

    async with running(pipeline):
        full = await until_full(ground, pipeline)
        assert full.base == 0
        await until(said("no further", caplog), PATIENCE_SECONDS)
        await ground.send(1, ["quick"] * 3_000)
        await ground.until_ended(full.count_above() + 3_000)
        assert sum(partition == 1 for partition, _ in ground.ended) == 3_000
        assert pipeline.reading().oldest_seconds() >= 5
        tier.let()
        await ground.until_ended(31_000)
        await until(said("holds it no more", caplog), PATIENCE_SECONDS)
    assert set(ground.ended.values()) == {1}
    assert [f"{ground.name}/0 no further: its offset 0" in line for line in caplog.messages].count(True) == 1


async def until_full(ground: Ground, pipeline: Pipeline) -> OffsetMap:
    """The hot partition is not read on, and all that is not held is committed: its map is as long as it may be."""

    async def is_full() -> bool:
        if not await ground.has_progress():
            return False
        reading, done = pipeline.reading(), await ground.progress()
        length = len(done.encode("x" * 22))
        assert length <= 4_096
        only_held_are_open = reading.items_in_flight - done.count_above() in (0, 1)  # every second one
        return reading.paused == {"offset_map": 1} and length > 3_900 and only_held_are_open

    await until(is_full, PATIENCE_SECONDS)
    return await ground.progress()


def said(words: str, caplog: pytest.LogCaptureFixture):
    async def is_said() -> bool:
        return words in caplog.text

    return is_said


async def test_a_kill_forgets_nothing_that_is_done_behind_slow_ones(ground: Ground, tmp_path):
    """Laws 1 and 3: a worker killed behind several slow calls is followed by one that asks only what was not resolved."""
    texts = ["hold" if number % 6_000 == 100 else "quick" for number in range(30_000)]
    await ground.send(HOT, texts)
    worker = started(ground, tmp_path)
    try:
        await ground.until_ended(30_000 - 50)
    finally:
        worker.kill()
        worker.wait()
    done = await ground.progress()
    assert (done.base <= 100, done.count_above() > 29_000) == (True, True)
    (tmp_path / "asked").rename(tmp_path / "asked-before")
    (tmp_path / "let").touch()
    worker = started(ground, tmp_path)
    try:
        await ground.until_ended(30_000)
    finally:
        worker.kill()
        worker.wait()
    again = [tuple(map(int, line.split())) for line in (tmp_path / "asked").read_text().splitlines()]
    assert {offset for partition, offset in again if partition == HOT and offset in done} == set()
    assert len(again) <= 50
    assert set((await ground.look()).values()) == {1}


def started(ground: Ground, directory: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "tests/held_worker.py", ground.setting, str(directory), json.dumps(ground.task_options)]
    with (directory / "worker.log").open("ab") as out:
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=out, stderr=out)


async def test_slow_calls_of_two_partitions_end_in_any_order(ground: Ground):
    """Several slow calls in both partitions: whichever ends first, each watermark waits for its own."""
    for partition in (0, 1):
        await ground.send(partition, ["hold" if n in (3, 2_000, 5_000) else "quick" for n in range(6_000)])
    tier = HeldTier()
    async with running(ground.pipeline(tier, max_batch_items=1)):
        await ground.until_ended(12_000 - 6)
        tier.let()
        await ground.until_ended(12_000)
    await asyncio.sleep(0)
    assert set(ground.ended.values()) == {1}
    assert await ground.progress() == OffsetMap(6_000)


@pytest.mark.kafka
@pytest.mark.parametrize("unread_lost", ["stop", "continue"])
async def test_retention_overtakes_a_held_partition(unread_lost: str, caplog):
    """Law 4: what is deleted unread while its partition waits is told with its range; what was read still ends in results."""
    bootstrap = session_broker().bootstrap
    ground = Ground(f"kafka:{bootstrap}", f"kept-{unread_lost}-{id(caplog):x}", f"kafka_log.unread_lost={unread_lost}")
    await ground.prepare()
    await ground.send(HOT, ["hold", "quick"] * 15_000)
    tier = HeldTier()
    pipeline = ground.pipeline(tier, max_batch_items=1)
    work = asyncio.create_task(pipeline.run(asyncio.Event()))
    try:
        await until_full(ground, pipeline)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        next(iter(admin.delete_records([TopicPartition(ground.name, HOT, 29_000)]).values())).result(30)
        tier.let()
        if unread_lost == "stop":
            with pytest.raises(RecordsLost, match=rf"{ground.name}/0, offsets \d+ to 28999, .*unread_lost='continue'"):
                await work
        else:

            async def is_at_the_end() -> bool:
                return (HOT, 29_999) in await ground.look() and (await ground.progress()).base >= 30_000

            await until(is_at_the_end, PATIENCE_SECONDS)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    (loss,) = await ground.losses()
    assert (loss["partition"], loss["stop"], loss["unread"]) == (HOT, 29_000, 29_000 - loss["first"])
    assert pipeline.counts.unread_lost == loss["unread"]
    end = 30_000 if unread_lost == "continue" else loss["first"]
    wanted = {(HOT, offset) for offset in range(end) if not loss["first"] <= offset < loss["stop"]}
    assert set(await ground.look()) == wanted
    assert set(ground.ended.values()) == {1}
    assert f"offsets {loss['first']} to 28999" in caplog.text
    await ground.log.close()


@pytest.mark.kafka
async def test_a_loss_stops_the_worker_only_after_what_it_had_read(caplog):
    """Law 4: records that wait for room in the map of another partition, deleted too meanwhile, are asked before the worker ends."""
    bootstrap = session_broker().bootstrap
    ground = Ground(f"kafka:{bootstrap}", f"kept-aside-{id(caplog):x}")
    await ground.prepare()
    for partition in (HOT, 1):
        await ground.send(partition, ["hold", "quick"] * 15_000)
    tier = HeldTier()
    pipeline = ground.pipeline(tier, max_batch_items=1)
    work = asyncio.create_task(pipeline.run(asyncio.Event()))

    async def both_are_full() -> bool:
        return pipeline.reading().paused == {"offset_map": 2}

    try:
        await until(both_are_full, PATIENCE_SECONDS)
        places = [TopicPartition(ground.name, partition, 29_000) for partition in (HOT, 1)]
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for deleted in admin.delete_records(places).values():
            deleted.result(30)
        tier.let(HOT)
        await until(said("labeler stops: retention deleted", caplog), PATIENCE_SECONDS)
        tier.let()
        with pytest.raises(RecordsLost, match=f"{ground.name}/0"):
            await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    ended = await ground.look()
    assert set(ended.values()) == {1}
    assert len(ended) == pipeline.counts.records
    assert {partition for partition, _ in ended} == {HOT, 1}
    for partition in (HOT, 1):
        offsets = {offset for number, offset in ended if number == partition}
        assert offsets == set(range(len(offsets)))
    await ground.log.close()
