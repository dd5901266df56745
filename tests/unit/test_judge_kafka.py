"""The judge on a log as Kafka is: markers take offsets, and the records of an act appear one by one after its progress."""

from __future__ import annotations

import pytest

from fakes import ScriptedTier, make_task, note
from penstock import Partition
from penstock.demo.judge import Judge
from penstock.log.base import Bounds, PartProgress, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog
from penstock.log.topics import topic_specs
from penstock.record import NewRecord

P = Partition("notes", 0)


class LikeKafka(SqliteLog):
    """An open transaction hides what stands in the results from readers; its end is a marker behind it."""

    is_open = False
    markers = 0
    reads = 0

    async def bounds(self, topic):
        found = await super().bounds(topic)
        added = self.markers if topic == "labeler-results" else 0
        return {p: Bounds(kept.low, kept.high + added) for p, kept in found.items()}

    async def read(self, partition, offset, max_records):
        self.reads += 1
        if self.is_open and partition.topic == "labeler-results":
            return []
        return await super().read(partition, offset, max_records)


class Idle:
    async def assigned(self, assignments): ...
    async def revoked(self, partitions, deadline): ...
    async def lost(self, partitions): ...
    async def passed(self, losses): ...


@pytest.fixture
async def log(tmp_path):
    log = LikeKafka(tmp_path / "events.db")
    specs = topic_specs(make_task(ScriptedTier()), 1)
    await log.create_topics([TopicSpec(s.name, 1, s.retention_ms, s.is_compacted) for s in specs])
    yield log
    await log.close()


def result(offset):
    value = (
        b'{"task":"labeler","event_id":"n","nanousd":5,"calls":[["c1",5]],"simulated":true,'
        b'"source":{"topic":"notes","partition":0,"offset":%d}}' % offset
    )
    return NewRecord("labeler-results", None, value)


async def answered(log, count):
    """So many events, their progress and their results."""
    await log.append([note(n) for n in range(count)])
    consumer = await log.join("labeler", ["notes"], Idle(), start_from="earliest")
    while not await consumer.poll(10, 0.5):
        pass
    await consumer.commit(Progress((PartProgress(P, OffsetMap(count), tuple(result(n) for n in range(count))),)))
    await consumer.close()


async def test_results_behind_an_open_transaction_are_neither_lost_nor_missed(log):
    """Progress is seen first: it waits for the records, and takes each of them once when they appear."""
    await answered(log, 3)
    log.is_open = True
    judge = Judge(log, [make_task(ScriptedTier())], settle_seconds=60.0)
    for _ in range(5):
        found = (await judge.look()).tasks["labeler"]
        assert (found.ended, found.lost) == (0, 0)
    log.is_open, log.markers = False, 1
    for _ in range(3):
        found = (await judge.look()).tasks["labeler"]
        assert (found.ended, found.lost, found.doubled, found.results) == (3, 0, 0, 3)


async def test_what_never_appears_is_lost_in_the_end(log):
    """Patience is no excuse: progress without an ending is told once its time is over."""
    await answered(log, 2)
    log.is_open = True
    judge = Judge(log, [make_task(ScriptedTier())], settle_seconds=0.0)
    assert (await judge.look()).tasks["labeler"].lost == 2


async def test_markers_at_the_end_are_not_read_for_ever(log):
    """A partition whose last offsets show no record costs no question once that is known."""
    await answered(log, 2)
    log.markers = 1
    judge = Judge(log, [make_task(ScriptedTier())], settle_seconds=60.0)
    for _ in range(4):
        await judge.look()
    log.reads = 0
    await judge.look()
    assert log.reads == 0


async def test_an_ending_of_a_marker_is_told_once_the_partition_is_read_to_its_end(log):
    """The last offsets are a transaction's marker: an ending that names one is of no event, and a late event is none such."""

    class Marked(LikeKafka):
        async def bounds(self, topic):
            found = await super().bounds(topic)
            added = self.markers if topic == "notes" else 0
            return {p: Bounds(kept.low, kept.high + added) for p, kept in found.items()}

    marked = Marked(log.path)
    await marked.append([note(0), result(0), result(1)])
    marked.markers = 1
    judge = Judge(marked, [make_task(ScriptedTier())])
    for _ in range(4):
        found = (await judge.look()).tasks["labeler"]
    assert (found.ended, found.unproduced, found.doubled) == (1, 1, 0)
    await marked.close()
