"""The contract of the event log, second part: one act of progress, and where a group begins (laws 2, 3)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contract.log_fixtures import Worker, all_records, eventually, made_topic, numbered, unique, values
from penstock.errors import LogError, TopicMissing
from penstock.log.base import PartProgress, Progress
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition


async def test_commit_is_one_act(log, open_log):
    """Results, progress of several partitions and map become visible with the commit, none before; restart finds them."""
    topic, results = await made_topic(log, 2), await made_topic(log, 1)
    await log.append(numbered(topic, 6) + numbered(topic, 6, partition=1))
    group = unique("g")
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(12)
    assert await all_records(log, results) == []
    first, second = Partition(topic, 0), Partition(topic, 1)
    await worker.consumer.commit(
        Progress(
            (
                PartProgress(first, OffsetMap(2, 0b1010), (NewRecord(results, b"a", b"1"),)),
                PartProgress(second, OffsetMap(6), (NewRecord(results, b"b", b"2"), NewRecord(results, b"c", b"3"))),
            ),
            (NewRecord(results, b"w", b"waste"),),
        )
    )

    async def is_visible() -> bool:
        return sorted(values(await all_records(open_log(), results))) == [b"1", b"2", b"3", b"waste"]

    await eventually(is_visible, "all four results are visible")
    assert await open_log().committed(group, topic) == {first: OffsetMap(2, 0b1010), second: OffsetMap(6)}


async def test_refused_commit_writes_nothing(log):
    """Where one record of a commit cannot be written, no result, no progress and no map of it is."""
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    await log.append(numbered(topic, 3))
    group = unique("g")
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(3)
    before = await log.committed(group, topic)
    with pytest.raises(TopicMissing):
        await worker.consumer.commit(
            worker.progress(NewRecord(results, b"k", b"v"), NewRecord(unique("no"), b"k", b"v"))
        )
    assert await log.committed(group, topic) == before
    await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"again")))
    assert values(await all_records(log, results)) == [b"again"]


async def test_appends_alone(log):
    """A progress without parts (waste) is written too."""
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.owns(1)
    await worker.consumer.commit(Progress((), (NewRecord(results, b"k", b"waste"),)))
    assert values(await all_records(log, results)) == [b"waste"]


async def test_map_and_watermark_survive_a_restart(log, open_log):
    """A new worker gets watermark and map exactly as committed and reads from the watermark on."""
    topic, group = await made_topic(log, 2), unique("g")
    await log.append(numbered(topic, 10) + numbered(topic, 4, partition=1))
    partition = Partition(topic, 0)
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(14)
    done = OffsetMap(3, 0b1101110)
    await worker.consumer.commit(Progress((PartProgress(partition, done),)))
    await worker.consumer.close()
    again = await Worker.joined(open_log(), group, topic)
    await again.owns(2)
    assert again.owned[partition].done == done
    assert not again.owned[partition].is_new
    await again.read_count(11)
    assert [r.offset for r in again.read if r.partition == 0] == list(range(3, 10))


async def test_map_at_the_size_limit(log, open_log):
    """A map as long as the limit allows survives a restart; one that is longer is refused and nothing is written."""
    topic, group = await made_topic(log, 1), unique("g")
    partition = Partition(topic, 0)
    for _ in range(13):
        await log.append([NewRecord(topic, None, b"", partition=0)] * 2_000)
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(26_000)
    topic_id = (await log.topics())[topic].id
    limit = worker.consumer.max_metadata_bytes
    span = 20_000
    while len(OffsetMap(0, alternating(span + 100)).encode(topic_id)) <= limit:
        span += 100
    too_long = OffsetMap(0, alternating(25_990))
    with pytest.raises(LogError):
        await worker.consumer.commit(Progress((PartProgress(partition, too_long),)))
    done = OffsetMap(0, alternating(span))
    await worker.consumer.commit(Progress((PartProgress(partition, done),)))
    await worker.consumer.close()
    again = await Worker.joined(open_log(), group, topic)
    await again.owns(1)
    assert again.owned[partition].done == done


def alternating(span: int) -> int:
    return int("10" * (span // 2), 2)


async def test_progress_moves_forward_only(log):
    """A commit below what is committed is refused: nothing done is ever forgotten."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 10))
    partition = Partition(topic, 0)
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(10)
    await worker.consumer.commit(Progress((PartProgress(partition, OffsetMap(5, 0b110)),)))
    for backwards in (OffsetMap(4), OffsetMap(5), OffsetMap(6, 0b100)):
        with pytest.raises(LogError):
            await worker.consumer.commit(Progress((PartProgress(partition, backwards),)))
    assert await log.committed(group, topic) == {partition: OffsetMap(5, 0b110)}
    await worker.consumer.commit(Progress((PartProgress(partition, OffsetMap(8)),)))
    assert await log.committed(group, topic) == {partition: OffsetMap(8)}


async def test_earliest(log):
    """`earliest`: a new group reads everything that is kept, and knows that it is new."""
    topic = await made_topic(log, 2)
    await log.append(numbered(topic, 5) + numbered(topic, 5, partition=1))
    worker = await Worker.joined(log, unique("g"), topic, start_from="earliest")
    await worker.read_count(10)
    assert all(a.is_new and a.done == OffsetMap(0) for a in worker.owned.values())


async def test_latest(log):
    """`latest`: a new group reads only what comes after it was assigned."""
    topic = await made_topic(log, 1)
    await log.append(numbered(topic, 5))
    worker = await Worker.joined(log, unique("g"), topic, start_from="latest")
    await worker.owns(1)
    await log.append(numbered(topic, 5, first=5))
    assert values(await worker.read_count(5)) == [b"5", b"6", b"7", b"8", b"9"]


async def test_latest_is_decided_once(log, open_log):
    """Where `latest` was is kept from the first assignment on: what comes before the first commit is not skipped by a restart."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 3))
    worker = await Worker.joined(log, group, topic, start_from="latest")
    await worker.owns(1)
    await worker.consumer.close()
    await log.append(numbered(topic, 3, first=3))
    again = await Worker.joined(open_log(), group, topic, start_from="latest")
    assert values(await again.read_count(3)) == [b"3", b"4", b"5"]


async def test_start_at_a_time(log):
    """A datetime: a new group begins with the first record that is not older."""
    topic = await made_topic(log, 1)
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    ms = int(start.timestamp() * 1000)
    await log.append([NewRecord(topic, b"k", b"%d" % n, timestamp_ms=ms + (n - 3) * 1_000) for n in range(6)])
    worker = await Worker.joined(log, unique("g"), topic, start_from=start)
    assert values(await worker.read_count(3)) == [b"3", b"4", b"5"]


async def test_start_from_is_for_new_groups_only(log, open_log):
    """A group that has offsets goes on there, whatever `start_from` says now."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 6))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(6)
    await worker.consumer.commit(Progress((PartProgress(Partition(topic, 0), OffsetMap(2)),)))
    await worker.consumer.close()
    again = await Worker.joined(open_log(), group, topic, start_from="latest")
    assert values(await again.read_count(4)) == [b"2", b"3", b"4", b"5"]
