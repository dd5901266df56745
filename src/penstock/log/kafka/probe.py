"""What a cluster is like and what it lets us do, for who looks before work begins. Every call blocks, within seconds.

doctor → [probe] → Kafka
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicCollection, TopicPartition

from penstock.errors import SettingsError, TopicMissing
from penstock.log.kafka.admin import SPEC, Admin
from penstock.log.kafka.connection import Connection
from penstock.log.kafka.faults import meaning
from penstock.log.kafka.options import KafkaOptions

CONNECT_SECONDS, REQUEST_SECONDS = 4.0, 8.0
TRANSACTION_LOG = "__transaction_state"


def hurried(options: KafkaOptions) -> KafkaOptions:
    """The same, but who only looks does not wait long."""
    return replace(
        options,
        connect_timeout_seconds=min(CONNECT_SECONDS, options.connect_timeout_seconds),
        request_timeout_seconds=min(REQUEST_SECONDS, options.request_timeout_seconds),
    )


class Cluster(NamedTuple):
    """The cluster as a client sees it."""

    id: str
    brokers: int
    has_new_protocol: bool
    """Brokers coordinate groups themselves: Kafka 4."""
    protocol_version: str = ""
    """What brokers speak among each other (`3.4-IV0`); empty where they do not tell: Kafka 4, or no right to look."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic with what matters for work on it."""

    name: str
    partitions: int
    replicas: int
    """The fewest of any partition."""
    settings: Mapping[str, str]
    """Empty where we may not read them."""
    operations: frozenset[str]
    """What we may do: READ, WRITE, DESCRIBE …"""


class Probe(Admin):
    """Asks the cluster; the only thing it writes is a transaction that it aborts."""

    def __init__(
        self,
        bootstrap_servers: str,
        properties: Mapping[str, Any] = MappingProxyType({}),
        options: KafkaOptions = hurried(KafkaOptions()),  # noqa: B008 frozen
    ) -> None:
        super().__init__(Connection(bootstrap_servers, properties, options))

    def cluster(self) -> Cluster:
        """Raises within seconds, naming the address, where no broker answers."""
        self.check_connection()
        described = self._result(self._asked("describe_cluster"), "describing the cluster")
        try:
            version = self._broker_setting("inter.broker.protocol.version")
        except SettingsError:
            version = ""
        return Cluster(str(described.cluster_id), len(described.nodes), self.broker_has_consumer_protocol(), version)

    def topic_facts(self, names: Sequence[str]) -> dict[str, TopicFacts | SettingsError]:
        """Of those that exist; for one that we may not even look at, the refusal."""
        asked = self._asked("describe_topics", TopicCollection(list(names)), include_authorized_operations=True)
        described: dict[str, Any] = {}
        refused: dict[str, TopicFacts | SettingsError] = {}
        for name, future in asked.items():
            try:
                described[name] = self._result(future, f"describing topic {name!r}")
            except TopicMissing:
                continue
            except SettingsError as refusal:
                refused[name] = refusal
        settings = self._settings_of(described)
        return refused | {name: _facts(name, topic, settings.get(name, {})) for name, topic in described.items()}

    def group_operations(self, group: str) -> frozenset[str]:
        """What we may do with a group, which need not exist yet. Raises `SettingsError` where not even look at it."""
        asked = self._asked("describe_consumer_groups", [group], include_authorized_operations=True)
        described = self._of_coordinator(asked[group], f"describing group {group!r}")
        return _names(described.authorized_operations)

    def try_transaction(self, transactional_id: str, topic: str) -> float:
        """Begin, write where `topic` is given, abort: readers of committed data see nothing of it. How long it took."""
        began = time.monotonic()
        patience = self._connection.options.request_timeout_seconds
        faults: list[Any] = []
        producer: Any = self._connection.producer({"transactional.id": transactional_id, "linger.ms": 0})
        try:
            producer.init_transactions(patience)
            producer.begin_transaction()
            if topic:
                producer.produce(topic, b"", b"penstock-doctor", on_delivery=lambda error, _: faults.append(error))
                producer.flush(patience)
            producer.abort_transaction(patience)
        except KafkaException as error:
            raise meaning(error.args[0], f"a transaction as {transactional_id!r}", self._connection) from error
        for fault in faults:
            if fault is not None:
                raise meaning(fault, f"writing to {topic!r} in a transaction", self._connection)
        return time.monotonic() - began

    def last_transaction_ms(self) -> int:
        """By a broker's clock, when a transaction was begun or ended last; -1 where we may not see it."""
        try:
            known = self._client.list_topics(TRANSACTION_LOG, timeout=self._connection.options.request_timeout_seconds)
        except KafkaException as error:
            raise meaning(error.args[0], "looking at the log of transactions", self._connection) from error
        request = {
            TopicPartition(TRANSACTION_LOG, n): SPEC.max_timestamp() for n in known.topics[TRANSACTION_LOG].partitions
        }
        if not request:
            return -1
        try:
            answers = [
                self._result(f, "the log of transactions") for f in self._asked("list_offsets", request).values()
            ]
        except (SettingsError, TopicMissing):
            return -1
        return int(max(answer.timestamp for answer in answers))


def _facts(name: str, described: Any, settings: Mapping[str, str]) -> TopicFacts:
    replicas = min((len(partition.replicas) for partition in described.partitions), default=0)
    operations = _names(described.authorized_operations)
    return TopicFacts(name, len(described.partitions), replicas, settings, operations)


def _names(operations: Iterable[Any] | None) -> frozenset[str]:
    return frozenset(operation.name for operation in operations or ())
