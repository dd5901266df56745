"""Who gets events where clients assign the partitions: the assignor evens out all topics of a group together, not each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.log_fixtures import Worker, polled_until, unique
from fakes import ScriptedTier, make_task
from penstock.log.kafka import KafkaOptions
from penstock.log.topics import topic_specs

pytestmark = pytest.mark.kafka

CLASSIC = KafkaOptions(group_protocol="classic")
QUICK = {"heartbeat.interval.ms": 300, "session.timeout.ms": 6_000}


@pytest.mark.parametrize("first_by_name", ["input", "retry"])
async def test_whoever_joins_under_the_classic_protocol_gets_events(open_kafka, first_by_name):
    """A second and a third worker beside one that has everything: each owns partitions of the input, in whatever order the names are."""
    input_name, task_name = (unique(letter) for letter in ("am" if first_by_name == "input" else "ma"))
    task = replace(make_task(ScriptedTier(), reads=input_name, writes=unique("out")), name=task_name)
    specs = topic_specs(task)
    await open_kafka().create_topics(specs)
    total = sum(spec.partitions for spec in specs if spec.name in task.topics)
    workers: list[Worker] = []

    def is_shared_out() -> bool:
        return all(worker.owned for worker in workers) and sum(len(worker.owned) for worker in workers) == total

    for _ in range(3):
        log = open_kafka(options=CLASSIC, properties=QUICK)
        workers.append(await Worker.joined(log, task.group, *task.topics))
        await polled_until(is_shared_out, f"{len(workers)} workers share {total} partitions", *workers)
        inputs = [sum(partition.topic == task.reads for partition in worker.owned) for worker in workers]
        assert all(inputs), f"partitions of the input: {inputs}"
