"""A person's orders to a sink, where the state topic has several partitions, or gets more while the sink runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock import NewRecord
from penstock.log.base import Bounds, TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.state import STATE_TOPIC
from penstock.record import Partition
from penstock.sinks.orders import Again, Orders, pause_order, redeliver_order, resume_order

GROUP = "sink.one"
OLD, NEW = 1_000, 2_000


class Growing(SqliteLog):
    """As if the state topic's second partition were added when a test says so."""

    has_grown = False

    async def bounds(self, topic: str) -> dict[Partition, Bounds]:
        return {p: kept for p, kept in (await super().bounds(topic)).items() if self.has_grown or p.number == 0}


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Growing]:
    made = Growing(tmp_path / "log.db", options=SqliteOptions(synchronous="normal"))
    await made.create_topics([TopicSpec(STATE_TOPIC, 2, retention_ms=None, is_compacted=True)])
    yield made
    await made.close()


def at(partition: int, timestamp_ms: int, order: NewRecord) -> NewRecord:
    return order._replace(partition=partition, timestamp_ms=timestamp_ms)


async def test_orders_in_a_partition_that_was_added_are_obeyed(log: Growing) -> None:
    """Whoever runs already finds them, too."""
    orders = Orders(log, GROUP)
    await orders.look()
    log.has_grown = True
    await log.append([at(1, NEW, pause_order(GROUP))])
    await orders.look()
    assert orders.is_paused


@pytest.mark.parametrize("young", [0, 1])
async def test_the_younger_order_holds_wherever_it_stands(log: Growing, young: int) -> None:
    """Of two partitions: what an old one says of pause, redelivery and how far that is does not win over a newer one."""
    log.has_grown = True
    place = Partition("results", 0)
    await log.append([at(1 - young, OLD, pause_order(GROUP)), at(1 - young, OLD, redeliver_order(GROUP, 5))])
    await log.append([at(1 - young, OLD, Again("old", 1, 9).record(GROUP, place))])
    await log.append([at(young, NEW, resume_order(GROUP)), at(young, NEW, redeliver_order(GROUP, 7))])
    await log.append([at(young, NEW, Again("new", 9, 9).record(GROUP, place))])
    orders = Orders(log, GROUP)
    await orders.look()
    assert not orders.is_paused
    assert orders.redeliver
    assert orders.redeliver[1] == 7
    assert orders.is_noted(place, Again("new", 9, 9))


async def test_within_a_partition_the_later_order_holds(log: Growing) -> None:
    """Whatever the clocks of those who gave them said."""
    await log.append([at(0, NEW, pause_order(GROUP)), at(0, OLD, resume_order(GROUP))])
    orders = Orders(log, GROUP)
    await orders.look()
    assert not orders.is_paused
