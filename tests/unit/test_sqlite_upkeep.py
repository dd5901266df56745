"""Retention, compaction, and loss that is told (law 4)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from contract.log_fixtures import Worker, all_records, made_topic, polled_until, unique, values
from penstock.errors import LogError, RecordsLost
from penstock.log.base import PartProgress, Progress
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord, Partition

NOW = 1_700_000_000_000
DAY = 24 * 3600 * 1000
QUICK = SqliteOptions(heartbeat_seconds=0.05, session_timeout_seconds=1.0, synchronous="normal")
GOES_ON = SqliteOptions(
    heartbeat_seconds=0.05, session_timeout_seconds=1.0, synchronous="normal", unread_lost="continue"
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path):
    log = SqliteLog(path, options=QUICK, wall_ms=lambda: NOW)
    yield log
    await log.close()


@pytest.fixture
async def forgiving(path):
    log = SqliteLog(path, options=GOES_ON, wall_ms=lambda: NOW)
    yield log
    await log.close()


def aged(topic: str, *days: float) -> list[NewRecord]:
    return [NewRecord(topic, None, b"%d" % n, (), NOW - int(age * DAY), 0) for n, age in enumerate(days)]


def losses(path: Path) -> list[tuple[int, int]]:
    hand = sqlite3.connect(path)
    found = hand.execute("SELECT first_offset, next_offset FROM losses ORDER BY first_offset").fetchall()
    hand.close()
    return found


async def test_old_records_go(log) -> None:
    """What is older than the retention goes, the rest stays, offsets go on; `earliest` starts at what is kept."""
    topic = await made_topic(log, 2, retention_ms=7 * DAY)
    await log.append(aged(topic, *[10] * 2_500, 9, 8, 6, 1))
    await log.enforce_retention(NOW)
    assert values(await all_records(log, topic)) == [b"2502", b"2503"]
    assert (await log.bounds(topic))[Partition(topic, 0)] == (2_502, 2_504)
    assert values(await log.read(Partition(topic, 0), 0, 10)) == [b"2502", b"2503"]
    (position,) = await log.append(aged(topic, 0))
    assert position.offset == 2_504
    worker = await Worker.joined(log, unique("g"), topic)
    assert len(await worker.read_count(3)) == 3


async def test_a_young_record_keeps_what_stands_behind_it(log) -> None:
    """As on Kafka the front decides: no hole is made in the middle of a partition."""
    topic = await made_topic(log, 1, retention_ms=7 * DAY)
    await log.append(aged(topic, 9, 1, 9, 9))
    await log.enforce_retention(NOW)
    assert values(await all_records(log, topic)) == [b"1", b"2", b"3"]


async def test_nothing_goes_without_retention(log) -> None:
    """`retention_ms=None` keeps for ever."""
    topic = await made_topic(log, 1, retention_ms=None)
    await log.append(aged(topic, 5_000, 4_000))
    await log.enforce_retention(NOW)
    assert len(await all_records(log, topic)) == 2


async def test_everything_may_go(log) -> None:
    """A partition whose records are all too old is empty and goes on at its next offset."""
    topic = await made_topic(log, 1, retention_ms=DAY)
    await log.append(aged(topic, 3, 3, 3))
    await log.enforce_retention(NOW)
    assert (await log.bounds(topic))[Partition(topic, 0)] == (3, 3)
    await log.append(aged(topic, 0))
    assert [r.offset for r in await all_records(log, topic)] == [3]


async def test_retention_by_bytes(log) -> None:
    """The oldest go until a partition holds little more than its bytes, never less."""
    topic = await made_topic(log, 1, retention_ms=None, settings={"retention.bytes": "100000"})
    for _ in range(5):
        await log.append([NewRecord(topic, None, b"x" * 1_000)] * 500)
    await log.enforce_retention(NOW)
    held = sum(record.size for record in await all_records(log, topic))
    assert 100_000 <= held < 101_000
    await log.enforce_retention(NOW)
    assert sum(record.size for record in await all_records(log, topic)) == held


async def test_compaction_keeps_the_last_of_a_key(log) -> None:
    """Of each key the last record stays, with its offset and order; readers in the middle go on over the gaps."""
    topic = await made_topic(log, 1, is_compacted=True)
    for n in range(300):
        await log.append([NewRecord(topic, b"key-%d" % (n % 7), b"%d" % n)])
    group = unique("g")
    worker = await Worker.joined(log, group, topic)
    while len(worker.read) < 100:
        await worker.poll(10)
    await log.enforce_retention(NOW)
    assert values(await all_records(log, topic)) == [b"%d" % n for n in range(293, 300)]
    await worker.read_count(len(worker.read) + 7)
    assert values(worker.read[-7:]) == [b"%d" % n for n in range(293, 300)]
    await worker.consumer.commit(worker.progress())
    fresh = await Worker.joined(log, unique("g"), topic)
    assert len(await fresh.read_count(7)) == 7
    assert (await log.bounds(topic))[Partition(topic, 0)] == (0, 300)


async def test_tombstones_stay_a_while(log) -> None:
    """A null value removes what was before it at once, and goes itself when its time is over."""
    topic = await made_topic(log, 1, is_compacted=True, settings={"delete.retention.ms": "1000"})
    await log.append([NewRecord(topic, b"a", b"1", (), NOW), NewRecord(topic, b"a", None, (), NOW)])
    await log.append([NewRecord(topic, b"b", b"2", (), NOW)])
    await log.enforce_retention(NOW)
    assert values(await all_records(log, topic)) == [None, b"2"]
    await log.enforce_retention(NOW + 2_000)
    assert values(await all_records(log, topic)) == [b"2"]


async def test_compacted_topics_want_keys(log) -> None:
    """A record without a key could never be superseded: refused, as Kafka does."""
    topic = await made_topic(log, 1, is_compacted=True)
    with pytest.raises(LogError, match="needs a key"):
        await log.append([NewRecord(topic, None, b"v")])


async def test_unread_records_are_told_before_they_go(log, caplog) -> None:
    """A group's first unread record within a tenth of its retention is warned of, once."""
    caplog.set_level(logging.WARNING, "penstock.log")
    topic, group = await made_topic(log, 1, retention_ms=10 * DAY), unique("g")
    await log.append(aged(topic, 8.9, 8.8))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(2)
    await log.enforce_retention(NOW)
    assert caplog.text == ""
    await log.enforce_retention(NOW + DAY // 5)
    await log.enforce_retention(NOW + DAY // 5)
    assert caplog.text.count(f"group '{group}' has not read {topic}/0 from offset 0 on") == 1
    await worker.consumer.commit(worker.progress())
    caplog.clear()
    await log.enforce_retention(NOW + DAY // 2)
    assert caplog.text == ""


async def read_some(log: SqliteLog, topic: str, group: str, done: OffsetMap) -> None:
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(6)
    await worker.consumer.commit(Progress((PartProgress(Partition(topic, 0), done),)))
    await worker.consumer.close()


async def test_loss_stops_a_worker(log, path, caplog) -> None:
    """Unread records that retention deleted stop the worker with the range and the way out; nothing is passed."""
    topic, group = await made_topic(log, 1, retention_ms=7 * DAY), unique("g")
    await log.append(aged(topic, 9, 9, 9, 9, 1, 1))
    await read_some(log, topic, group, OffsetMap(1, 0b100))
    await log.enforce_retention(NOW)
    worker = await Worker.joined(log, group, topic)
    with pytest.raises(RecordsLost, match=r"deleted 2 unread records .*/0, offsets 1 to 3.*unread_lost='continue'"):
        await polled_until(lambda: False, "the worker stops", worker)
    assert worker.read == []
    assert losses(path) == [(1, 4)]
    assert "deleted 2 unread records" in caplog.text
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(1, 0b100)}


async def test_loss_is_recorded_where_told_to_go_on(log, forgiving, path) -> None:
    """With `unread_lost="continue"` the worker goes on behind the gap; the range stands in the file."""
    topic, group = await made_topic(log, 1, retention_ms=7 * DAY), unique("g")
    await log.append(aged(topic, 9, 9, 9, 9, 1, 1))
    await read_some(log, topic, group, OffsetMap(1))
    await log.enforce_retention(NOW)
    worker = await Worker.joined(forgiving, group, topic)
    assert values(await worker.read_count(2)) == [b"4", b"5"]
    assert worker.owned[Partition(topic, 0)].done == OffsetMap(4)
    assert losses(path) == [(1, 4)]


async def test_what_was_read_is_no_loss(log, path) -> None:
    """Records that the group had done may go: nothing is lost and nobody stops; the map above stays."""
    topic, group = await made_topic(log, 1, retention_ms=7 * DAY), unique("g")
    await log.append(aged(topic, 9, 9, 9, 9, 1, 1))
    await read_some(log, topic, group, OffsetMap(4, 0b10))
    await log.enforce_retention(NOW)
    worker = await Worker.joined(log, group, topic)
    await worker.owns(1)
    assert worker.owned[Partition(topic, 0)].done == OffsetMap(4, 0b10)
    assert losses(path) == []


async def test_retention_may_overtake_a_reader(log, forgiving, path) -> None:
    """Records deleted between two polls of a living worker are loss too: recorded, and reading goes on behind them."""
    topic = await made_topic(log, 1, retention_ms=7 * DAY)
    await log.append(aged(topic, *[9] * 20, 1, 1))
    worker = await Worker.joined(forgiving, unique("g"), topic)
    while len(worker.read) < 5:
        await worker.poll(5)
    await log.enforce_retention(NOW)
    await worker.read_count(7)
    assert [r.offset for r in worker.read] == [0, 1, 2, 3, 4, 20, 21]
    assert losses(path) == [(5, 20)]


async def test_retention_may_overtake_a_strict_reader(log, path) -> None:
    """The same stops a worker that was not told to go on; what it had read is no part of the loss."""
    topic = await made_topic(log, 1, retention_ms=7 * DAY)
    await log.append(aged(topic, *[9] * 20, 1, 1))
    worker = await Worker.joined(log, unique("g"), topic)
    while len(worker.read) < 5:
        await worker.poll(5)
    await log.enforce_retention(NOW)
    with pytest.raises(RecordsLost, match="offsets 5 to 19"):
        await worker.read_count(7)
    assert losses(path) == [(5, 20)]


async def test_every_offset_is_read_or_told(log, forgiving, path) -> None:
    """While retention races with a reader, no offset is passed in silence: it was handed out or stands among the losses."""
    topic, total = await made_topic(log, 1, retention_ms=None, settings={"retention.bytes": "2000"}), 3_000
    worker = await Worker.joined(forgiving, unique("g"), topic)
    await worker.owns(1)

    async def produce_and_delete() -> None:
        for _ in range(total // 20):
            await log.append([NewRecord(topic, None, b"x" * 100)] * 20)
            await log.enforce_retention(NOW)

    deleting = asyncio.create_task(produce_and_delete())
    while worker.at(Partition(topic, 0)) < total:
        await worker.poll(7, 0.01)
    await deleting
    seen = {record.offset for record in worker.read}
    lost = {offset for first, stop in losses(path) for offset in range(first, stop)}
    assert len(seen) == len(worker.read)
    assert not seen & lost
    assert seen | lost == set(range(total))
    assert lost, "the test must lose some"


async def test_upkeep_runs_by_itself(path) -> None:
    """A process that uses the log deletes in the background what is due."""
    options = SqliteOptions(heartbeat_seconds=0.05, upkeep_seconds=0.05, synchronous="normal")
    log = SqliteLog(path, options=options, wall_ms=lambda: NOW)
    topic = await made_topic(log, 1, retention_ms=DAY)
    worker = await Worker.joined(log, unique("g"), topic, start_from="latest")
    await worker.owns(1)
    await worker.consumer.close()
    await log.append(aged(topic, 3, 3, 0))
    probe = await Worker.joined(log, unique("probe"), await made_topic(log, 1))
    remaining: list[int] = []

    async def look() -> None:
        remaining[:] = [r.offset for r in await all_records(log, topic)]

    while remaining != [2]:
        await look()
        await probe.poll()
    await log.close()
