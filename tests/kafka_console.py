"""The reader that is not ours: Kafka's own console consumer, read committed, and what the laws say about what it shows.

Kafka → [kafka console] → crash proof
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from crash import Stage
from kafka_broker import KafkaBroker
from kafka_cluster import KafkaCluster

SEPARATOR, COLUMN = "\x1f", "\x1e"
SHOWN = ("partition", "offset", "key", "headers", "value")


class Line(NamedTuple):
    """A record as the console shows it."""

    partition: str
    offset: str
    key: str
    headers: dict[str, str]
    value: str


def console(broker: KafkaBroker | KafkaCluster, *topics: str) -> Iterator[Line]:
    """All committed records of these topics, those of a partition in its order."""
    shown = [argument for name in SHOWN for argument in ("--formatter-property", f"print.{name}=true")]
    command = broker._java(
        "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker.bootstrap,
        "--include", "|".join(topics),
        "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "8000", *shown,
        "--formatter-property", f"headers.separator={SEPARATOR}", "--formatter-property", f"key.separator={COLUMN}",
    )  # fmt: skip
    out = subprocess.run(command, capture_output=True, check=False, timeout=300).stdout
    for line in filter(None, out.decode("utf-8", "replace").split("\n")):
        partition, offset, headers, key, value = line.split(COLUMN, 4)
        yield Line(partition, offset, key, dict(h.split(":", 1) for h in headers.split(SEPARATOR) if ":" in h), value)


class Seen:
    """Every committed result and dead letter of a run."""

    def __init__(self, broker: KafkaBroker | KafkaCluster) -> None:
        self.endings: Counter[tuple[str, int, int]] = Counter()
        """(task, partition, offset) of the event."""
        self.places: dict[tuple[str, int, int], list[str]] = defaultdict(list)
        """Where the endings of an event stand, and which calls they name."""
        self.in_order: dict[tuple[str, str], list[tuple[str, int, int]]] = defaultdict(list)
        """(task, key) → (partition of the results, then the event's partition and offset), as they stand there."""
        for line in console(broker, "review-ai-results", "review-dlq"):
            if "penstock.erased.task" in line.headers:  # a deletion ends nothing: it erases
                continue
            if "penstock.errors.task" in line.headers:
                place = tuple(int(line.headers[f"penstock.errors.{name}"]) for name in ("partition", "offset"))
                self.endings[line.headers["penstock.errors.task"], *place] += 1
                self.places[line.headers["penstock.errors.task"], *place].append(
                    f"letter {line.partition} {line.offset}"
                )
                continue
            result = json.loads(line.value)
            place = result["source"]["partition"], result["source"]["offset"]
            self.endings[result["task"], *place] += 1
            told = f"{line.partition} {line.offset} {result['calls']} {result['times']}"
            self.places[result["task"], *place].append(told)
            if line.key != "null":  # without a key there is no order
                self.in_order[result["task"], line.key].append((line.partition, *place))

    def out_of_order(self, task: str) -> list[str]:
        """Keys of a task whose results do not stand in one partition and in the order of their events."""
        return [
            key
            for (name, key), places in self.in_order.items()
            if name == task and (len({place[:2] for place in places}) > 1 or places != sorted(places))
        ]


def produced(broker: KafkaBroker | KafkaCluster) -> set[tuple[int, int]]:
    """(partition, offset) of every event there is."""
    lines = console(broker, "review-events")
    found = [tuple(int(text.partition(":")[2]) for text in (line.partition, line.offset)) for line in lines]
    assert len(found) == len(set(found))
    return set(found)


def check_by_console(broker: KafkaBroker | KafkaCluster) -> Callable[[Stage], Awaitable[None]]:
    """Nothing doubled, nothing lost, nothing made up, and in the order of the keys where that was asked."""

    async def check(made: Stage) -> None:
        seen = await asyncio.to_thread(Seen, broker)
        doubled = [place for place, times in seen.endings.items() if times > 1]
        assert doubled == [], "\n".join([
            *(f"{place}: {' and '.join(seen.places[place])}" for place in doubled), *made.broken_commits()
        ])  # fmt: skip
        findings = made.judge.findings
        assert len(seen.endings) == sum(task.ended for task in findings.tasks.values())
        events = await asyncio.to_thread(produced, broker)
        assert len(events) == findings.events
        for name, found in findings.tasks.items():
            ended = {(partition, offset) for of, partition, offset in seen.endings if of == name}
            assert ended - events == set(), "an ending of an event that nobody produced"
            assert len(events - ended) == found.skipped, "an event without its ending"
            assert found.unproduced == 0
        for task in {worker.task.name for worker in made.workers if worker.task.order == "key"}:
            keys = [len(places) for (name, _), places in seen.in_order.items() if name == task]
            wrong = seen.out_of_order(task)
            print(
                f"{task}, order=key: {sum(keys)} results of {len(keys)} keys (up to {max(keys)}), out of order {len(wrong)}"
            )
            assert wrong == [], "results that do not stand in the order of their key's events"
            assert max(keys) > 100, "no key has enough events for their order to mean something"

    return check
