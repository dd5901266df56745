"""The doctor on Apache Kafka: a wrong address, topics as they should not be, rights that are missing, a real transaction."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AclOperation, ResourceType

import kafka_broker
from fakes import ScriptedTier, make_task
from kafka_broker import GuardedBroker, guarded_broker
from penstock.doctor.kafka import kafka
from penstock.log.kafka import KafkaLog
from penstock.log.state import STATE_TOPIC
from penstock.settings import KafkaAddress, load_settings
from penstock.wiring import topic_specs

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def guarded() -> GuardedBroker:
    """A broker that asks for rights: whatever no rule denies is allowed."""
    return guarded_broker()


def a_task(**options):
    """A task with names of its own: brokers are shared by tests."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    given = {"reads": f"{name}-events", "writes": f"{name}-out", "dead_letters": f"{name}-dlq"} | options
    return replace(make_task(ScriptedTier(), **given), name=name)


async def made(bootstrap, task, **partitions):
    log = KafkaLog(bootstrap)
    specs = topic_specs(task, partitions.get("reads", 3))
    await log.create_topics([replace(s, partitions=partitions.get(s.name, s.partitions)) for s in specs])
    await log.close()


async def seen(bootstrap, *tasks, **options):
    """Findings by check."""
    assignments = [f"log=kafka:{bootstrap}", *(f"kafka_log.{name}={value}" for name, value in options.items())]
    settings = load_settings(assignments=assignments).settings
    found = await kafka(settings, KafkaAddress(bootstrap), tasks)
    return {finding.check: finding for finding in found}


async def test_a_cluster_that_has_everything_is_well():
    """Broker, topics, group, a transaction that was written and aborted, the broker's clock."""
    bootstrap = kafka_broker.session_broker().bootstrap
    task = a_task()
    await made(bootstrap, task)
    found = await seen(bootstrap, task)
    assert [finding for finding in found.values() if finding.status != "ok"] == []
    looks = {"broker", "version", "delivery", "transactions", "clock", "disk"}
    assert found.keys() >= {f"log {name}" for name in looks} | {f"group {task.group}", f"topic {task.reads}"}
    assert "4.0 or newer" in found["log version"].seen
    assert f"kafka-log-dirs --bootstrap-server {bootstrap} --describe" in found["log disk"].seen
    assert "begun, written and aborted" in found["log transactions"].seen
    assert "of the broker's" in found["log clock"].seen


async def test_what_the_doctor_writes_nobody_reads():
    """Its transaction is aborted: readers of committed data see nothing in the state topic."""
    bootstrap = kafka_broker.session_broker().bootstrap
    task = a_task()
    await made(bootstrap, task)
    log = KafkaLog(bootstrap)
    before = await log.bounds(STATE_TOPIC)
    await seen(bootstrap, task)
    after = await log.bounds(STATE_TOPIC)
    await log.close()
    assert after != before, "the transaction was real"
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "nobody",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(p.topic, p.number, before[p].high) for p in before])
    records = [message for message in consumer.consume(10, 2.0) if message.error() is None]
    consumer.close()
    assert not [
        message for message in records if message.value() == b"penstock-doctor" or message.key() == b"penstock-doctor"
    ]


async def test_a_wrong_address_is_one_finding_that_names_it():
    """Topics, groups and transactions say nothing more where nobody answers."""
    found = await seen("127.0.0.1:1", a_task())
    assert list(found) == ["log broker"]
    assert found["log broker"].status == "fail"
    assert "127.0.0.1:1" in found["log broker"].seen
    assert "Connection refused" in found["log broker"].seen
    assert "kafka:127.0.0.1:1" in found["log broker"].fix


async def test_topics_that_are_missing_or_narrow_are_told_each():
    """A topic of one partition works and does not share; a missing one does not work."""
    bootstrap = kafka_broker.session_broker().bootstrap
    narrow, nowhere = a_task(), a_task()
    await made(bootstrap, narrow, reads=1)
    found = await seen(bootstrap, narrow, nowhere)
    assert found[f"topic {narrow.reads}"].status == "warn"
    assert "has one partition" in found[f"topic {narrow.reads}"].seen
    for name in (nowhere.reads, nowhere.writes, nowhere.dead_letters, nowhere.retry_topic):
        assert found[f"topic {name}"].status == "fail"
        assert f"penstock topics create {name}" in found[f"topic {name}"].fix


async def test_rights_that_are_missing_are_told_with_the_rule_that_gives_them(guarded):
    """Topics, group and transactional id: what a worker would be refused, and the command for who may grant it."""
    task = a_task()
    await made(guarded.bootstrap, task)
    assert {finding.status for finding in (await seen(guarded.bootstrap, task)).values()} == {"ok"}
    guarded.deny(ResourceType.TOPIC, task.writes, AclOperation.WRITE)
    guarded.deny(ResourceType.TOPIC, task.dead_letters, AclOperation.DESCRIBE)
    guarded.deny(ResourceType.GROUP, task.group, AclOperation.READ)
    found = await seen(guarded.bootstrap, task)
    written = found[f"topic {task.writes}"]
    for name in (f"topic {task.writes}", f"topic {task.dead_letters}", f"group {task.group}"):
        assert found[name].status == "fail", (name, found[name])
    assert f"topic {task.writes}" in written.fix.replace("--topic", "topic")
    assert "--operation Write" in written.fix
    assert f"--group {task.group}" in found[f"group {task.group}"].fix
    assert found[f"topic {task.reads}"].status == "ok"


async def test_a_transactional_id_that_is_refused_is_told(guarded):
    """Without it nothing could be committed: better to know before the first event."""
    task = a_task()
    await made(guarded.bootstrap, task)
    guarded.deny(ResourceType.TRANSACTIONAL_ID, f"{task.group}/", AclOperation.WRITE, is_prefix=True)
    found = (await seen(guarded.bootstrap, task))["log transactions"]
    assert found.status == "fail"
    assert "--transactional-id" in found.fix


@pytest.mark.slow
async def test_brokers_without_groups_of_their_own_are_told():
    """They are well with the classic protocol, and that is said; where the new one is asked for, the setting is named."""
    bootstrap = kafka_broker.classic_broker().bootstrap
    task = a_task()
    await made(bootstrap, task)
    found = await seen(bootstrap, task)
    assert {finding.status for finding in found.values()} == {"ok"}, found
    assert "classic group protocol" in found["log broker"].seen
    assert found["log version"].status == "ok"
    asked = (await seen(bootstrap, task, group_protocol="consumer"))["log version"]
    assert asked.status == "fail"
    assert "kafka_log.group_protocol=consumer" in asked.seen
    assert "kafka_log.group_protocol=auto" in asked.fix


@pytest.mark.slow
async def test_a_retry_topic_as_wide_as_the_input_is_told_where_it_matters():
    """Classic groups, by the brokers' age or by setting: a worker may get no events. With groups of Kafka 4 nothing is said."""
    task = a_task()
    new, old = kafka_broker.session_broker().bootstrap, kafka_broker.classic_broker().bootstrap
    told = {}
    for name, bootstrap, options in (
        ("new", new, {}), ("new, classic", new, {"group_protocol": "classic"}), ("new, static", new, {"static_membership": "true"}),
        ("old", old, {}),
    ):  # fmt: skip
        await made(bootstrap, task, **{task.retry_topic: 3})
        told[name] = (await seen(bootstrap, task, **options))[f"topic {task.retry_topic}"].status
    assert told == {"new": "ok", "new, classic": "warn", "new, static": "warn", "old": "warn"}
