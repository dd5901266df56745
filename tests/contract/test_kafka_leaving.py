"""How a member leaves: librdkafka may freeze the whole process where a rebalance is served inside `close` (its issue 4041)."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Consumer

from contract.log_fixtures import eventually, made_topic, unique
from kafka_broker import session_broker
from penstock.log.kafka import KafkaLog
from penstock.log.kafka.leaving import Leaving

pytestmark = pytest.mark.kafka

QUICK = {
    "heartbeat.interval.ms": 300,
    "session.timeout.ms": 6_000,
    "partition.assignment.strategy": "cooperative-sticky",
}


class Leaver:
    """A member that was given partitions and has not heard of it yet; knows when its callbacks came."""

    def __init__(self, group: str, topic: str, settings: dict[str, object]) -> None:
        self.served: list[str] = []
        self._leaving, self._now = Leaving(keeps_place="group.instance.id" in settings), "before"
        common = {"bootstrap.servers": session_broker().bootstrap, "group.id": group, "enable.auto.commit": False}
        self._consumer = Consumer({**common, **settings})
        self._consumer.subscribe([topic], on_assign=self._serve, on_revoke=self._serve, on_lost=self._serve)

    def __getattr__(self, name: str):
        return getattr(self._consumer, name)

    def leave(self) -> None:
        self._now = "leaving"
        self._leaving.leave(self)

    def close(self) -> None:
        self._now = "inside close"
        self._consumer.close()

    def _serve(self, _consumer, _partitions) -> None:
        self.served.append(self._now)
        self._leaving.serve()


@pytest.mark.parametrize("settings", [{"group.protocol": "consumer"}, QUICK], ids=["consumer", "classic"])
async def test_no_rebalance_is_served_inside_close(open_kafka, settings):
    """A member that leaves with a rebalance on its hands has served it before `close`, and the group is rid of it at once."""
    log, group = open_kafka(), unique("g")
    topic = await made_topic(log, 4)

    async def is_left() -> bool:
        return not (await log.groups()).get(group)

    for _ in range(5):
        leaver = Leaver(group, topic, settings)
        await is_given(log, group)
        assert leaver.served == []
        await asyncio.to_thread(leaver.leave)
        assert set(leaver.served) == {"leaving"}
        await eventually(is_left, "the group is empty")


async def test_a_static_member_of_a_classic_group_keeps_its_place(open_kafka):
    """It serves what it has on its hands before `close`, which then gives back what is its own; its place waits for it."""
    log, group = open_kafka(), unique("g")
    leaver = Leaver(group, await made_topic(log, 4), {**QUICK, "group.instance.id": "a"})
    await is_given(log, group)
    members = (await log.groups())[group]
    await asyncio.to_thread(leaver.leave)
    assert leaver.served == ["leaving", "inside close"]
    assert (await log.groups())[group] == members


async def is_given(log: KafkaLog, group: str) -> None:
    """The broker has sent a member its partitions, and they are here."""

    async def has_sent() -> bool:
        return any(member.partitions for member in (await log.groups()).get(group, []))

    await eventually(has_sent, "the member is given partitions")
    await asyncio.sleep(0.2)
