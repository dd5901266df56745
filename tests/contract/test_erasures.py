"""A deletion erases on every log: behind its last tombstone nothing comes back, and a compacted topic loses the text itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from contract.log_fixtures import all_records, eventually, unique
from fakes import Note, ScriptedTier, make_task, note, running, until
from penstock import Erase, NewRecord, Record, Task
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.erasure import read_erasure
from penstock.log.base import EventLog, TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.topics import state_spec

SECRET = "Ada Lovelace lives at 12 Example Street"
PARTITIONS = 3
OPTIONS = PipelineOptions(
    commit_interval_seconds=0.02,
    drain_seconds=10.0,
    batch=BatchLimits(max_wait_seconds=0.01),
    retry=RetryOptions(first_seconds=0.05, hand_over_after_seconds=0.1),
)


class Diary(Note):
    """An entry that its writer may withdraw."""

    kind: str = "written"


def read_entry(record: Record, model: type[Diary]) -> Diary:
    entry = model.model_validate_json(record.value or b"")
    if entry.kind == "deleted":
        raise Erase("withdrawn", subject=entry.text.split()[-1])
    return entry


async def task_on(log: EventLog, tier: ScriptedTier, **results: Any) -> Task[Any, Any]:
    """A task with topics of its own; `results`: what the results topic is like."""
    name = unique("eraser")
    task = make_task(tier, input=Diary, decode=read_entry, reads=f"{name}-in", writes=f"{name}-out")
    task = replace(task, name=name, dead_letters=f"{name}-dlq")
    plain = [TopicSpec(topic, PARTITIONS) for topic in (task.reads, task.dead_letters, task.retry_topic)]
    state = state_spec()
    await log.create_topics([*plain, TopicSpec(task.writes, PARTITIONS, **results), state])
    return task


def entry(task: Task[Any, Any], number: int, **more: Any) -> NewRecord:
    return note(number, key=f"k{number}", topic=task.reads, **more)


def deletion(task: Task[Any, Any], number: int) -> NewRecord:
    return note(100 + number, key=f"k{number}", topic=task.reads, kind="deleted", text=f"withdraw n{number}")


async def told(log: EventLog, topic: str) -> list[str]:
    return [
        f"-{erasure.subject}" if (erasure := read_erasure(record)) else json.loads(record.value or b"{}")["event_id"]
        for record in await all_records(log, topic)
    ]


async def settle(log: EventLog, task: Task[Any, Any]) -> None:
    """Until the group is at the end of all that it reads."""

    async def is_done() -> bool:
        for topic in task.topics:
            done = await log.committed(task.group, topic)
            for partition in await log.bounds(topic):
                records = await log.read(partition, done[partition].base if partition in done else 0, 10)
                if records:
                    return False
        return True

    await eventually(is_done, "the group reads everything to its end")


async def test_a_deletion_erases_what_was_published_and_what_is_parked(open_log):
    """Results and letters are told by tombstones under the same key; a hand-over before the deletion gives no result."""
    log, other = open_log(), open_log()
    parked = {"n1"}

    def script(tier, items):
        return [
            tier.again("server_error", after_seconds=3.0) if item.event_id in parked else tier.answer_of(item)
            for item in items
        ]

    tier = ScriptedTier(script=script)
    task = await task_on(log, tier)
    pipeline = Pipeline(task, [tier], log, OPTIONS)
    await other.append([entry(task, n) for n in (1, 2, 3)])

    async def published() -> bool:
        return pipeline.counts.results == 2 and pipeline.counts.hand_overs == 1

    async with running(pipeline):
        await until(published, 60)
        parked.clear()
        await other.append([deletion(task, 1), deletion(task, 2)])
        await settle(other, task)
    found = await told(other, task.writes)
    assert {"-n1", "-n2", "n2", "n3"} == set(found)
    assert found.index("n2") < found.index("-n2")
    assert set(await told(other, task.dead_letters)) == {"-n1", "-n2"}
    results = {r.key: r.partition for r in await all_records(other, task.writes) if r.value is not None}
    erased = {r.key: r.partition for r in await all_records(other, task.writes) if r.value is None}
    assert erased[b"k2"] == results[b"k2"], "a reader of the partition sees both, in their order"
    assert pipeline.counts.erased == 2


async def test_a_compacted_results_topic_loses_the_text(log):
    """Where the key names what is deleted, the log itself deletes it: the tombstone takes the result with it."""
    tier = ScriptedTier()
    quick = {"segment.ms": "500", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}
    task = await task_on(log, tier, is_compacted=True, settings=quick if not isinstance(log, SqliteLog) else {})
    pipeline = Pipeline(task, [tier], log, OPTIONS)
    await log.append([entry(task, 1, text=SECRET), entry(task, 2)])

    async def holds(text: str) -> bool:
        return any(text.encode() in (record.value or b"") for record in await all_records(log, task.writes))

    async with running(pipeline):
        await until(lambda: holds(SECRET), 60)
        await log.append([deletion(task, 1)])
        await settle(log, task)

    async def is_gone() -> bool:
        # The segment that is written to is never cleaned: something must come behind it.
        await log.append([NewRecord(task.writes, b"later", b"{}", partition=n) for n in range(PARTITIONS)])
        if isinstance(log, SqliteLog):
            await log.enforce_retention()
        else:
            await asyncio.sleep(0.5)
        return not await holds(SECRET)

    await eventually(is_gone, "compaction deletes the result")
    assert await holds("note 2"), "and nothing else"
