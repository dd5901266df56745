"""The judge itself: it must see a loss, a double and an unexplained call, and must not cry wolf."""

from __future__ import annotations

import json

import pytest

from fakes import ScriptedTier, make_task, note
from penstock import NewRecord, Partition, Position
from penstock.demo.judge import Judge
from penstock.erasure import Erasure
from penstock.log.base import PartProgress, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog

P = Partition("notes", 0)


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    await log.create_topics(
        [TopicSpec(n, 1) for n in ("notes", "labeler-results", "labeler-dlq", "labeler.retry", "penstock-state")]
    )
    yield log
    await log.close()


class Idle:
    async def assigned(self, assignments): ...
    async def revoked(self, partitions, deadline): ...
    async def lost(self, partitions): ...

    async def passed(self, losses): ...


def result(offset: int, *, call: str = "c1", nanousd: int = 5) -> NewRecord:
    value = {
        "task": "labeler", "event_id": f"n{offset}", "nanousd": nanousd, "calls": [[call, nanousd]], "simulated": True,
        "source": {"topic": "notes", "partition": 0, "offset": offset},
    }  # fmt: skip
    return NewRecord("labeler-results", None, json.dumps(value).encode())


def row(call: str, items: int, nanousd: int, seq: int = 1) -> dict:
    return {"seq": seq, "request_id": call, "items": items, "nanousd": nanousd, "ended_ms": 1_000 * seq}


async def judged(log, done: OffsetMap, appends: tuple[NewRecord, ...], rows: list[dict] = []):  # noqa: B006
    consumer = await log.join("labeler", ["notes"], Idle(), start_from="earliest")
    while not await consumer.poll(10, 0.5):
        pass
    await consumer.commit(Progress((PartProgress(P, done, appends),)))
    await consumer.close()

    async def ledger(after: int) -> list[dict]:
        return [r for r in rows if r["seq"] > after]

    judge = Judge(log, [make_task(ScriptedTier())], ledger)
    await judge.look()
    return await judge.look()


async def test_what_is_done_without_an_ending_is_lost(log):
    """Progress that passes an event without result or dead letter is seen, a tombstone of nothing is not taken for one."""
    await log.append([note(0), note(1), note(2)._replace(key=None, value=None), note(3)])
    found = await judged(log, OffsetMap(3), (result(0),))
    task = found.tasks["labeler"]
    assert (task.lost, task.ended, task.skipped, task.open, task.doubled) == (1, 1, 1, 1, 0)


async def test_a_second_ending_is_doubled(log):
    """Two results of one event count once as ended and once as doubled."""
    await log.append([note(0)])
    found = await judged(log, OffsetMap(1), (result(0), result(0, call="c2")))
    assert (found.tasks["labeler"].doubled, found.tasks["labeler"].ended) == (1, 1)


async def test_an_ending_read_before_its_event_is_neither_lost_nor_doubled(log):
    """Events that arrive while the judge reads are matched at its next look."""
    judge = Judge(log, [make_task(ScriptedTier())])
    await log.append([result(0)])
    assert (await judge.look()).tasks["labeler"].doubled == 0
    await log.append([note(0)])
    task = (await judge.look()).tasks["labeler"]
    assert (task.lost, task.doubled, task.ended, task.open) == (0, 0, 1, 0)


async def test_calls_on_no_record_are_paid_again_or_unconfirmed(log):
    """Money is matched call by call: what is billed and stands on no record is told with its items."""
    await log.append([note(0), note(1)])
    rows = [row("c1", 1, 5), row("c2", 3, 21, seq=2), row("c3", 1, 0, seq=30)]
    found = await judged(log, OffsetMap(1), (result(0),), rows)
    assert (found.billed_nanousd, found.recorded_nanousd, found.unconfirmed_nanousd) == (26, 5, 21)
    assert (found.unaccounted_items, found.paid_again) == (3, 3)


def erased(offset: int, key: str, topic: str = "labeler-results") -> NewRecord:
    erasure = Erasure(f"e{offset}", "labeler", "", Position("notes", 0, offset), 0, key.encode(), None)
    return NewRecord(topic, key.encode(), None, erasure.headers())


async def test_a_deletion_without_tombstones_is_lost(log):
    """A tombstone in the input that the group has passed must stand in the results, with the same key."""
    await log.append([note(0, key="a")._replace(value=None), note(1, key="b")._replace(value=None)])
    found = await judged(log, OffsetMap(2), (erased(0, "a"), erased(0, "a", "labeler-dlq"), erased(0, "a")))
    task = found.tasks["labeler"]
    assert (task.lost, task.erased, task.skipped, task.doubled, task.ended) == (1, 1, 1, 0, 0)


async def test_what_was_erased_in_flight_is_not_lost(log):
    """What stands before a deletion and has its key needs no ending; what stands behind it or has another does."""
    await log.append([note(0, key="a"), note(1, key="b"), note(2, key="a")._replace(value=None), note(3, key="a")])
    found = await judged(log, OffsetMap(4), (erased(2, "a"),))
    task = found.tasks["labeler"]
    assert (task.lost, task.erased, task.skipped, task.open) == (2, 1, 2, 0)


async def test_what_was_erased_while_parked_is_open_until_the_retry_topic_has_passed_it(log):
    """A hand-over is no ending; a copy of the erasure behind it is, as soon as the group is past that copy."""
    await log.append([note(0, key="a"), note(1, key="a")._replace(value=None)])
    place = {"topic": "notes", "partition": "0", "offset": "0"}
    headers = tuple((f"penstock.retry.{name}", text.encode()) for name, text in place.items())
    parked = note(0, key="a", topic="labeler.retry")._replace(headers=headers)
    acts = (parked, erased(1, "a"), erased(1, "a", "labeler.retry"))
    found = await judged(log, OffsetMap(2), acts)
    task = found.tasks["labeler"]
    assert (task.lost, task.erased, task.skipped) == (0, 1, 1)
    consumer = await log.join("labeler", ["labeler.retry"], Idle(), start_from="earliest")
    while not await consumer.poll(10, 0.5):
        pass
    await consumer.commit(Progress((PartProgress(Partition("labeler.retry", 0), OffsetMap(2)),)))
    await consumer.close()
    judge = Judge(log, [make_task(ScriptedTier())])
    assert (await judge.look()).tasks["labeler"].skipped == 2


async def test_an_ending_of_an_event_that_nobody_produced_is_told(log):
    """Beyond the end of its partition, or in one that there is not: it has ended nothing, and hides no open event."""
    await log.append([note(0), note(1)])
    foreign = result(7)._replace(value=result(7).value.replace(b'"partition": 0', b'"partition": 5'))
    found = await judged(log, OffsetMap(1), (result(0), result(9), foreign))
    task = found.tasks["labeler"]
    assert (task.unproduced, task.ended, task.doubled, task.open, task.results) == (2, 1, 0, 1, 3)


async def test_an_ending_in_a_gap_between_events_is_no_double(log):
    """Offsets that hold no event (markers of transactions, what compaction took) can have no ending."""

    class Gapped(SqliteLog):
        async def read(self, partition, offset, max_records):
            found = await super().read(partition, offset, max_records)
            return [record for record in found if (record.topic, record.offset) != ("notes", 1)]

    await log.append([note(n) for n in range(3)])
    gapped = Gapped(log.path)
    await gapped.append([result(0), result(1), result(2)])
    judge = Judge(gapped, [make_task(ScriptedTier())])
    await judge.look()
    task = (await judge.look()).tasks["labeler"]
    assert (task.unproduced, task.ended, task.doubled) == (1, 2, 0)
    await gapped.close()
