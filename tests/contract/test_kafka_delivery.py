"""What `delivery="at_least_once"` keeps and what it cannot, and how long a worker may take over its calls.

The contract suite runs over it too (`kafka-at-least-once`). Beyond a crash it keeps every law; these it cannot keep:
  * law 2 (one act): between results and progress a worker may die, be expelled or be cut off. Then results are there twice;
  * hence law 1 (once) for readers who do not drop doubled ids, and law 9: the doubled calls were paid for twice;
  * nothing of a refused act is visible: its records may be, its progress is not.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections import Counter

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from contract.log_fixtures import Worker, all_records, eventually, made_topic, numbered, polled_until, unique, values
from contract.test_kafka_log import done_to, loaded_worker, produce, started
from kafka_broker import guarded_broker, session_broker
from kafka_proxy import running_proxy
from penstock.errors import LogUnavailable, PartitionsLost, SettingsError
from penstock.log.kafka import KafkaOptions
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition

pytestmark = pytest.mark.kafka

TWO_STEPS = KafkaOptions(delivery="at_least_once")
OFFSET_COMMIT = 8
"""Kafka's number of the request that commits progress without a transaction."""
RARE_SECONDS = 2.0


@pytest.fixture
def log(open_kafka):
    return open_kafka(options=TWO_STEPS)


def needs_our_broker() -> None:
    if not session_broker().can_restart:
        pytest.skip("needs a broker of our own, with a listener behind a proxy")


def answers(results: str, count: int) -> tuple[NewRecord, ...]:
    return tuple(NewRecord(results, b"%d" % n, b"%d" % n) for n in range(count))


def properties_of(protocol: str) -> dict[str, int]:
    """A member that is expelled when it does not poll for `RARE_SECONDS`."""
    rare = {"max.poll.interval.ms": int(RARE_SECONDS * 1000)}
    return rare if protocol == "consumer" else rare | {"session.timeout.ms": 2_000, "heartbeat.interval.ms": 300}


async def test_at_least_once_says_so(open_kafka, caplog):
    """It is a property of the log and one warning per group that joins; the default is exactly once and says nothing."""
    quiet, loud = open_kafka(), open_kafka(options=TWO_STEPS)
    assert (quiet.delivery, loud.delivery) == ("exactly_once", "at_least_once")
    topic = await made_topic(quiet, 1)
    with caplog.at_level(logging.WARNING, "penstock"):
        await Worker.joined(quiet, unique("g"), topic)
        assert "at_least_once" not in caplog.text
        group = unique("g")
        await Worker.joined(loud, group, topic)
    (told,) = [r.getMessage() for r in caplog.records if "at_least_once" in r.getMessage()]
    assert group in told
    assert "twice" in told


async def test_killed_between_results_and_progress(log):
    """The results of that moment are there twice, with the same keys and values; nothing is lost, nothing else is doubled."""
    needs_our_broker()
    broker = session_broker()
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    partition = Partition(topic, 0)
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = f"127.0.0.1:{broker.proxy_port}"
        command = [
            sys.executable,
            "tests/kafka_worker.py",
            behind,
            group,
            topic,
            results,
            "slot",
            "delivery=at_least_once",
        ]
        worker = await started(command, "joined")
        try:

            async def stands_at(base: int) -> bool:
                return (await log.committed(group, topic)).get(partition) == OffsetMap(base)

            await eventually(lambda: stands_at(0), "its start is committed")
            await log.append(numbered(topic, 5))
            await eventually(lambda: stands_at(5), "the first five are done")
            proxy.lose("request", OFFSET_COMMIT)
            await log.append(numbered(topic, 3, first=5))
            async with asyncio.timeout(30):
                await proxy.has_lost.wait()
        finally:
            worker.kill()
            worker.communicate()
    written = values(await all_records(log, results))
    assert written == [b"%d" % n for n in range(8)]
    assert await log.committed(group, topic) == {partition: OffsetMap(5)}
    successor = await Worker.joined(log, group, topic)
    again = await successor.read_count(3)
    await successor.consumer.commit(done_to(topic, 8, *(NewRecord(results, r.key, r.value) for r in again)))
    assert values(await all_records(log, results)) == [*written, b"5", b"6", b"7"]
    assert await log.committed(group, topic) == {partition: OffsetMap(8)}


@pytest.mark.slow
async def test_kills_lose_nothing_at_least_once(log):
    """Killed again and again at any moment: every record has a result, and only what was in flight at a kill has two."""
    topic, results, group = await made_topic(log, 3), await made_topic(log, 2), unique("g")
    total, kills, moments = 4_000, 5, random.Random(11)
    producing = asyncio.create_task(produce(log, topic, total))
    broker = session_broker().bootstrap
    command = [sys.executable, "tests/kafka_worker.py", broker, group, topic, results, "slot", "delivery=at_least_once"]
    for _ in range(kills):
        worker = await started(command, "joined")
        await asyncio.sleep(moments.uniform(0.5, 1.5))
        worker.kill()
        worker.communicate()
    await producing
    last = await started(command, "joined")
    counts: Counter[int] = Counter()
    try:

        async def all_answered() -> bool:
            await asyncio.sleep(0.5)
            counts.clear()
            counts.update(int(v) for v in values(await all_records(log, results)))
            return len(counts) == total

        await eventually(all_answered, "every record is answered")
    finally:
        last.kill()
        last.communicate()
    doubled = sum(count - 1 for count in counts.values())
    print(f"{kills} kills, {total} events: 0 lost, {doubled} doubled")
    assert doubled <= kills * 20, "more was doubled than a worker commits at once"


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_progress_that_was_not_taken_is_repeated_alone(log, open_kafka, lost):
    """The commit of progress or its answer is lost: the same act again moves progress and writes no record a second time."""
    needs_our_broker()
    broker = session_broker()
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        quick = {"socket.timeout.ms": 5_000}
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}", options=TWO_STEPS, properties=quick)
        worker = await loaded_worker(behind, topic, 5, group)
        act = done_to(topic, 5, *answers(results, 5))
        proxy.lose(lost, OFFSET_COMMIT)
        async with asyncio.timeout(60):
            while True:
                try:
                    await worker.consumer.commit(act)
                except LogUnavailable:
                    await worker.consumer.poll(0, 0.1)
                else:
                    break
        assert proxy.has_lost.is_set()
        assert values(await all_records(log, results)) == [b"%d" % n for n in range(5)]
        assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(5)}
        await behind.close()


@pytest.mark.parametrize("neighbour", ["stays", "has left"])
@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_progress_is_fenced_without_transactions(log, open_kafka, protocol, neighbour):
    """A worker expelled without hearing of it moves nobody's progress back, even where the group is empty again."""
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    options = KafkaOptions(delivery="at_least_once", group_protocol=protocol)
    sleepy = await loaded_worker(open_kafka(properties=properties_of(protocol), options=options), topic, 5, group)
    other = await Worker.joined(open_kafka(options=options), group, topic)
    await polled_until(lambda: len(other.owned) == 1, "the other took over", other)
    await other.consumer.commit(done_to(topic, 4, NewRecord(results, b"k", b"0-3")))
    if neighbour == "has left":
        await other.consumer.close()
    with pytest.raises((PartitionsLost, LogUnavailable)):
        await sleepy.consumer.commit(done_to(topic, 3, NewRecord(results, b"k", b"0-2")))
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(4)}
    await polled_until(lambda: bool(sleepy.lost_ever), "told that it is lost", sleepy, max_records=0)


async def test_a_cluster_that_refuses_transactions(open_kafka):
    """Exactly once is refused with the reason; at least once reads, writes and commits there."""
    broker, group = guarded_broker(), unique("g")
    broker.deny(ResourceType.TRANSACTIONAL_ID, f"{group}/", AclOperation.ALL, is_prefix=True)
    log = open_kafka(broker.bootstrap, options=TWO_STEPS)
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    with pytest.raises(SettingsError, match="ransactional"):
        await Worker.joined(open_kafka(broker.bootstrap), group, topic)
    worker = await loaded_worker(log, topic, 5, group)
    await worker.consumer.commit(done_to(topic, 5, *answers(results, 5)))
    assert values(await all_records(log, results)) == [b"%d" % n for n in range(5)]
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(5)}


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_a_call_may_take_longer_than_the_poll_interval(open_kafka, protocol, delivery):
    """Who polls without room while its calls take thrice `max.poll.interval.ms` keeps its partitions and then commits."""
    options = KafkaOptions(delivery=delivery, group_protocol=protocol)
    log = open_kafka(properties=properties_of(protocol), options=options)
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    worker = await loaded_worker(log, topic, 5, group)
    # Alone in its group: of two members the brokers' range assignor gives the partition to the lower id, whoever had it.
    end = time.monotonic() + 3 * RARE_SECONDS
    await polled_until(lambda: time.monotonic() > end, "the call has come back", worker, max_records=0)
    assert (len(worker.owned), worker.revoked_ever, worker.lost_ever) == (1, [], [])
    await worker.consumer.commit(done_to(topic, 5, *answers(results, 5)))
    assert values(await all_records(log, results)) == [b"%d" % n for n in range(5)]
