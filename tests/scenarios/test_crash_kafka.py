"""Crash proof on Apache Kafka: kills, zombies, a restarted broker. The reader that judges is Kafka's own console consumer."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter

import pytest

from crash import Stage, assert_laws, crash_run
from kafka_broker import KafkaBroker
from kafka_own import own_broker

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


@pytest.fixture
def broker():
    """A broker of this test's own: its topics have fixed names, and it is restarted."""
    broker = own_broker("the crash proof restarts the broker")
    yield broker
    broker.stop()


SEPARATOR = "\x1f"


def console(broker: KafkaBroker, topic: str, shows: str) -> list[str]:
    """All committed records of a topic, each as one line with its value, its headers or its place."""
    prints = {"value": ["value"], "headers": ["headers"], "place": ["partition", "offset"]}[shows]
    kinds = ("value", "headers", "partition", "offset")
    formats = [f"--formatter-property=print.{kind}={str(kind in prints).lower()}" for kind in kinds]
    command = broker._java(
        "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker.bootstrap, "--topic", topic,
        "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "8000",
        *formats, f"--formatter-property=headers.separator={SEPARATOR}",
    )  # fmt: skip
    out = subprocess.run(command, capture_output=True, check=False, timeout=300).stdout
    return out.decode("utf-8", "replace").splitlines()


def endings_by_console(broker: KafkaBroker) -> Counter:
    """(task, partition, offset) of every committed result and dead letter, as Kafka's console consumer reads them."""
    found: Counter = Counter()
    for line in console(broker, "review-ai-results", "value"):
        result = json.loads(line)
        if result is None:  # a deletion ends nothing: it erases
            continue
        found[result["task"], result["source"]["partition"], result["source"]["offset"]] += 1
    for line in console(broker, "review-dlq", "headers"):
        headers = dict(pair.split(":", 1) for pair in line.split(SEPARATOR) if ":" in pair)
        if "penstock.erased.task" in headers:
            continue
        at = (int(headers["penstock.errors.partition"]), int(headers["penstock.errors.offset"]))
        found[(headers["penstock.errors.task"], *at)] += 1
    return found


def produced_by_console(broker: KafkaBroker) -> set[tuple[int, int]]:
    """(partition, offset) of every event there is, as Kafka's console consumer reads them."""
    lines = console(broker, "review-events", "place")
    places = [re.search(r"Partition:(\d+)\tOffset:(\d+)|Offset:(\d+)\tPartition:(\d+)", line) for line in lines]
    found = [(int(at[1] or at[4]), int(at[2] or at[3])) for at in places if at]
    assert len(found) == len(set(found))
    return set(found)


def check_by_console(broker: KafkaBroker):
    async def check(made: Stage) -> None:
        seen = await asyncio.to_thread(endings_by_console, broker)
        assert [place for place, times in seen.items() if times > 1] == []
        findings = made.judge.findings
        produced = await asyncio.to_thread(produced_by_console, broker)
        assert len(produced) == findings.events
        for name, task in findings.tasks.items():
            ended = {(partition, offset) for of, partition, offset in seen if of == name}
            assert ended - produced == set(), "an ending of an event that nobody produced"
            assert len(produced - ended) == task.skipped, "an event without its ending"
            assert task.unproduced == 0
        assert len(seen) == sum(task.ended for task in findings.tasks.values())

    return check


async def test_kills_zombies_and_a_broker_restart_lose_nothing(tmp_path, broker):
    """Laws 1, 2, 3, 9 on Kafka: every event has one ending whoever dies, and every nanodollar is explained."""
    made, found = await crash_run(
        tmp_path, events=4_000, per_second=150, faults=["kill", "broker", "zombie", "kill"], seed=5,
        log_url=f"kafka:{broker.bootstrap}", log_faults={"broker": broker.restart}, check=check_by_console(broker),
    )  # fmt: skip
    assert_laws(made, found, 4_000)


@pytest.mark.soak
async def test_the_whole_crash_proof_on_kafka(tmp_path, broker):
    """24 faults over 50,000 events that keep coming."""
    faults = ["kill", "kill", "zombie", "kill", "broker", "kill"] * 4
    made, found = await crash_run(
        tmp_path, events=50_000, per_second=250, faults=faults, seed=13,
        log_url=f"kafka:{broker.bootstrap}", log_faults={"broker": broker.restart}, check=check_by_console(broker),
    )  # fmt: skip
    assert_laws(made, found, 50_000)
