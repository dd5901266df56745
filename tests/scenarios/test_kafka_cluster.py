"""Three brokers: each is lost in turn (kill -9) and comes back, while events keep coming and workers are killed too."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Self

import pytest
from confluent_kafka import Consumer, TopicPartition

from crash import assert_laws, crash_run
from kafka_cluster import KafkaCluster, start_cluster
from kafka_console import check_by_console
from scenarios.test_crash_kafka import TASKS

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.soak]

RESULTS = "review-ai-results"


class Arrivals:
    """When results became visible to a plain read-committed consumer: how long nothing came is how long all stood still."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: list[tuple[float, bytes]] = []
        """Arrival and the task that answered."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the plain consumer does not close"

    def standstill_seconds(self, task: str, since: float, until: float) -> float:
        """The longest time within these in which the task had no result."""
        times = [at for at, source in self.seen if source.endswith(task.encode()) and since < at < until]
        return max(later - earlier for earlier, later in zip([since, *times], [*times, until], strict=True))

    def _watch(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        known: set[int] = set()
        while not self._stop.is_set():
            if not known:
                topic = consumer.list_topics(RESULTS, timeout=10).topics[RESULTS]
                known = set(topic.partitions)
                consumer.assign([TopicPartition(RESULTS, number, 0) for number in known])
            now = time.time()
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    self.seen.append((now, dict(message.headers() or []).get("ce_source", b"")))
        consumer.close()


@pytest.fixture
def cluster():
    cluster = start_cluster()
    yield cluster
    cluster.stop()


async def test_the_loss_of_each_broker_in_turn(tmp_path, cluster: KafkaCluster):
    """Laws 1, 2, 3, 9: whichever broker dies, and workers beside it, nothing is lost or doubled and every nanodollar is explained."""
    faults = ["broker_lost", "kill", "broker_back", "kill"] * 3
    with Arrivals(cluster.bootstrap) as arrivals:
        made, found = await crash_run(
            tmp_path, events=12_000, per_second=60, faults=faults, seed=29, tasks=TASKS, log_url=f"kafka:{cluster.bootstrap}",
            log_faults={"broker_lost": cluster.lose_next, "broker_back": cluster.bring_back},
            check=check_by_console(cluster),
        )  # fmt: skip
    for node, killed_at, up_at in cluster.losses:
        stood = {task: round(arrivals.standstill_seconds(task, killed_at, killed_at + 60), 1) for task in found.tasks}
        print(f"broker {node} killed, back after {up_at - killed_at:.0f} s: longest time without a result {stood} s")
    assert_laws(made, found, 12_000)
