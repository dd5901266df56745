"""Laws of the log that only Apache Kafka can break: transactions, fencing, generations, outcomes nobody was told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import contract.test_event_log_groups as groups_suite
from contract.log_fixtures import (
    PATIENCE_SECONDS,
    Worker,
    all_records,
    eventually,
    made_topic,
    numbered,
    polled_until,
    unique,
    values,
)
from kafka_broker import START_SECONDS, session_broker
from kafka_proxy import running_proxy
from penstock.errors import LogDamaged, LogUnavailable, PartitionsLost, RecordsLost, RecordTooLarge
from penstock.log.base import PartProgress, Progress
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition

pytestmark = pytest.mark.kafka

CLASSIC = {
    "options": KafkaOptions(group_protocol="classic"),
    "properties": {"heartbeat.interval.ms": 300, "session.timeout.ms": 6_000},
}
QUICK_TO_DOUBT = KafkaOptions(commit_timeout_seconds=2.0)


@pytest.fixture
def log(open_kafka) -> KafkaLog:
    return open_kafka()


def transactional(transactional_id: str, **settings) -> Producer:
    """A producer that is not ours: a zombie, or another program."""
    settings = {"bootstrap.servers": session_broker().bootstrap, "transactional.id": transactional_id, **settings}
    producer = Producer(settings)
    producer.init_transactions(30)
    return producer


async def loaded_worker(log: KafkaLog, topic: str, count: int, group: str, slot: str = "a") -> Worker:
    """A worker that has read `count` records of partition 0."""
    await log.append(numbered(topic, count))
    worker = await Worker.joined(log, group, topic, slot=slot)
    await worker.read_count(count)
    return worker


def done_to(topic: str, base: int, *appends: NewRecord) -> Progress:
    return Progress((PartProgress(Partition(topic, 0), OffsetMap(base), appends),))


async def test_aborted_and_open_transactions_are_invisible(log):
    """No reader of ours sees what another program aborted or has not committed; reading passes the gap."""
    topic = await made_topic(log, 1)
    other = transactional(str(uuid4()))
    for value, end in ((b"aborted", other.abort_transaction), (b"kept", other.commit_transaction)):
        other.begin_transaction()
        other.produce(topic, value, partition=0)
        other.flush(10)
        end(10)
    other.begin_transaction()
    other.produce(topic, b"open", partition=0)
    other.flush(10)
    worker = await Worker.joined(log, unique("g"), topic)
    assert values(await worker.read_count(1)) == [b"kept"]
    assert await worker.poll(10, 0.3) == []
    assert values(await all_records(log, topic)) == [b"kept"]
    other.abort_transaction(10)
    await log.append([NewRecord(topic, None, b"after", partition=0)])
    assert values(await worker.read_count(2)) == [b"kept", b"after"]


async def test_long_maps_of_twelve_partitions(log, open_kafka):
    """Maps of nearly 4,096 bytes on every one of twelve partitions are committed together and come back bit for bit."""
    topic, group = await made_topic(log, 12), unique("g")
    scattered = random.Random(3)
    done = {Partition(topic, n): OffsetMap(0, scattered.getrandbits(23_300) << 1) for n in range(12)}
    topic_id = (await log.topics())[topic].id
    assert all(3_800 < len(one.encode(topic_id)) < 4_096 for one in done.values())
    worker = await Worker.joined(log, group, topic)
    await worker.owns(12)
    await worker.consumer.commit(Progress(tuple(PartProgress(p, one) for p, one in done.items())))
    await worker.consumer.close()
    assert await open_kafka().committed(group, topic) == done
    again = await Worker.joined(open_kafka(), group, topic)
    await again.owns(12)
    assert {p: a.done for p, a in again.owned.items()} == done


async def test_sizes_are_checked_before_begin(log):
    """What cannot fit is refused before a transaction begins: not even the marker of an abort is left."""
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    worker = await loaded_worker(log, topic, 3, unique("g"))
    small = NewRecord(results, b"k", b"small")
    giant = NewRecord(results, b"k", b"x" * worker.consumer.max_record_bytes)
    long_map = OffsetMap(3, random.Random(4).getrandbits(40_000) << 1)
    with pytest.raises(RecordTooLarge, match=f"{results}.*bytes"):
        await worker.consumer.commit(done_to(topic, 3, small, giant))
    with pytest.raises(RecordTooLarge, match=r"offset map .* 4,096"):
        await worker.consumer.commit(Progress((PartProgress(Partition(topic, 0), long_map, (small,)),)))
    assert (await log.bounds(results))[Partition(results, 0)].high == 0
    await worker.consumer.commit(done_to(topic, 3, small))
    assert values(await all_records(log, results)) == [b"small"]


async def test_what_only_the_broker_refuses_is_told(log, open_kafka):
    """A topic that takes less than we are told: `RecordTooLarge` with the setting's name, nothing written, and the worker goes on."""
    topic = await made_topic(log, 1)
    results = await made_topic(log, 1, settings={"max.message.bytes": "2000"})
    worker = await loaded_worker(log, topic, 3, unique("g"))
    with pytest.raises(RecordTooLarge, match="max_record_bytes"):
        await worker.consumer.commit(done_to(topic, 3, NewRecord(results, b"k", random.Random(5).randbytes(5_000))))
    assert await all_records(log, results) == []
    await worker.consumer.commit(done_to(topic, 3, NewRecord(results, b"k", b"pointer")))
    assert values(await all_records(log, results)) == [b"pointer"]


async def test_a_second_producer_fences_the_first(log):
    """Whose transactional id was taken over loses its partitions, writes nothing, joins again and then doubles nothing."""
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    worker = await loaded_worker(log, topic, 5, group, slot="a")
    await worker.consumer.commit(done_to(topic, 2, NewRecord(results, b"k", b"0-1")))
    transactional(f"{group}/a")
    with pytest.raises(PartitionsLost) as refused:
        await worker.consumer.commit(done_to(topic, 5, NewRecord(results, b"k", b"2-4")))
    assert refused.value.partitions == {Partition(topic, 0)}
    await polled_until(lambda: bool(worker.lost_ever), "told that it is lost", worker)
    await polled_until(lambda: len(worker.owned) == 1, "owned again", worker)
    assert worker.owned[Partition(topic, 0)].done == OffsetMap(2)
    await worker.consumer.commit(done_to(topic, 5, NewRecord(results, b"k", b"2-4")))
    assert values(await all_records(log, results)) == [b"0-1", b"2-4"]


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_a_worker_that_was_expelled_cannot_commit(log, open_kafka, protocol):
    """A living worker that polled too rarely lost its partitions without hearing of it: its commit is refused."""
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    rare = {"max.poll.interval.ms": 2_000}
    if protocol == "classic":
        rare |= {"session.timeout.ms": 2_000, "heartbeat.interval.ms": 300}
    options = KafkaOptions(group_protocol=protocol)
    sleepy = await loaded_worker(open_kafka(properties=rare, options=options), topic, 5, group, slot="a")
    properties = CLASSIC["properties"] if protocol == "classic" else {}
    other = await Worker.joined(open_kafka(properties=properties, options=options), group, topic, slot="b")
    await polled_until(lambda: len(other.owned) == 1, "the other took over", other)
    await other.consumer.commit(done_to(topic, 4, NewRecord(results, b"k", b"0-3")))
    with pytest.raises((PartitionsLost, LogUnavailable)):
        await sleepy.consumer.commit(done_to(topic, 5, NewRecord(results, b"k", b"0-4")))
    await polled_until(lambda: bool(sleepy.lost_ever), "told that it is lost", sleepy, other, max_records=0)
    with pytest.raises(PartitionsLost):
        await sleepy.consumer.commit(done_to(topic, 5, NewRecord(results, b"k", b"0-4")))
    assert values(await all_records(log, results)) == [b"0-3"]
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(4)}


async def test_work_in_flight_moves_under_the_classic_protocol(open_kafka):
    """Joins and leaves with work in flight answer every record once, also where the clients assign the partitions."""
    await groups_suite.test_work_in_flight_moves_without_loss(lambda: open_kafka(**CLASSIC))


async def test_the_old_owner_commits_under_the_classic_protocol(open_kafka):
    """Inside `revoked` the old owner commits and the new one starts exactly there, with the classic protocol too."""
    await groups_suite.test_commit_is_allowed_until_revoke_returns(open_kafka(**CLASSIC), lambda: open_kafka(**CLASSIC))


async def test_a_pause_holds_through_a_rebalance_under_the_classic_protocol(open_kafka):
    """What stays is still paused, what goes is read by its new owner at once, with the classic protocol too."""
    suite = groups_suite.test_a_pause_holds_through_a_rebalance_and_ends_with_ownership
    await suite(open_kafka(**CLASSIC), lambda: open_kafka(**CLASSIC))


async def test_commits_go_on_while_others_join(log, open_kafka):
    """Commits of partitions that stay succeed through every rebalance, with metadata that may be old by then."""
    topic, results, group = await made_topic(log, 4), await made_topic(log, 4), unique("g")
    await log.append([NewRecord(topic, None, b"x", partition=number) for number in range(4) for _ in range(400)])
    worker = await Worker.joined(log, group, topic, slot="a")
    await worker.read_count(1600)
    others: list[Worker] = []
    bases = dict.fromkeys(range(4), 0)
    # Ten commits before each join and after the last, however long the brokers take to settle.
    while sum(bases.values()) < 400:
        if sum(bases.values()) >= 100 * (len(others) + 1):
            others.append(await Worker.joined(open_kafka(), group, topic))
        await asyncio.gather(*(w.poll(0) for w in (worker, *others)))
        # The brokers decide who moves: whatever is ours now, its commits succeed.
        for partition in sorted(worker.owned)[:1]:
            bases[partition.number] += 10
            written = NewRecord(results, b"k", b"%d" % bases[partition.number], partition=partition.number)
            done = OffsetMap(bases[partition.number])
            await worker.consumer.commit(Progress((PartProgress(partition, done, (written,)),)))
    for number, base in bases.items():
        records = [r for r in await all_records(log, results) if r.partition == number]
        assert [int(v) for v in values(records)] == list(range(10, base + 1, 10))
    assert len(others) == 3


@pytest.mark.parametrize("slot", ["the same slot", "another slot"])
async def test_killed_inside_a_transaction(log, open_kafka, slot):
    """A successor waits until the open transaction is over, then starts where the last whole act left off."""
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    worker = await loaded_worker(log, topic, 6, group, slot="first")
    await worker.consumer.commit(done_to(topic, 2, NewRecord(results, b"k", b"0-1")))
    await worker.consumer.close()
    killed = await started(
        [sys.executable, "-c", INSIDE, session_broker().bootstrap, group, topic, results, slot], "inside"
    )
    killed.kill()
    killed.communicate()
    successor = await Worker.joined(open_kafka(), group, topic, slot="the same slot")
    await successor.owns(1)
    assert successor.owned[Partition(topic, 0)].done == OffsetMap(2)
    await successor.read_count(4)
    await successor.consumer.commit(done_to(topic, 6, NewRecord(results, b"k", b"2-5")))

    async def is_visible() -> bool:
        return values(await all_records(log, results)) == [b"0-1", b"2-5"]

    await eventually(is_visible, "both acts and nothing of the one between")


INSIDE = """
import sys, time
from confluent_kafka import Consumer, Producer, TopicPartition
bootstrap, group, topic, results, slot = sys.argv[1:]
common = {"bootstrap.servers": bootstrap}
consumer = Consumer({**common, "group.id": group, "group.protocol": "consumer", "enable.auto.commit": False})
consumer.subscribe([topic])
while not consumer.consume(1, 0.5):
    pass
producer = Producer({**common, "transactional.id": f"{group}/{slot}", "transaction.timeout.ms": 3000})
producer.init_transactions(20)
producer.begin_transaction()
producer.produce(results, b"half", b"k")
producer.flush(10)
producer.send_offsets_to_transaction([TopicPartition(topic, 0, 4)], consumer.consumer_group_metadata())
print("inside", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
async def test_kills_lose_and_double_nothing(log):
    """A worker killed again and again at any moment of its commits: every record ends in exactly one result."""
    topic, results, group = await made_topic(log, 3), await made_topic(log, 2), unique("g")
    total, moments = 6_000, random.Random(7)
    producing = asyncio.create_task(produce(log, topic, total))
    command = [sys.executable, "tests/kafka_worker.py", session_broker().bootstrap, group, topic, results, "slot"]
    for _ in range(6):
        worker = await started(command, "joined")
        await asyncio.sleep(moments.uniform(0.2, 1.5))
        worker.kill()
        worker.communicate()
    await producing
    last = await started(command, "joined")
    try:
        seen: list[bytes | None] = []

        async def all_answered() -> bool:
            await asyncio.sleep(0.5)
            seen[:] = values(await all_records(log, results))
            return len(seen) >= total

        await eventually(all_answered, "every record is answered")
    finally:
        last.kill()
        last.communicate()
    assert sorted(int(v) for v in seen) == list(range(total))


async def produce(log: KafkaLog, topic: str, total: int) -> None:
    for first in range(0, total, 50):
        await log.append([NewRecord(topic, b"%d" % n, b"%d" % n) for n in range(first, first + 50)])
        await asyncio.sleep(0.05)


async def started(command: list[str], says: str) -> subprocess.Popen[bytes]:
    """A process of ours, once it has said how far it is. One that does not is killed: the event loop's end would wait for its words."""
    here = Path(__file__).parents[2]
    process = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE, cwd=here)
    try:
        said = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), PATIENCE_SECONDS)
        assert said == f"{says}\n".encode(), f"{command[1][:40]} said {said!r} instead of {says!r}"
    except TimeoutError:
        raise AssertionError(f"{command[1][:40]} did not say {says!r} within {PATIENCE_SECONDS:g} s") from None
    finally:
        if sys.exc_info()[0] is not None:
            process.kill()
            process.wait(10)
    return process


@pytest.mark.parametrize("alone", [False, True], ids=["with progress", "appends alone"])
@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_a_commit_whose_outcome_is_unknown(log, open_kafka, lost, alone):
    """The answer to a commit is lost: it happened and returns. The commit itself is lost: it did not, and is written by a retry.

    Either way the records are there exactly once.
    """
    broker = session_broker()
    if not broker.can_restart:
        pytest.skip("needs a broker of our own, with a listener behind a proxy")
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}", options=QUICK_TO_DOUBT)
        worker = await loaded_worker(behind, topic, 5, group)
        act = (
            Progress((), (NewRecord(results, b"k", b"once"),))
            if alone
            else done_to(topic, 5, NewRecord(results, b"k", b"once"))
        )
        proxy.lose(lost)
        if lost == "answer":
            await worker.consumer.commit(act)
        else:
            with pytest.raises(LogUnavailable):
                await worker.consumer.commit(act)
            await worker.consumer.commit(act)
        assert proxy.has_lost.is_set()
        assert values(await all_records(behind, results)) == [b"once"]
        assert (await log.committed(group, topic))[Partition(topic, 0)] == OffsetMap(0 if alone else 5)
        await worker.consumer.commit(done_to(topic, 5, NewRecord(results, b"k", b"next")))
        assert values(await all_records(behind, results)) == [b"once", b"next"]
        await behind.close()


@pytest.mark.slow
async def test_a_broker_killed_during_commits(log, open_kafka):
    """The broker dies and comes back while a worker commits: acts that were refused are repeated, each is there once."""
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    partition, total = Partition(topic, 0), 400
    transactional(unique("warm"))  # the first transaction of a broker makes its log, which takes longer than we doubt
    worker = await loaded_worker(open_kafka(options=QUICK_TO_DOUBT), topic, total, group)
    done, restarting = OffsetMap(0), None
    while done.base < total:
        if done.base == total // 8:
            restarting = asyncio.create_task(asyncio.to_thread(session_broker().restart))
        answer = NewRecord(results, b"k", b"%d" % done.base)
        done = await done_at_last(worker, PartProgress(partition, OffsetMap(done.base + 1), (answer,)))
    await restarting

    async def is_visible() -> bool:
        with contextlib.suppress(LogUnavailable):
            return len(await all_records(log, results)) >= total
        return False

    await eventually(is_visible, "all acts are there")
    assert [int(v) for v in values(await all_records(log, results))] == list(range(total))


async def done_at_last(worker: Worker, part: PartProgress) -> OffsetMap:
    """As the engine does: the same progress again; where the partition was lost, what the next assignment says counts.

    One poll may tell of the loss and of the next assignment: that is another object, even where it says the same.
    """
    async with asyncio.timeout(2 * START_SECONDS):
        while True:
            lost = worker.owned.get(part.partition)
            try:
                await worker.consumer.commit(Progress((part,)))
            except LogUnavailable:
                await worker.consumer.poll(0, 0.1)
            except PartitionsLost:
                while (assignment := worker.owned.get(part.partition)) is None or assignment is lost:
                    await worker.consumer.poll(0, 0.1)
                return assignment.done
            else:
                return part.done


async def test_a_topic_made_again_is_read_from_its_start(log, open_kafka):
    """Old progress says nothing about a topic that was deleted and made again, even where its offsets would fit."""
    topic, group = await made_topic(log, 1), unique("g")
    worker = await loaded_worker(log, topic, 20, group)
    await worker.consumer.commit(done_to(topic, 15))
    old = await log.committed(group, topic)
    old_metadata = old[Partition(topic, 0)].encode((await log.topics())[topic].id)
    await worker.consumer.close()
    admin = AdminClient({"bootstrap.servers": session_broker().bootstrap})
    admin.delete_topics([topic])[topic].result(30)

    async def is_gone() -> bool:
        return topic not in await open_kafka().topics()

    await eventually(is_gone, "the topic is gone")
    made = open_kafka()
    await eventually(lambda: is_made(made, topic), "the topic is made again")
    await made.append(numbered(topic, 30))
    # As a late commit of a worker that had not heard of it: Kafka takes it.
    stale = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 15, old_metadata)])
    admin.alter_consumer_group_offsets([stale])[group].result(30)
    again = await Worker.joined(made, group, topic)
    assert [int(v) for v in values(await again.read_count(30))] == list(range(30))


async def is_made(log: KafkaLog, topic: str) -> bool:
    from penstock.log.base import TopicSpec

    return await log.create_topics([TopicSpec(topic, 1)]) == [topic]


@pytest.mark.parametrize("unread_lost", ["stop", "continue"])
async def test_retention_that_overtakes_a_group(log, open_kafka, unread_lost):
    """Records deleted unread stop the worker with their range, or are passed only where it was told so; what was done is no loss."""
    topic, group = await made_topic(log, 1), unique("g")
    worker = await loaded_worker(log, topic, 20, group)
    await worker.consumer.commit(Progress((PartProgress(Partition(topic, 0), OffsetMap(5, 0b10)),)))
    await worker.consumer.close()
    admin = AdminClient({"bootstrap.servers": session_broker().bootstrap})
    next(iter(admin.delete_records([TopicPartition(topic, 0, 12)]).values())).result(30)
    late = await Worker.joined(open_kafka(options=KafkaOptions(unread_lost=unread_lost)), group, topic)
    if unread_lost == "stop":
        with pytest.raises(RecordsLost, match=rf"6 unread records of {topic}/0, offsets 5 to 11"):
            await late.read_count(1)
        return
    assert [r.offset for r in await late.read_count(8)] == list(range(12, 20))


async def test_progress_of_an_unknown_version_stops(log):
    """A map that a newer version wrote is not guessed at: the worker stops and says which version it needs."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 3))
    admin = AdminClient({"bootstrap.servers": session_broker().bootstrap})
    newer = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1, "9;what;ever")])
    admin.alter_consumer_group_offsets([newer])[group].result(30)
    worker = await Worker.joined(log, group, topic)
    with pytest.raises(LogDamaged, match="version '9'"):
        await worker.read_count(1)


async def test_offsets_of_other_tools_are_believed(log):
    """Offsets that were set by hand carry no map: reading starts there."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 5))
    admin = AdminClient({"bootstrap.servers": session_broker().bootstrap})
    admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])])[
        group
    ].result(30)
    worker = await Worker.joined(log, group, topic)
    assert values(await worker.read_count(2)) == [b"3", b"4"]


async def test_serving_without_room_loses_nothing(log, open_kafka):
    """Polls without room serve rebalances for as long as it takes; what they had to take is handed out later, in order."""
    topic, group = await made_topic(log, 2), unique("g")
    await log.append(numbered(topic, 500) + numbered(topic, 500, partition=1))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(50)
    other = await Worker.joined(open_kafka(), group, topic)
    await polled_until(
        lambda: len(worker.owned) == len(other.owned) == 1, "each owns one", worker, other, max_records=0
    )
    (mine,) = worker.owned
    while worker.at(mine) < 500:
        await worker.poll(100)
    assert [r.offset for r in worker.read if (r.topic, r.partition) == mine] == list(range(500))


async def test_a_cancelled_poll_loses_nothing(log):
    """Records that librdkafka gave to a poll whose caller went away come with the next."""
    topic = await made_topic(log, 1)
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.owns(1)
    for n in range(0, 50, 5):
        waiting = asyncio.create_task(worker.consumer.poll(100, 5.0))
        await log.append(numbered(topic, 5, first=n))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not waiting.cancelled():
            worker.read += waiting.result()
    assert [int(v) for v in values(await worker.read_count(50))] == list(range(50))


async def test_another_reader_agrees(log):
    """A plain read-committed consumer that is not ours sees what we committed, keys, values and headers alike."""
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    worker = await loaded_worker(log, topic, 3, unique("g"))
    headers = (("where", b"shop"), ("null", None), ("where", b"again"))
    await worker.consumer.commit(done_to(topic, 3, NewRecord(results, b"key", b"value", headers, 1_700_000_000_000)))
    plain = Consumer(
        {
            "bootstrap.servers": session_broker().bootstrap,
            "group.id": unique("judge"),
            "isolation.level": "read_committed",
        }
    )
    plain.assign([TopicPartition(results, 0, 0)])
    message = await asyncio.to_thread(plain.poll, 20)
    plain.close()
    assert (message.key(), message.value(), tuple(message.headers()), message.timestamp()[1]) == (
        b"key",
        b"value",
        headers,
        1_700_000_000_000,
    )
