"""The contract of the event log: what every choice promises for records, reads and single workers (`penstock.log.base`)."""

from __future__ import annotations

import asyncio
import time

import pytest

from contract.log_fixtures import Worker, all_records, made_topic, numbered, unique, values
from penstock.errors import RecordTooLarge, TopicMissing
from penstock.log.base import Bounds, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition, Position

# murmur2 as Kafka's own tests have it, and the partition out of 12 that follows
KEY_HOMES = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


async def test_order_in_a_partition(log):
    """Records of a partition are read in the order in which they were appended, each at its own offset."""
    topic = await made_topic(log)
    written = []
    for first in range(0, 300, 50):
        written += await log.append(numbered(topic, 50, partition=first // 50 % 2, first=first))
    worker = await Worker.joined(log, unique("g"), topic)
    read = await worker.read_count(300)
    for number in (0, 1):
        mine = [r for r in read if r.partition == number]
        assert [r.offset for r in mine] == sorted(r.offset for r in mine)
        assert [int(r.value) for r in mine] == sorted(int(r.value) for r in mine)
    assert sorted(written) == sorted(Position(r.topic, r.partition, r.offset) for r in read)


@pytest.mark.parametrize("partitions", [1, 7, 12])
async def test_a_key_lives_where_kafka_puts_it(log, partitions):
    """The partition of a key is murmur2, positive, modulo partitions: bit for bit what Java's producers compute."""
    topic = await made_topic(log, partitions)
    positions = await log.append([NewRecord(topic, key, b"x") for key, _ in KEY_HOMES])
    assert [p.partition for p in positions] == [(number & 0x7FFFFFFF) % partitions for _, number in KEY_HOMES]


async def test_one_key_one_partition(log):
    """All records of a key are in one partition, in order, whoever appends them."""
    topic = await made_topic(log, 5)
    for n in range(20):
        await log.append([NewRecord(topic, b"key-%d" % (n % 4), b"%d" % n)])
    homes = {}
    for record in await all_records(log, topic):
        homes.setdefault(record.key, []).append((record.partition, int(record.value)))
    assert len(homes) == 4
    for places in homes.values():
        assert len({number for number, _ in places}) == 1
        assert [n for _, n in places] == sorted(n for _, n in places)


async def test_records_without_key_spread(log):
    """Records without a key do not all end in one partition."""
    topic = await made_topic(log, 4)
    for _ in range(40):
        await log.append([NewRecord(topic, None, b"x")])
    assert len({record.partition for record in await all_records(log, topic)}) > 1


async def test_records_come_back_byte_for_byte(log):
    """Null and empty keys and values, null header values, repeated headers, any bytes, timestamps: all come back as given."""
    topic = await made_topic(log, 1)
    everything = bytes(range(256))
    given = [
        NewRecord(
            topic, b"k", everything, (("a", everything), ("a", b"2"), ("b", None), ("c", b"")), 1_700_000_000_123
        ),
        NewRecord(topic, None, None, (), 1_700_000_000_124, 0),
        NewRecord(topic, b"", b"", (("é—𝄞", b"x"), ("", b"y")), 1_700_000_000_125),
        NewRecord(topic, everything, b"\x00" * 100, (), 1_700_000_000_126),
    ]
    await log.append(given)
    read = await log.read(Partition(topic, 0), 0, 10)
    assert [(r.key, r.value, r.headers, r.timestamp_ms) for r in read] == [
        (r.key, r.value, r.headers, r.timestamp_ms) for r in given
    ]
    worker = await Worker.joined(log, unique("g"), topic)
    assert await worker.read_count(4) == read


async def test_the_log_stamps_what_has_no_time(log):
    """A record without a timestamp gets the time of its append."""
    topic = await made_topic(log, 1)
    before = time.time_ns() // 1_000_000
    await log.append([NewRecord(topic, b"k", b"v")])
    (record,) = await log.read(Partition(topic, 0), 0, 10)
    assert before - 1_000 <= record.timestamp_ms <= time.time_ns() // 1_000_000 + 1_000


async def test_large_records(log):
    """Records of nearly 1 MB pass, in and out, beside small ones."""
    topic = await made_topic(log, 2)
    large = [bytes([n]) * 1_000_000 for n in range(8)]
    await log.append([NewRecord(topic, None, value, partition=n % 2) for n, value in enumerate(large)])
    await log.append(numbered(topic, 10))
    worker = await Worker.joined(log, unique("g"), topic)
    read = await worker.read_count(18)
    assert sorted(v for v in values(read) if len(v) > 100) == large


async def test_what_is_too_large_is_refused(log):
    """A record above the limit is refused as `RecordTooLarge`, with everything that was to be written with it."""
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    await log.append(numbered(topic, 3))
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.read_count(3)
    giant = NewRecord(results, b"k", b"x" * worker.consumer.max_record_bytes)
    with pytest.raises(RecordTooLarge, match=results):
        await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"small"), giant))
    with pytest.raises(RecordTooLarge):
        await log.append([NewRecord(results, b"k", b"small"), giant])
    await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"mark")))
    assert values(await all_records(log, results)) == [b"mark"]


async def test_missing_topic(log):
    """A topic that nobody made is said by name, with the command that makes it, wherever it is used."""
    missing = unique("missing")
    command = f"penstock topics create {missing}"
    with pytest.raises(TopicMissing, match=command):
        await log.append([NewRecord(missing, b"k", b"v")])
    with pytest.raises(TopicMissing, match=command):
        await log.bounds(missing)
    with pytest.raises(TopicMissing, match=command):
        await log.join(unique("g"), [missing], Worker())
    assert missing not in await log.topics()


async def test_topics_are_made_once(log):
    """What exists is left as it is, and told with its partitions and an id that stays."""
    name, other = unique("a"), unique("b")
    assert await log.create_topics([TopicSpec(name, 3)]) == [name]
    first = (await log.topics())[name]
    assert set(await log.create_topics([TopicSpec(name, 5), TopicSpec(other, 1, is_compacted=True)])) == {other}
    topics = await log.topics()
    assert topics[name] == first
    assert (first.partitions, first.is_compacted) == (3, False)
    assert topics[other].is_compacted
    assert len({first.id, topics[other].id, ""}) == 3


async def test_bounds_follow_appends(log, open_log):
    """Bounds tell first and next offset of every partition, to other handles too."""
    topic = await made_topic(log, 3)
    assert set((await log.bounds(topic)).values()) == {Bounds(0, 0)}
    await log.append(numbered(topic, 7, partition=1))
    seen = await open_log().bounds(topic)
    assert seen == {Partition(topic, 0): (0, 0), Partition(topic, 1): (0, 7), Partition(topic, 2): (0, 0)}


async def test_read_needs_no_group(log):
    """`read` starts at an offset, obeys its limit, and is empty at the end."""
    topic = await made_topic(log, 2)
    await log.append(numbered(topic, 10, partition=1))
    partition = Partition(topic, 1)
    assert values(await log.read(partition, 4, 3)) == [b"4", b"5", b"6"]
    assert values(await log.read(partition, 8, 100)) == [b"8", b"9"]
    assert await log.read(partition, 10, 100) == []
    assert await log.read(Partition(topic, 0), 0, 100) == []


async def test_offset_at(log):
    """`offset_at` gives the first record that is not older, and the next offset where there is none."""
    topic = await made_topic(log, 1)
    start = 1_700_000_000_000
    await log.append([NewRecord(topic, b"k", b"v", timestamp_ms=start + n * 1_000) for n in range(5)])
    partition = Partition(topic, 0)
    assert [await log.offset_at(partition, start + at) for at in (-5_000, 0, 1, 1_000, 3_500, 4_000)] == [
        0,
        0,
        1,
        1,
        4,
        4,
    ]
    assert await log.offset_at(partition, start + 9_000) == 5


async def test_pause_and_resume_lose_nothing(log):
    """A paused partition returns nothing while the others go on; afterwards it goes on where it stood."""
    topic = await made_topic(log, 2)
    await log.append(numbered(topic, 100) + numbered(topic, 50, partition=1, first=1_000))
    worker = await Worker.joined(log, unique("g"), topic)
    while not any(r.partition == 0 for r in worker.read):
        await worker.poll(10)
    worker.consumer.pause([Partition(topic, 0)])
    paused_at = worker.at(Partition(topic, 0))
    await log.append(numbered(topic, 50, partition=1, first=1_050))
    while worker.at(Partition(topic, 1)) < 100:
        await worker.poll(10)
    await worker.poll(10)
    assert worker.at(Partition(topic, 0)) == paused_at
    worker.consumer.resume([Partition(topic, 0)])
    await worker.read_count(200)
    assert [r.offset for r in worker.read if r.partition == 0] == list(range(100))
    assert [r.offset for r in worker.read if r.partition == 1] == list(range(100))


async def test_poll_takes_no_more_than_asked_for(log):
    """`max_records` is obeyed, zero returns nothing, and what was not taken comes later."""
    topic = await made_topic(log, 3)
    await log.append([NewRecord(topic, b"%d" % n, b"%d" % n) for n in range(90)])
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.owns(3)
    assert await worker.poll(0) == []
    while len(worker.read) < 90:
        assert len(await worker.poll(7)) <= 7
    assert sorted(int(r.value) for r in worker.read) == list(range(90))


async def test_a_full_partition_does_not_starve_the_others(log):
    """A backlog in one partition leaves room for the others in the same polls."""
    topic = await made_topic(log, 2)
    backlog = 8_000
    for _ in range(backlog // 500):
        await log.append([NewRecord(topic, None, b"x" * 1_000, partition=0)] * 500)
    await log.append(numbered(topic, 5, partition=1))
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.owns(2)
    while worker.at(Partition(topic, 1)) < 5:
        await worker.poll(50)
    assert worker.at(Partition(topic, 0)) < backlog


async def test_poll_waits_for_news(log, open_log):
    """A poll that waits returns as soon as another process appends, long before its time-out."""
    topic = await made_topic(log, 1)
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.owns(1)
    waiting = asyncio.create_task(worker.poll(10, PATIENCE_SECONDS_OF_POLL))
    await open_log().append(numbered(topic, 1))
    async with asyncio.timeout(PATIENCE_SECONDS_OF_POLL / 2):
        assert values(await waiting) == [b"0"]


PATIENCE_SECONDS_OF_POLL = 60.0


async def test_offsets_that_are_no_records_do_not_stall(log):
    """A topic written through commits has whatever gaps the log leaves; reading passes them and loses nothing."""
    source, topic = await made_topic(log, 1), await made_topic(log, 1)
    writer = await Worker.joined(log, unique("g"), source)
    await writer.owns(1)
    for n in range(10):
        await writer.consumer.commit(Progress((), tuple(numbered(topic, 3, first=3 * n))))
    reader = await Worker.joined(log, unique("g"), topic)
    assert [int(v) for v in values(await reader.read_count(30))] == list(range(30))
    assert [int(v) for v in values(await all_records(log, topic))] == list(range(30))


async def test_two_groups_are_independent(log):
    """Each group reads everything and has its own progress."""
    topic = await made_topic(log, 2)
    await log.append([NewRecord(topic, b"%d" % n, b"%d" % n) for n in range(40)])
    names = [unique("g"), unique("g")]
    one, two = [await Worker.joined(log, name, topic) for name in names]
    await one.read_count(40)
    await one.consumer.commit(one.progress())
    await two.read_count(40)
    assert sorted(one.read) == sorted(two.read)
    assert all(
        done.base == high
        for done, (_, high) in zip(
            (await log.committed(names[0], topic)).values(), (await log.bounds(topic)).values(), strict=True
        )
    )
    assert all(done == OffsetMap(0) for done in (await log.committed(names[1], topic)).values())


async def test_several_topics_in_one_group(log):
    """A worker may read several topics; progress names which."""
    first, second = await made_topic(log, 1), await made_topic(log, 2)
    await log.append(numbered(first, 4) + numbered(second, 6, partition=1))
    group = unique("g")
    worker = await Worker.joined(log, group, first, second)
    await worker.read_count(10)
    await worker.consumer.commit(worker.progress())
    assert (await log.committed(group, first))[Partition(first, 0)] == OffsetMap(4)
    assert (await log.committed(group, second))[Partition(second, 1)] == OffsetMap(6)
