"""Three real Kafka brokers that are one cluster: every partition on all three, writes wait for two of them.

kafka broker → [kafka cluster] → soak

Each is broker and controller at once. What a broker's loss costs depends on time-outs, so those are Kafka's own defaults here,
where the lone broker of the other tests has short ones.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kafka_broker import ADDRESS_SETTING, KafkaBroker, fetched_jars

NODES = 3
WHOLE_SECONDS = 120.0
SETTINGS = """\
process.roles=broker,controller
node.id={node}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={data}
num.partitions=1
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=6
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=500
"""


class ClusterBroker(KafkaBroker):
    """One of them. It is formatted when all know each other's addresses."""

    def __init__(self, jars: Path, directory: Path, node: int) -> None:
        self.node = node
        self._voters = ""
        super().__init__(jars, directory)

    @property
    def as_voter(self) -> str:
        """How the others name it."""
        return f"{self.node}@127.0.0.1:{self._controller_port}"

    def join(self, voters: str, cluster_id: str) -> None:
        """Become part of the cluster of these."""
        self._voters, self.cluster_id = voters, cluster_id
        self._format()

    def _format(self) -> None:
        if self._voters:
            super()._format()

    def _settings(self) -> str:
        return SETTINGS.format(
            node=self.node,
            port=self._port,
            controller=self._controller_port,
            voters=self._voters,
            data=self._directory / "data",
        )


class KafkaCluster:
    """Three brokers. One may be missing at a time, and none before the others have all that it has."""

    def __init__(self, jars: Path, directory: Path) -> None:
        self.brokers = [ClusterBroker(jars, _made(directory / f"node-{n}"), n) for n in range(1, NODES + 1)]
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers)
        self.losses: list[tuple[int, float, float]] = []
        """Node, when it was killed and when it was up again (`time.time()`)."""
        self._turn = itertools.cycle(self.brokers)
        self._missing: ClusterBroker | None = None
        self._java: Callable[..., list[str]] = self.brokers[0]._java
        voters = ",".join(broker.as_voter for broker in self.brokers)
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(lambda broker: broker.join(voters, self.brokers[0].cluster_id), self.brokers))

    def start(self) -> None:
        """All at once: a single one answers nothing, it has no majority."""
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(lambda broker: broker.start(), self.brokers))
        self.until_whole()

    def stop(self) -> None:
        """kill -9 for all: their directory goes with them."""
        for broker in self.brokers:
            broker.kill()

    def lose_next(self) -> None:
        """kill -9 for the next one; it stays away until `bring_back`."""
        assert self._missing is None, "one is missing already: one of three is no majority"
        self._missing = next(self._turn)
        self.losses.append((self._missing.node, time.time(), 0.0))
        self._missing.kill()

    def bring_back(self) -> None:
        """Start the missing one again, with the data it has; returns when it has caught up."""
        assert self._missing is not None, "none is missing"
        self._missing.start()
        self._missing = None
        node, killed_at, _ = self.losses[-1]
        self.losses[-1] = (node, killed_at, time.time())
        self.until_whole()

    def until_whole(self) -> None:
        """Wait until every partition has all its replicas in sync: then any one of the brokers may die."""
        end = time.monotonic() + WHOLE_SECONDS
        while lagging := self._behind():
            assert time.monotonic() < end, f"replicas that do not catch up: {lagging[:5]}"
            time.sleep(0.3)

    def _behind(self) -> list[str]:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            found = admin.list_topics(timeout=10)
        except KafkaException as error:
            return [error.args[0].str()]
        if len(found.brokers) < NODES:
            return [f"brokers known: {sorted(found.brokers)}"]
        return [
            f"{name}/{number}: {partition.isrs} of {partition.replicas}"
            for name, topic in found.topics.items()
            for number, partition in topic.partitions.items()
            if len(partition.isrs) < len(partition.replicas)
        ]


def start_cluster() -> KafkaCluster:
    """A cluster of its own. Skips where the broker is a given one; raises `BrokerMissing` where none can be had."""
    if os.environ.get(ADDRESS_SETTING):
        pytest.skip(f"{ADDRESS_SETTING} names a cluster that is not ours to break")
    jars = fetched_jars()
    directory = Path(tempfile.mkdtemp(prefix="penstock-cluster-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    cluster = KafkaCluster(jars, directory)
    cluster.start()
    return cluster


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
