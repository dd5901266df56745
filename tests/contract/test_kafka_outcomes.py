"""What became of a commit whose answer never came is found out rightly, also where its worker slept while others went on."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, ResourceType

from contract.log_fixtures import Worker, all_records, eventually, made_topic, polled_until, unique, values
from contract.test_kafka_log import QUICK_TO_DOUBT, done_to, loaded_worker
from kafka_broker import guarded_broker, session_broker
from kafka_proxy import END_TRANSACTION, START_PRODUCER, Proxy, running_proxy
from penstock.errors import LogUnavailable, PartitionsLost
from penstock.log.kafka import KafkaOptions
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition

pytestmark = pytest.mark.kafka

SLEEPY = {"max.poll.interval.ms": 2_000}
"""A member that goes unless it polls: it takes no part while it waits for its commit."""
NEVER_IN_DOUBT = KafkaOptions(commit_timeout_seconds=120.0)
"""Such a worker asks for the same commit until somebody answers."""
END_SECONDS = 150.0
"""A bound against hanging."""


async def asleep(open_kafka, proxy: Proxy, lost, topic: str, group: str, act, options: KafkaOptions):
    """A worker that has asked for the commit of `act` and hears nothing until it is woken; and that commit."""
    log = open_kafka(f"127.0.0.1:{session_broker().proxy_port}", options=options, properties=SLEEPY)
    worker = await loaded_worker(log, topic, 6, group, slot="a")
    proxy.lose(lost)
    proxy.swallow(END_TRANSACTION, START_PRODUCER)
    commit = asyncio.create_task(worker.consumer.commit(act))
    async with asyncio.timeout(END_SECONDS):
        await proxy.has_lost.wait()
    return worker, commit


async def owns_nothing(worker: Worker, topic: str) -> None:
    """It hears that its partition is gone, and commits nothing more of it."""
    await polled_until(lambda: not worker.owned, "told that it is gone", worker, max_records=0)
    with pytest.raises(PartitionsLost):
        await worker.consumer.commit(done_to(topic, 6))


@pytest.mark.parametrize("slot", ["another slot", "the same slot"])
async def test_a_commit_that_happened_is_known_when_the_next_owner_has_gone_on(open_kafka, proxy, slot):
    """Law 9: a commit that happened returns as done, also when the next owner has moved the group on before one could look."""
    log, is_fenced = open_kafka(), slot == "the same slot"
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    first = done_to(topic, 4, NewRecord(results, b"k", b"0-3"))
    options = NEVER_IN_DOUBT if is_fenced else QUICK_TO_DOUBT
    worker, commit = await asleep(open_kafka, proxy, "answer", topic, group, first, options)

    async def happened() -> bool:
        return await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(4)}

    await eventually(happened, "the first commit")
    successor = await Worker.joined(log, group, topic, slot="a" if is_fenced else "b")
    await successor.owns(1)
    assert successor.owned[Partition(topic, 0)].done == OffsetMap(4)
    await successor.consumer.commit(done_to(topic, 6, NewRecord(results, b"k", b"4-5")))
    assert not commit.done()
    proxy.swallow()
    if is_fenced:
        proxy.stop()  # now it asks again, and hears that its producer is another's
    async with asyncio.timeout(END_SECONDS):
        await commit
    await owns_nothing(worker, topic)
    assert values(await all_records(log, results)) == [b"0-3", b"4-5"]
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(6)}


async def test_a_commit_that_did_not_happen_is_known_when_the_next_owner_stands_there(open_kafka, proxy):
    """Law 9: a commit that did not happen is refused, also when the next owner has come to the very same place."""
    log = open_kafka()
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    never = done_to(topic, 6, NewRecord(results, b"k", b"never"))
    worker, commit = await asleep(open_kafka, proxy, "request", topic, group, never, QUICK_TO_DOUBT)
    successor = await Worker.joined(log, group, topic, slot="b")
    await successor.owns(1)
    assert successor.owned[Partition(topic, 0)].done == OffsetMap(0)
    await successor.consumer.commit(done_to(topic, 6, NewRecord(results, b"k", b"0-5")))
    assert not commit.done()
    proxy.swallow()
    async with asyncio.timeout(END_SECONDS):
        with pytest.raises((PartitionsLost, LogUnavailable)):
            await commit
    await owns_nothing(worker, topic)
    assert values(await all_records(log, results)) == [b"0-5"]


@pytest.mark.parametrize("hidden", ["closed to us", "deleted", "behind a stranger's transaction"])
async def test_where_records_cannot_be_seen_progress_tells(open_kafka, hidden):
    """Results closed to us, deleted, or behind a transaction that a stranger leaves open: a commit that happened is known as done."""
    broker, group = guarded_broker(), unique("g")
    log = open_kafka(broker.bootstrap)
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}", options=QUICK_TO_DOUBT)
        worker = await loaded_worker(behind, topic, 6, group, slot="a")
        await worker.consumer.commit(done_to(topic, 1, NewRecord(results, b"k", b"0")))
        stranger = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": unique("stranger")})
        if hidden == "behind a stranger's transaction":
            stranger.init_transactions(30)
            stranger.begin_transaction()
            stranger.produce(results, b"never ends")
            stranger.flush(30)
        proxy.lose("answer")
        proxy.swallow(END_TRANSACTION, START_PRODUCER)
        commit = asyncio.create_task(worker.consumer.commit(done_to(topic, 6, NewRecord(results, b"k", b"0-5"))))

        async def happened() -> bool:
            return await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(6)}

        await eventually(happened, "the commit")
        if hidden == "deleted":
            admin = AdminClient({"bootstrap.servers": broker.bootstrap})
            next(iter(admin.delete_records([TopicPartition(results, 0, 3)]).values())).result(30)
        elif hidden == "closed to us":
            broker.allow_only(ResourceType.TOPIC, results, AclOperation.WRITE)
        proxy.swallow()
        async with asyncio.timeout(END_SECONDS):
            await commit
        # Two records and the ends of their transactions; the stranger's, and what looks whether it is one of ours that hangs.
        written = 4 + 3 * (hidden == "behind a stranger's transaction")
        assert (await log.bounds(results))[Partition(results, 0)].high == written
        await behind.close()
