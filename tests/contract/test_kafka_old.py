"""A broker that coordinates no groups itself, as all before Kafka 4.0: what is taken unasked, and what is said where it is forced."""

from __future__ import annotations

import pytest

import contract.test_event_log_groups as groups_suite
from contract.log_fixtures import Worker, all_records, made_topic, numbered, polled_until, unique, values
from kafka_broker import classic_broker, tool
from penstock.errors import SettingsError
from penstock.log.kafka import KafkaOptions
from penstock.record import NewRecord, Partition

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

QUICK = {"heartbeat.interval.ms": 300, "session.timeout.ms": 6_000}


@pytest.fixture
def open_old(open_kafka):
    """Handles on such a broker."""
    return lambda **settings: open_kafka(classic_broker().bootstrap, **settings)


async def test_the_classic_protocol_is_taken_unasked(open_old):
    """With nothing set a worker joins as a classic, cooperative-sticky member, reads, commits and goes on where it was."""
    log = open_old()
    topic, results, group = await made_topic(log, 2), await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 3) + numbered(topic, 3, partition=1))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(6)
    told = groups("--describe", "--group", group, "--state")
    assert "cooperative-sticky" in told
    await worker.consumer.commit(worker.progress(NewRecord(results, b"k", b"all")))
    await worker.consumer.close()
    assert values(await all_records(log, results)) == [b"all"]
    later = await Worker.joined(open_old(), group, topic)
    await later.owns(2)
    assert {p: a.done.base for p, a in later.owned.items()} == {Partition(topic, 0): 3, Partition(topic, 1): 3}


async def test_work_in_flight_moves_there_too(open_old):
    """Joins and leaves with work in flight answer every record once."""
    await groups_suite.test_work_in_flight_moves_without_loss(lambda: open_old(properties=QUICK))


async def test_the_new_protocol_by_force_is_refused_by_name(open_old):
    """Not weather, which would be waited out for ever: the setting, the brokers and what to set instead."""
    log = open_old(options=KafkaOptions(group_protocol="consumer"))
    topic = await made_topic(log, 1)
    worker = await Worker.joined(log, unique("g"), topic)
    with pytest.raises(SettingsError) as told:
        await polled_until(lambda: False, "refused", worker)
    for words in ("kafka_log.group_protocol=consumer", classic_broker().bootstrap, "auto or classic"):
        assert words in str(told.value)


def groups(*arguments: str) -> str:
    tools = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    return tool(tools, "--bootstrap-server", classic_broker().bootstrap, *arguments)
