"""One suite, every log: which logs there are, and how a test opens one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

import kafka_broker
from kafka_proxy import Proxy, running_proxy
from penstock.log.base import EventLog
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.sqlite import SqliteLog, SqliteOptions

LOGS = [
    "sqlite",
    pytest.param("kafka", marks=pytest.mark.kafka),
    pytest.param("kafka-at-least-once", marks=[pytest.mark.kafka, pytest.mark.slow]),
]
OpenKafka = Callable[..., KafkaLog]
CLOSE_SECONDS = 120.0

QUICK = SqliteOptions(heartbeat_seconds=0.1, session_timeout_seconds=2.0, synchronous="normal")


def _factory(kind: str, directory: Path) -> Callable[[], EventLog]:
    if kind == "kafka":
        return kafka_broker.kafka_log_factory()
    if (
        kind == "kafka-at-least-once"
    ):  # what the contract promises without a crash; what it cannot: test_kafka_delivery.py
        return kafka_broker.kafka_log_factory(options=KafkaOptions(delivery="at_least_once"))
    return lambda: SqliteLog(directory / "log.db", options=QUICK)


@pytest.fixture(params=LOGS)
async def open_log(request, tmp_path) -> AsyncIterator[Callable[[], EventLog]]:
    """Opens handles on one log, as different processes would; all are closed afterwards."""
    factory = _factory(request.param, tmp_path)
    opened: list[EventLog] = []

    def open_one() -> EventLog:
        opened.append(factory())
        return opened[-1]

    yield open_one
    await _closed(opened)


@pytest.fixture
async def log(open_log) -> EventLog:
    return open_log()


@pytest.fixture
async def open_kafka() -> AsyncIterator[OpenKafka]:
    """Opens handles on Kafka with options of the test's own; all are closed afterwards."""
    opened: list[KafkaLog] = []

    def open_one(bootstrap: str = "", **settings) -> KafkaLog:
        opened.append(KafkaLog(bootstrap or kafka_broker.session_broker().bootstrap, **settings))
        return opened[-1]

    yield open_one
    await _closed(opened)


async def _closed(opened: Sequence[EventLog]) -> None:
    """A log that does not end would hold up the whole run."""
    for log in opened:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await log.close()
        except TimeoutError:
            pytest.fail(f"{log!r} is not closed after {CLOSE_SECONDS:g} s")


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Between us and the session's broker: what passes can be watched, held and lost."""
    broker = kafka_broker.session_broker()
    if not broker.can_restart:
        pytest.skip("needs a broker of our own, with a listener behind a proxy")
    async with running_proxy(broker.proxy_port, broker.behind_proxy_port) as running:
        yield running
