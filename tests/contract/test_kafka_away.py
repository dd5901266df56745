"""A cluster that goes away for good, a producer that is given up: whoever waits, closes or stops comes to an end."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError

from contract.log_fixtures import Worker, all_records, eventually, made_topic, numbered, unique
from contract.test_kafka_log import done_to, loaded_worker
from fakes import ScriptedTier, make_task, note
from kafka_broker import session_broker
from kafka_proxy import Proxy
from penstock import Task
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.errors import LogError, LogUnavailable
from penstock.log.base import TopicSpec
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.topics import state_spec
from penstock.record import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

HASTY = KafkaOptions(commit_timeout_seconds=2.0, revoke_seconds=2.0)
END_SECONDS = 90.0
"""A bound against hanging."""


def behind(open_kafka, **options) -> KafkaLog:
    return open_kafka(f"127.0.0.1:{session_broker().proxy_port}", **options)


async def has_vanished(proxy: Proxy) -> None:
    """The end of a transaction was lost, and with it everything behind the proxy."""
    async with asyncio.timeout(30):
        await proxy.has_lost.wait()
    proxy.vanish()


@pytest.mark.parametrize("alone", [False, True], ids=["with progress", "appends alone"])
async def test_closing_gives_up_an_outcome_that_nobody_can_tell(proxy, open_kafka, alone):
    """Who commits is told that it was closed in doubt, and nothing of the act becomes visible."""
    log = open_kafka()
    topic, results = await made_topic(log, 1), await made_topic(log, 1)
    lost = behind(open_kafka, options=HASTY)
    worker: Worker = await loaded_worker(lost, topic, 5, unique("g"))
    record = NewRecord(results, b"k", b"never")
    proxy.lose("request")
    commit = asyncio.create_task(
        worker.consumer.commit(worker.progress(record, only=[]) if alone else done_to(topic, 5, record))
    )
    await has_vanished(proxy)
    async with asyncio.timeout(END_SECONDS):
        await lost.close()
        with pytest.raises(LogError, match="closed while the outcome of a commit was unknown"):
            await commit
    assert await all_records(log, results) == []


async def test_a_worker_that_is_stopped_when_its_log_is_gone_ends(proxy, open_kafka, caplog):
    """Its last act is in doubt: said, not waited for; whoever takes over answers the event again or finds it done, never twice."""
    caplog.set_level(logging.ERROR, "penstock.engine")
    log, name = open_kafka(), unique("notes")
    tier, topics = ScriptedTier(), {"writes": f"{name}-results", "dead_letters": f"{name}-dlq"}
    task = replace(make_task(tier, reads=name, **topics), name=unique("task"))
    specs = [TopicSpec(topic, 1) for topic in (name, *topics.values(), task.retry_topic)]
    await log.create_topics([*specs, state_spec()])
    stop, seldom = asyncio.Event(), PipelineOptions(commit_interval_seconds=60.0, drain_seconds=1.0)
    working = asyncio.create_task(Pipeline(task, [tier], behind(open_kafka, options=HASTY), seldom).run(stop))
    await log.append([note(1, topic=name)])
    await eventually(lambda: has_results(log, task, 1), "the first event has its result")
    await log.append([note(2, topic=name)])
    await eventually(lambda: has_answered(tier, 2), "the second is answered, and waits for its commit")
    proxy.lose("request")
    stop.set()
    await has_vanished(proxy)
    async with asyncio.timeout(END_SECONDS):
        await working
    assert "does not say whether the last commit was written" in caplog.text
    stop = asyncio.Event()
    working = asyncio.create_task(Pipeline(task, [tier], open_kafka()).run(stop))
    await log.append([note(3, topic=name)])
    await eventually(lambda: has_results(log, task, 3), "what was in doubt is answered again")
    stop.set()
    async with asyncio.timeout(END_SECONDS):
        await working
    places = [json.loads(record.value or b"")["source"]["offset"] for record in await all_records(log, task.writes)]
    assert sorted(places) == [0, 1, 2]


async def has_results(log: KafkaLog, task: Task[Any, Any], count: int) -> bool:
    return len(await all_records(log, task.writes)) >= count


async def has_answered(tier: ScriptedTier, calls: int) -> bool:
    return tier.finished >= calls


async def test_a_producer_that_is_given_up_takes_nobody_with_it(open_kafka):
    """As after a fatal error of one append: those that come while it ends, and all later ones, are told where they stand."""
    log = open_kafka()
    topic = await made_topic(log, 1)
    appender = log._appender
    async with asyncio.timeout(END_SECONDS):
        await appender.append(numbered(topic, 1))
        ending = asyncio.create_task(asyncio.to_thread(appender.close))
        await asyncio.sleep(0)
        positions = await appender.append(numbered(topic, 1))
        await ending
        positions += await appender.append(numbered(topic, 1))
    assert [position.offset for position in positions] == [1, 2]


async def test_after_a_fatal_error_of_the_producer_appends_go_on(open_kafka):
    """The append in flight is told the cause before its time is over; the next one is written, by another producer."""
    log = open_kafka()
    topic = await made_topic(log, 1)
    appender = log._appender
    async with asyncio.timeout(END_SECONDS):
        await appender.append(numbered(topic, 1))
        broken = appender._sender.producer
        waiting = asyncio.create_task(appender.append(numbered(topic, 1)))
        await asyncio.sleep(0)  # it is in the producer's queue, which lingers
        break_for_good(broken)
        with pytest.raises(LogUnavailable, match=f"{topic}: .*as a test wants it"):
            await waiting
        (position,) = await appender.append(numbered(topic, 1))
        assert position.offset in (1, 2)  # the one in flight may have been on its way
        break_for_good(appender._sender.producer)  # nobody is waiting: the next one hears of it
        with suppress(LogUnavailable):
            await appender.append(numbered(topic, 1))
        await appender.append(numbered(topic, 1))


def break_for_good(producer: Any) -> None:
    """A fatal error, by librdkafka's own function for tests; the handle stands behind the header of the Python object."""
    (library,) = Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka*")
    break_it = ctypes.CDLL(str(library)).rd_kafka_test_fatal_error
    break_it.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__).value
    assert break_it(handle, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"as a test wants it") == 0


async def test_an_append_that_nobody_confirms_ends(proxy, open_kafka):
    """The cluster is gone: told within the time that a request has, with the topic and the last cause."""
    log = behind(open_kafka, options=KafkaOptions(request_timeout_seconds=2.0))
    topic = await made_topic(log, 1)
    await log.append(numbered(topic, 1))
    proxy.vanish()
    async with asyncio.timeout(END_SECONDS):
        with pytest.raises(LogUnavailable, match="appending"):
            await log.append(numbered(topic, 1))
