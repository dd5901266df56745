"""Who looks at all groups of a cluster sees those that can be seen: one that is refused, or whose topic goes, hides nobody."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AclOperation, AdminClient, ResourceType

from contract.log_fixtures import Worker, made_topic, numbered, unique
from kafka_broker import guarded_broker, session_broker
from penstock.errors import SettingsError
from penstock.log.base import EventLog
from penstock.ops.asking import unasked
from penstock.ops.groups import look_at_groups

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def reading(log: EventLog) -> tuple[str, str]:
    """A group that has two events of a new topic before it, and the topic."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 3))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(3)
    await worker.consumer.commit(worker.progress())
    await log.append(numbered(topic, 2))
    return group, topic


async def test_a_group_that_is_not_shown_hides_nobody(open_kafka):
    """It is named with the right that is missing, the others are shown; who asks for it alone is refused."""
    broker = guarded_broker()
    log = open_kafka(broker.bootstrap)
    hidden, _ = await reading(log)
    seen, topic = await reading(log)
    broker.deny(ResourceType.GROUP, hidden, AclOperation.DESCRIBE)
    found = await look_at_groups(log, of=lambda group: group in (seen, hidden))
    assert [(row.group, row.topic, row.lag_events) for row in found.rows] == [(seen, topic, 2)]
    assert list(found.unreadable) == [hidden]
    assert "refused" in found.unreadable[hidden]
    with pytest.raises(SettingsError, match=hidden):
        await look_at_groups(log, hidden)


async def test_a_topic_that_is_deleted_meanwhile_hides_nobody(open_kafka, monkeypatch):
    """Listed, and gone when it is asked about: its row is left out, all others stand."""
    log = open_kafka()
    gone_group, gone = await reading(log)
    group, topic = await reading(log)
    listed, behind = await log.topics(), await log.topics_of(gone_group)
    assert behind == {gone}
    before = await look_at_groups(log, of=lambda name: name in (group, gone_group))
    admin = AdminClient({"bootstrap.servers": session_broker().bootstrap})
    for future in admin.delete_topics([gone]).values():
        future.result(30)

    async def topics():
        return listed

    topics_of = log.topics_of

    async def once_seen(name):
        return behind if name == gone_group else await topics_of(name)

    monkeypatch.setattr(log, "topics", topics)
    monkeypatch.setattr(log, "topics_of", once_seen)
    found = await look_at_groups(log, of=lambda name: name in (group, gone_group))
    assert ([(row.group, row.topic) for row in found.rows], found.unreadable) == ([(group, topic)], {})
    waits = await unasked(log, [], before.behind())
    assert {wait.topic for wait in waits} == {topic}
