"""Static membership: a worker that comes back under its name has its partitions again, and nobody else hears of it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from contract.log_fixtures import (
    Echo,
    Worker,
    all_records,
    eventually,
    made_topic,
    numbered,
    polled_until,
    unique,
    values,
)
from contract.test_kafka_log import started
from kafka_broker import session_broker
from penstock.errors import PartitionsLost, SettingsError
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.record import NewRecord, Partition

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def static(protocol: str) -> KafkaOptions:
    return KafkaOptions(group_protocol=protocol, static_membership=True)


def epoch_of(worker: Worker):
    """What the member would show the group's coordinator now: name, id and epoch or generation."""
    return worker.consumer._membership._consumer.consumer_group_metadata()


async def at_work(log: KafkaLog, group: str, topic: str, results: str, slot: str) -> Echo:
    """A member that answers what it reads."""
    echo = Echo(results)
    echo.consumer = await log.join(group, [topic], echo, start_from="earliest", slot=slot)
    return echo


async def numbered_in_each(log: KafkaLog, topic: str, first: int) -> None:
    for number in range(4):
        await log.append(numbered(topic, 5, partition=number, first=first))


async def answered(log: KafkaLog, results: str) -> list[int]:
    return sorted(int(value) for value in values(await all_records(log, results)))


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_a_worker_that_restarts_gets_its_partitions_back(open_kafka, protocol):
    """While it is away and when it is back the other works on, is told of nothing, and its epoch stays what it was."""
    log = open_kafka(options=static(protocol))
    topic, results, group = await made_topic(log, 4), await made_topic(log, 1), unique("g")
    stays = await at_work(open_kafka(options=static(protocol)), group, topic, results, "a")
    goes = await at_work(open_kafka(options=static(protocol)), group, topic, results, "b")
    await polled_until(lambda: len(stays.owned) == len(goes.owned) == 2, "each has its half", stays, goes)
    told, epoch, half = list(stays.assigned_ever), epoch_of(stays), sorted(goes.owned)
    gone = list(stays.revoked_ever)
    await goes.consumer.close()
    await numbered_in_each(log, topic, 0)
    await stays.work(lambda: len(stays.read) >= 10)
    back = await at_work(open_kafka(options=static(protocol)), group, topic, results, "b")
    await asyncio.gather(back.work(lambda: len(back.read) >= 10), stays.work(lambda: len(back.read) >= 10))
    assert (sorted(back.owned), len(back.read), len(stays.read)) == (half, 10, 10)
    assert epoch_of(stays) == epoch
    assert (stays.assigned_ever, stays.revoked_ever, stays.lost_ever) == (told, gone, [])
    assert await answered(log, results) == sorted(list(range(5)) * 4)


@pytest.mark.parametrize("protocol", ["consumer", "classic", "auto"])
async def test_a_worker_that_was_killed_comes_back_under_its_name(open_kafka, protocol):
    """Classic, and hence auto: its half is its own again, the other's epoch stays. Brokers' own groups keep the name of the dead
    for its session: it waits for that. Either way everything is answered once, and the other loses nothing.
    """
    options = static(protocol)
    log = open_kafka(options=options)
    topic, results, group = await made_topic(log, 4), await made_topic(log, 1), unique("g")
    stays, stop = await at_work(log, group, topic, results, "a"), asyncio.Event()
    given = (f"group_protocol={protocol}", "static_membership=true")
    command = [sys.executable, "tests/kafka_worker.py", session_broker().bootstrap, group, topic, results, "b", *given]
    killed = await begun_beside(stays, command)
    try:
        await eventually(lambda: has_halves(log, group, stays), "each has its half")
    finally:
        killed.kill()
        killed.communicate()
    told, gone, epoch = list(stays.assigned_ever), list(stays.revoked_ever), epoch_of(stays)
    await numbered_in_each(log, topic, 0)
    await stays.work(lambda: len(stays.read) >= 10)
    working = asyncio.create_task(stays.work(stop.is_set))
    back = await started(command, "joined")
    try:
        await numbered_in_each(log, topic, 5)
        await eventually(lambda: has_answers(log, results, 40), "all is answered")
    finally:
        stop.set()
        await working
        back.kill()
        back.communicate()
    assert await answered(log, results) == sorted(list(range(10)) * 4)
    assert stays.lost_ever == []
    if protocol != "consumer":
        assert epoch_of(stays) == epoch
        assert (stays.assigned_ever, stays.revoked_ever, len(stays.read)) == (told, gone, 20)


async def begun_beside(worker: Worker, command: list[str]) -> subprocess.Popen[bytes]:
    """A process that joins the group of a worker that goes on polling."""
    starting = asyncio.create_task(started(command, "joined"))
    await polled_until(starting.done, "the other has joined", worker)
    return starting.result()


async def has_halves(log: KafkaLog, group: str, worker: Worker) -> bool:
    """As the group's coordinator sees it: the process beside the worker has taken up its own."""
    await worker.poll(0)
    return [len(member.partitions) for member in (await log.groups())[group]] == [2, 2] and len(worker.owned) == 2


async def has_answers(log: KafkaLog, results: str, count: int) -> bool:
    await asyncio.sleep(0.2)
    return len(await answered(log, results)) >= count


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_two_workers_of_one_name(open_kafka, caplog, protocol):
    """Brokers' own groups keep the one who came first, classic ones the newest: the other stops, and is told which setting to change."""
    caplog.set_level(logging.WARNING, "penstock")
    options = static(protocol)
    log, later_log = open_kafka(options=options), open_kafka(options=options)
    topic, results, group = await made_topic(log, 1), await made_topic(log, 1), unique("g")
    partition = Partition(topic, 0)
    first = await Worker.joined(log, group, topic, slot="eu-1")
    await first.owns(1)
    later = await Worker.joined(later_log, group, topic, slot="eu-1")
    stops, stays, its_log = (later, first, later_log) if protocol == "consumer" else (first, later, log)
    with pytest.raises(SettingsError) as told:
        await polled_until(lambda: False, "told that the name is taken", first, later, max_records=0)
    for words in ("slot='eu-1'", f"group {group!r}", "kafka_log.static_membership", "PENSTOCK_SLOT"):
        assert words in str(told.value)
    with pytest.raises(SettingsError, match="eu-1"):
        await stops.poll()
    await its_log.close()
    assert ("slot eu-1 is taken" in caplog.text) == (protocol == "consumer")
    await log_of(stays, log, later_log).append(numbered(topic, 3))
    await answered_by(stays, partition, results)
    assert values(await all_records(open_kafka(), results)) == [b"0-2"]


def log_of(stays: Worker, *logs: KafkaLog) -> KafkaLog:
    return next(log for log in logs if stays.consumer in log._consumers)


async def answered_by(worker: Worker, partition: Partition, results: str) -> None:
    """Whose producer was fenced by its double joins again first."""
    await worker.read_count(3)
    try:
        await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"0-2")))
    except PartitionsLost:
        await polled_until(lambda: bool(worker.lost_ever), "told that it is lost", worker)
        await polled_until(lambda: partition in worker.owned, "owned again", worker)
        await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"0-2")))
