"""Partitions that come later, progress that is gone, and partitions that a dead worker's transaction still holds."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions

from contract.log_fixtures import Worker, all_records, eventually, made_topic, numbered, polled_until, unique, values
from contract.test_kafka_log import done_to, is_made, loaded_worker, started, transactional
from kafka_broker import session_broker, tool
from penstock.errors import LogDamaged, ProgressLost, RecordTooLarge
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.offset_map import OffsetMap
from penstock.log.state import STATE_TOPIC, read_state, state_record
from penstock.log.topics import state_spec
from penstock.record import NewRecord, Partition

pytestmark = pytest.mark.kafka

QUICK_TO_NOTICE = {"topic.metadata.refresh.interval.ms": 1_000}


@pytest.fixture(autouse=True)
async def _state_topic(open_kafka) -> None:
    """Starts are written down in it."""
    await open_kafka().create_topics([state_spec()])


@pytest.fixture
def log(open_kafka) -> KafkaLog:
    return open_kafka()


def admin() -> AdminClient:
    return AdminClient({"bootstrap.servers": session_broker().bootstrap})


def add_partitions(topic: str, total: int) -> None:
    client = admin()
    client.create_partitions([NewPartitions(topic, total)])[topic].result(30)


def set_offset(group: str, partition: Partition, offset: int) -> None:
    """As `kafka-consumer-groups --reset-offsets` does."""
    client = admin()
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*partition, offset)])
    client.alter_consumer_group_offsets([asked])[group].result(30)


def forget_group(group: str) -> None:
    """What `offsets.retention.minutes` does to a group that was away: nothing of it is left."""
    client = admin()
    client.delete_consumer_groups([group])[group].result(30)


async def numbered_in_all(log: KafkaLog, topic: str, partitions: range, count: int) -> None:
    """Once the cluster knows the partitions."""

    async def is_known() -> bool:
        return len(await log.bounds(topic)) == partitions.stop

    await eventually(is_known, "the partitions are known")
    for number in partitions:
        await log.append(numbered(topic, count, partition=number))


@pytest.mark.parametrize("when", ["while it works", "while it is away"])
@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_added_partitions_are_read_from_their_start(open_kafka, protocol, when):
    """What was written to a new partition before anybody owned it is not skipped, although the task starts at `latest`."""
    options = {"options": KafkaOptions(group_protocol=protocol), "properties": QUICK_TO_NOTICE}
    log = open_kafka()
    topic, group = await made_topic(log, 2), unique("g")
    await log.append(numbered(topic, 3))
    worker = await Worker.joined(open_kafka(**options), group, topic, start_from="latest")
    await worker.owns(2)
    if when == "while it is away":
        await worker.consumer.close()
    add_partitions(topic, 4)
    await numbered_in_all(open_kafka(), topic, range(2, 4), 5)
    if when == "while it is away":
        worker = await Worker.joined(open_kafka(**options), group, topic, start_from="latest")
    await worker.read_count(10)
    assert {(r.partition, r.offset) for r in worker.read} == {(p, offset) for p in (2, 3) for offset in range(5)}
    assert not any(worker.owned[Partition(topic, number)].is_new for number in (2, 3))


async def test_members_that_begin_together_are_a_new_group(open_kafka):
    """The share of the second member is no partition that was added later: `latest` holds there too."""
    log = open_kafka()
    topic, group = await made_topic(log, 4), unique("g")
    for number in range(4):
        await log.append(numbered(topic, 3, partition=number))
    first = await Worker.joined(open_kafka(), group, topic, start_from="latest")
    await first.owns(4)
    await first.consumer.close()
    assert await begun(log, group, topic) == {0, 1, 2, 3}
    # As one member leaves it whose neighbour has not begun its share yet.
    await log.append([state_record(group, "start", f"{topic}/{number}", None) for number in (2, 3)])
    forget_group(group)
    for number in (0, 1):
        set_offset(group, Partition(topic, number), 3)
    worker = await Worker.joined(open_kafka(), group, topic, start_from="latest")
    await worker.owns(4)
    assert {worker.owned[Partition(topic, number)].is_new for number in (2, 3)} == {True}
    assert all(a.done == OffsetMap(3) for a in worker.owned.values())


async def begun(log: KafkaLog, group: str, topic: str) -> set[int]:
    """Partitions whose start stands in the state topic."""
    states = [read_state(record) for record in await all_records(log, STATE_TOPIC)]
    starts = {s.id: s.value for s in states if s.task == group and s.kind == "start"}
    return {int(id_.removeprefix(f"{topic}/")) for id_, value in starts.items() if value is not None}


@pytest.mark.parametrize("start_from", ["latest", "earliest"])
async def test_a_group_whose_offsets_expired_never_starts_over(open_kafka, start_from):
    """It stops with group, partitions and command; set to where a person says, it goes on there."""
    log = open_kafka()
    topic, group = await made_topic(log, 2), unique("g")
    worker = await loaded_worker(log, topic, 6, group)
    await worker.consumer.commit(done_to(topic, 4))
    await worker.consumer.close()
    forget_group(group)
    again = await Worker.joined(open_kafka(), group, topic, start_from=start_from)
    with pytest.raises(ProgressLost) as told:
        await again.read_count(1)
    assert f"{topic}/0, {topic}/1" in str(told.value)
    assert f"--group {group} --topic {topic}:0,1 --reset-offsets" in str(told.value)
    assert again.owned == {}
    await again.consumer.close()
    assert await log.committed(group, topic) == {}
    for number in (0, 1):
        set_offset(group, Partition(topic, number), 4 if number == 0 else 0)
    last = await Worker.joined(open_kafka(), group, topic, start_from=start_from)
    assert values(await last.read_count(2)) == [b"4", b"5"]


@pytest.mark.slow
async def test_one_partition_whose_offset_was_deleted(open_kafka):
    """Of a partition that is not new a missing offset is not guessed; the command of the error, as printed, mends it."""
    if not session_broker().can_restart:
        pytest.skip("needs Kafka's own tools")
    log = open_kafka()
    topic, group = await made_topic(log, 2), unique("g")
    worker = await loaded_worker(log, topic, 6, group)
    await worker.consumer.commit(done_to(topic, 4))
    await worker.consumer.close()
    tool = ["--bootstrap-server", session_broker().bootstrap, "--group", group]
    await consumer_groups(*tool, "--delete-offsets", "--topic", f"{topic}:0")
    again = await Worker.joined(open_kafka(), group, topic)
    with pytest.raises(ProgressLost) as told:
        await again.read_count(1)
    await again.consumer.close()
    command = str(told.value).partition("kafka-consumer-groups ")[2].partition(" (")[0]
    assert f"{topic}:0 " in command
    await consumer_groups(*command.split())
    last = await Worker.joined(open_kafka(), group, topic)
    assert [int(v) for v in values(await last.read_count(6))] == list(range(6))


async def consumer_groups(*arguments: str) -> None:
    """Kafka's own tool."""
    await asyncio.to_thread(tool, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *arguments)


async def test_progress_above_the_end(log, open_kafka):
    """A topic that lost its newest records is not read on as if nothing had been: the error names offsets and the command."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 5))
    set_offset(group, Partition(topic, 0), 9)
    worker = await Worker.joined(open_kafka(), group, topic)
    with pytest.raises(LogDamaged, match=rf"{group}' stands at offset 9 of {topic}/0, which ends at 5.*reset-offsets"):
        await worker.read_count(1)


async def test_a_topic_made_again_is_not_skipped_by_latest(log, open_kafka):
    """Kafka deletes offsets with the topic: what stands in the new one is read nevertheless, from its start."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 5))
    worker = await Worker.joined(open_kafka(), group, topic, start_from="latest")
    await worker.owns(1)
    await worker.consumer.close()
    client = admin()
    client.delete_topics([topic])[topic].result(30)
    made = open_kafka()

    async def is_gone() -> bool:
        return topic not in await made.topics()

    await eventually(is_gone, "the topic is gone")
    await eventually(lambda: is_made(made, topic), "the topic is made again")
    await made.append(numbered(topic, 3))
    again = await Worker.joined(open_kafka(), group, topic, start_from="latest")
    assert [int(v) for v in values(await again.read_count(3))] == [0, 1, 2]


INSIDE = """
import sys, time
from confluent_kafka import Consumer, Producer, TopicPartition
bootstrap, group, topic, results, seconds = sys.argv[1:]
common = {"bootstrap.servers": bootstrap}
consumer = Consumer({**common, "group.id": group, "group.protocol": "consumer", "enable.auto.commit": False})
consumer.subscribe([topic])
while len(consumer.assignment()) != 1:
    consumer.poll(0.2)
producer = Producer({**common, "transactional.id": f"{group}/dead", "transaction.timeout.ms": int(seconds) * 1000})
producer.init_transactions(30)
producer.begin_transaction()
producer.produce(results, b"half", b"k", 0)
producer.flush(10)
mine = TopicPartition(topic, consumer.assignment()[0].partition, 4)
producer.send_offsets_to_transaction([mine], consumer.consumer_group_metadata())
print("inside", flush=True)
time.sleep(600)
"""


async def beside_a_dead_worker(open_kafka, topic: str, results: str, group: str, seconds: int) -> Worker:
    """A worker that owns one of two partitions; the owner of the other was killed inside a transaction a moment ago."""
    worker = await Worker.joined(open_kafka(), group, topic)
    await worker.owns(2)
    command = [sys.executable, "-c", INSIDE, session_broker().bootstrap, group, topic, results, str(seconds)]
    starting = asyncio.create_task(started(command, "inside"))
    await polled_until(starting.done, "the other worker is inside its transaction", worker)
    killed = starting.result()
    killed.kill()
    killed.communicate()
    assert len(worker.owned) == 1
    return worker


async def test_a_dead_workers_transaction_holds_up_its_partition_only(open_kafka, caplog):
    """The survivor goes on with its own partition while the one it takes over waits for the end of the transaction."""
    log = open_kafka()
    topic, results, group = await made_topic(log, 2), await made_topic(log, 1), unique("g")
    with caplog.at_level(logging.INFO, "penstock.log.kafka"):
        worker = await beside_a_dead_worker(open_kafka, topic, results, group, seconds=300)
        await polled_until(lambda: "a transaction is open" in caplog.text, "the partition was given to it", worker)
    (own,) = worker.owned
    other = Partition(topic, 1 - own.number)
    for n in range(0, 40, 10):
        await log.append(numbered(topic, 10, partition=own.number, first=n))
        await log.append(numbered(topic, 2, partition=other.number, first=n))
        await worker.read_count(n + 10)
        await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"%d" % n, partition=0)))
    assert list(worker.owned) == [own]
    transactional(f"{group}/dead")  # as a successor with its slot: the open transaction is ended
    await polled_until(lambda: len(worker.owned) == 2, "taken up", worker)
    assert worker.owned[other].done == OffsetMap(0)
    await worker.read_count(48)
    assert [r.offset for r in worker.read if r.partition == other.number] == list(range(8))
    await worker.consumer.commit(worker.progress())
    assert await log.committed(group, topic) == {own: OffsetMap(40), other: OffsetMap(8)}


@pytest.mark.slow
async def test_how_long_a_killed_transaction_holds_up_readers(open_kafka):
    """Readers of the results and the taken-over partition go on by themselves when the transaction's time is over; told in seconds."""
    log = open_kafka()
    topic, results, group = await made_topic(log, 2), await made_topic(log, 1), unique("g")
    worker = await beside_a_dead_worker(open_kafka, topic, results, group, seconds=10)
    killed_at = last_at = time.monotonic()
    longest_gap, seen = 0.0, 0
    (own,) = worker.owned
    await log.append([NewRecord(results, b"k", b"behind", partition=0)])
    readable_at = taken_at = 0.0
    while not (readable_at and taken_at):
        assert time.monotonic() < killed_at + 90
        await log.append(numbered(topic, 1, partition=own.number))
        await worker.poll(50, 0.02)
        now = time.monotonic()
        if worker.at(own) > seen:
            longest_gap, last_at, seen = max(longest_gap, now - last_at), now, worker.at(own)
        taken_at = taken_at or (now if len(worker.owned) == 2 else 0.0)
        if not readable_at and await log.read(Partition(results, 0), 0, 10):
            readable_at = now
    print(
        f"transaction time-out 10 s: readers of results waited {readable_at - killed_at:.1f} s, the partition was taken up "
        f"after {taken_at - killed_at:.1f} s, the neighbour's own records waited {longest_gap:.2f} s at most"
    )
    assert worker.owned.keys() == {Partition(topic, 0), Partition(topic, 1)}


async def test_a_start_that_could_not_be_written_down_is_made_up_for(open_kafka, caplog):
    """The group's start is committed and the state topic takes no record of it: nothing is read before it does, and then it is there."""
    caplog.set_level(logging.WARNING, "penstock.log.kafka")
    log = open_kafka()
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 3))
    state_topic_takes(at_most_bytes=10)
    try:
        await eventually(lambda: is_refused(log), "the state topic takes nothing")
        worker = await Worker.joined(log, group, topic, start_from="latest")
        await polled_until(lambda: caplog.text.count(f"joining group {group} again") >= 2, "tried again", worker)
        assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(3)}
        assert (worker.assigned_ever, worker.read) == ([], [])
        assert await begun(log, group, topic) == set()
    finally:
        state_topic_takes(at_most_bytes=KafkaOptions().max_message_bytes)
    await worker.owns(1)
    assert await begun(log, group, topic) == {0}
    await worker.consumer.close()
    forget_group(group)
    late = await Worker.joined(open_kafka(), group, topic, start_from="latest")
    with pytest.raises(ProgressLost, match=f"{topic}/0"):
        await polled_until(lambda: False, "the loss is told", late)


def state_topic_takes(at_most_bytes: int) -> None:
    change = ConfigEntry("max.message.bytes", str(at_most_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, STATE_TOPIC, incremental_configs=[change])
    client = admin()
    client.incremental_alter_configs([resource])[resource].result(30)


async def is_refused(log: KafkaLog) -> bool:
    try:
        await log.append([state_record("nobody", "loss", "x", None)])
    except RecordTooLarge:
        return True
    return False


async def test_gaps_of_compaction_cost_nothing(open_kafka):
    """What compaction removed is no loss, neither ahead of the group nor where its progress stands: reading goes on behind it."""
    log, group = open_kafka(), unique("g")
    quick = {"segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"}
    topic = await made_topic(log, 1, is_compacted=True, settings=quick)
    await log.append([NewRecord(topic, b"same", b"%d" % n) for n in range(10)])
    await log.append([NewRecord(topic, b"own %d" % n, b"own") for n in range(5)])
    worker = await Worker.joined(log, group, topic)
    await polled_until(lambda: worker.at(Partition(topic, 0)) == 15, "all is read, or already removed", worker)
    await worker.consumer.commit(done_to(topic, 4))
    await worker.consumer.close()

    async def is_cleaned() -> bool:
        await log.append([NewRecord(topic, b"same", b"later")])  # the segment that is written to is never cleaned
        await asyncio.sleep(0.5)
        return (await log.read(Partition(topic, 0), 0, 1))[0].offset >= 10

    await eventually(is_cleaned, "compaction removed what the group's progress stands on")
    successor = await Worker.joined(log, group, topic)
    await polled_until(lambda: successor.at(Partition(topic, 0)) > 15, "it goes on behind the gap", successor)
    records = successor.read
    assert [r.offset for r in records[:5]] == [10, 11, 12, 13, 14]
    assert (records[-1].key, records[-1].value, successor.passed_ever) == (b"same", b"later", [])
    await successor.consumer.commit(done_to(topic, records[-1].offset + 1))
    assert (await log.committed(group, topic))[Partition(topic, 0)].base == records[-1].offset + 1
