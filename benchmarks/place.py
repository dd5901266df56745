"""Where a run takes place: the machine, a broker, topics of its own.

place → runs → kafka
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient, NewTopic

TESTS = Path(__file__).resolve().parent.parent / "tests"
ADMIN_SECONDS = 20.0
STATE = "penstock-state"


class Place:
    """A broker and what is asked of it beside the contenders."""

    def __init__(self) -> None:
        sys.path.append(str(TESTS))
        import kafka_broker

        try:
            self._broker = kafka_broker.start_broker()
        except kafka_broker.BrokerMissing as missing:
            raise SystemExit(str(missing)) from None
        self.bootstrap: str = self._broker.bootstrap
        self.version = _version(kafka_broker.POM) if self._broker.can_restart else "of the running broker"
        self.client: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        """Settings of every client of ours; topics that come and go are no news."""
        self.admin = AdminClient(self.client)
        if STATE not in self.admin.list_topics(timeout=ADMIN_SECONDS).topics:
            self._made([NewTopic(STATE, 1, 1, config={"cleanup.policy": "compact"})])
        self.pid = _listener(self.bootstrap)
        """Of the broker, where it runs on this machine."""

    def make_topics(self, topics: Sequence[str], partitions: int) -> None:
        """The results carry the broker's time: one clock for all contenders."""
        settings = {"message.timestamp.type": "LogAppendTime"}
        made = [NewTopic(topics[0], partitions, 1)]
        made += [NewTopic(topic, partitions, 1, config=settings) for topic in topics[1:]]
        self._made(made)

    def _made(self, topics: list[NewTopic]) -> None:
        for future in self.admin.create_topics(topics).values():
            future.result(ADMIN_SECONDS)

    def drop_topics(self, run: str) -> None:
        """All topics of a run."""
        names = [name for name in self.admin.list_topics(timeout=ADMIN_SECONDS).topics if run in name]
        for future in self.admin.delete_topics(names).values():
            future.result(ADMIN_SECONDS)

    def committed(self, group: str) -> dict[int, int]:
        """The group's offset in each partition."""
        asked = [ConsumerGroupTopicPartitions(group)]
        found = self.admin.list_consumer_group_offsets(asked)[group].result(ADMIN_SECONDS)
        return {tp.partition: tp.offset for tp in found.topic_partitions or []}

    def produce(self, topic: str, events: Iterable[tuple[bytes, bytes]]) -> None:
        """A backlog, as fast as the broker takes it."""
        settings = {"linger.ms": 50, "partitioner": "murmur2_random", "queue.buffering.max.messages": 200_000}
        producer = Producer({**self.client, **settings})
        for key, value in events:
            while True:
                try:
                    producer.produce(topic, value, key)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        if producer.flush(120):
            raise SystemExit("the broker did not take the events")

    def machine(self) -> dict[str, Any]:
        """What figures belong to."""
        return {
            "at": time.strftime("%Y-%m-%d %H:%M"),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9),
            "python": platform.python_version(),
            "kafka": self.version,
            "load_before": [round(load, 2) for load in os.getloadavg()],
        }

    def close(self) -> None:
        self._broker.stop()


def _version(pom: Path) -> str:
    found = re.search(r"kafka_2\.13</artifactId>\s*<version>([^<]+)", pom.read_text(encoding="utf-8"))
    return f"Apache Kafka {found[1]}" if found else "Apache Kafka"


def _listener(bootstrap: str) -> int | None:
    port = int(bootstrap.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return int(connection.pid) if connection.pid else None
    return None
