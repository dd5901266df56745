"""Transactions that the cluster leaves open for good: what of them is ours is found, and never taken into a later one.

Kafka 4.3 and 4.4 leave them when a broker was away for longer than a transaction may last: `penstock.log.kafka.hanging`.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from contract.log_fixtures import Worker, all_records, eventually, made_topic, unique, values
from contract.test_kafka_log import done_at_last, done_to, loaded_worker
from kafka_broker import KafkaBroker, tool
from kafka_own import own_broker
from kafka_proxy import ADD_OFFSETS, END_TRANSACTION, START_PRODUCER, running_proxy
from penstock.errors import LogUnavailable, PartitionsLost
from penstock.log.base import PartProgress
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TRANSACTION_SECONDS = 3.0
SHORT = KafkaOptions(transaction_timeout_seconds=TRANSACTION_SECONDS, revoke_seconds=2.0)
END_SECONDS = 240.0
"""A bound against hanging."""


@pytest.fixture(scope="module")
def broker():
    """A broker of these tests' own, which is away for a while in each of them."""
    broker = own_broker("the broker is killed and stays away")
    yield broker
    broker.stop()


def away(broker: KafkaBroker) -> None:
    """Killed; when it is back, a transaction that was open then has lasted for too long."""
    broker.kill()
    time.sleep(TRANSACTION_SECONDS)
    broker.start()


async def cut_off(worker: Worker, proxy, act, request: int, log: KafkaLog, results: str) -> asyncio.Task[None]:
    """A commit of which the broker has everything but this request, and nothing that comes after it."""

    async def is_written() -> bool:
        return (await log.bounds(results))[Partition(results, 0)].high > 0

    proxy.lose("request", request)
    proxy.swallow(request, START_PRODUCER)
    commit = asyncio.create_task(worker.consumer.commit(act))
    async with asyncio.timeout(END_SECONDS):
        await proxy.has_lost.wait()
    await eventually(is_written, "its record stands there")
    return commit


async def all_of(log: KafkaLog, results: str, count: int) -> list[bytes | None]:
    """Everything committed, once there is so much of it: readers come back later than a broker."""

    async def is_there() -> bool:
        try:
            return len(await all_records(log, results)) >= count
        except LogUnavailable:
            return False

    await eventually(is_there, f"{count} results can be read")
    return values(await all_records(log, results))


@pytest.mark.parametrize("request_", [ADD_OFFSETS, END_TRANSACTION], ids=["before it was asked", "its commit asked"])
async def test_a_broker_that_stays_away_doubles_nothing(open_kafka, broker, request_):
    """Law 1: an act that was open when the broker died is there once when the worker has tried it again, whatever the broker made of it."""
    log = open_kafka(broker.bootstrap)
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}", options=SHORT)
        worker = await loaded_worker(behind, topic, 6, group)
        first = done_to(topic, 4, NewRecord(results, b"k", b"0-3"))
        commit = await cut_off(worker, proxy, first, request_, log, results)
        await asyncio.to_thread(away, broker)
        proxy.swallow()
        proxy.stop()
        async with asyncio.timeout(END_SECONDS):
            done = OffsetMap(0)
            try:
                await commit
                done = OffsetMap(4)
            except (LogUnavailable, PartitionsLost):
                pass
            while done.base < 4:
                done = await done_at_last(worker, first.parts[0])
            last = NewRecord(results, b"k", b"4-5")
            while done.base < 6:
                done = await done_at_last(worker, PartProgress(Partition(topic, 0), OffsetMap(6), (last,)))
        assert await all_of(log, results, 2) == [b"0-3", b"4-5"]
        assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(6)}
        await behind.close()


@pytest.mark.parametrize("request_", [ADD_OFFSETS, END_TRANSACTION], ids=["before it was asked", "its commit asked"])
async def test_a_successor_takes_nothing_over(open_kafka, broker, request_):
    """Law 1: what a worker left open when it died with its broker is not committed by the worker that comes after it in its slot."""
    log = open_kafka(broker.bootstrap)
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}", options=SHORT)
        worker = await loaded_worker(behind, topic, 6, group)
        commit = await cut_off(
            worker, proxy, done_to(topic, 4, NewRecord(results, b"k", b"never")), request_, log, results
        )
        proxy.vanish()
        await asyncio.to_thread(away, broker)
        successor = await Worker.joined(open_kafka(broker.bootstrap), group, topic, slot="a")
        await successor.owns(1)
        assert successor.owned[Partition(topic, 0)].done == OffsetMap(0)
        await successor.read_count(6)
        await successor.consumer.commit(done_to(topic, 6, NewRecord(results, b"k", b"0-5")))
        assert await all_of(log, results, 1) == [b"0-5"]
        assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(6)}
        await behind.close()
        with pytest.raises(Exception, match=r"closed while the outcome|commit"):
            await commit


async def test_a_commit_that_was_taken_back_is_not_believed(open_kafka, broker):
    """Law 1: where the cluster takes back what it had said was committed, and was in trouble, the worker begins again from where the group stands."""
    log = open_kafka(broker.bootstrap)
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}", options=SHORT)
        worker = await loaded_worker(behind, topic, 6, group)
        proxy.lose("truth")
        await worker.consumer.commit(done_to(topic, 4, NewRecord(results, b"k", b"taken back")))
        assert proxy.has_lost.is_set()
        proxy.stop()
        await eventually(lambda: _has_heard(behind), "its clients have noticed")
        only = Partition(topic, 0)
        async with asyncio.timeout(END_SECONDS):
            later = PartProgress(only, OffsetMap(6), (NewRecord(results, b"k", b"4-5"),))
            assert await done_at_last(worker, later) == OffsetMap(0), "it begins again from where the group stands"
            done, again = OffsetMap(0), PartProgress(only, OffsetMap(6), (NewRecord(results, b"k", b"0-5"),))
            while done.base < 6:
                done = await done_at_last(worker, again)
        assert await all_of(log, results, 1) == [b"0-5"]
        assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(6)}
        await behind.close()


async def test_what_was_taken_back_of_a_commit_is_written_again(open_kafka, broker):
    """Law 1: where the cluster has committed an act and takes back a part of it, that part is written again, and where it was."""
    log = open_kafka(broker.bootstrap)
    topic, results, group = await made_topic(log, 1), await made_topic(log, 2), unique("g")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as proxy:
        behind = open_kafka(f"127.0.0.1:{broker.proxy_port}")
        worker = await loaded_worker(behind, topic, 6, group)
        first = [NewRecord(results, b"k", b"%d" % n, partition=n % 2) for n in range(4)]
        proxy.lose("truth")
        await worker.consumer.commit(done_to(topic, 4, *first))
        place = ["--topic", results, "--partition", "1", "--start-offset", "0"]
        command = ["--bootstrap-server", broker.bootstrap, "abort", *place]
        await asyncio.to_thread(tool, "org.apache.kafka.tools.TransactionsCommand", *command)
        await proxy.let_on()
        assert await all_of(log, results, 2) == [b"0", b"2"]
        proxy.stop()
        await eventually(lambda: _has_heard(behind), "its clients have noticed")
        await worker.consumer.commit(done_to(topic, 6, NewRecord(results, b"k", b"4", partition=1)))
        assert await all_of(log, results, 5) == [b"0", b"2", b"1", b"3", b"4"]
        assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(6)}
        await behind.close()


async def _has_heard(log: KafkaLog) -> bool:
    return log._connection.troubles > 0
