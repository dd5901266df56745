"""What a user may set about the log on Kafka: `[kafka_log]`. Nothing of Kafka's client is loaded by it.

settings → [options] → every file of this folder
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.errors import SettingsError
from penstock.log.base import Guarantee

PROTECTED: Mapping[str, str] = {
    "isolation.level": "readers must see committed records only",
    "enable.auto.commit": "progress is committed together with results",
    "auto.commit.enable": "progress is committed together with results",
    "enable.auto.offset.store": "progress is committed together with results",
    "auto.commit.interval.ms": "progress is committed together with results",
    "auto.offset.reset": "the task's start_from says where a group without offsets begins",
    "enable.idempotence": "a retried write must not double a record",
    "acks": "a write counts when all replicas have it",
    "request.required.acks": "a write counts when all replicas have it",
    "transactional.id": "it is made of the task's name and the setting slot: set slot",
    "transaction.timeout.ms": "set kafka_log.transaction_timeout_seconds",
    "partitioner": "keys must land where Kafka's Java clients put them",
    "group.id": "the task's name is the group",
    "group.instance.id": "set kafka_log.static_membership and slot",
    "group.protocol": "set kafka_log.group_protocol",
    "partition.assignment.strategy": "set kafka_log.group_protocol",
    "queued.max.messages.kbytes": "set kafka_log.prefetch_bytes",
    "message.max.bytes": "set kafka_log.max_record_bytes",
    "bootstrap.servers": "set log, as in kafka:HOST:PORT,HOST:PORT",
    "metadata.broker.list": "set log, as in kafka:HOST:PORT,HOST:PORT",
    "enable.partition.eof": "the reader decides",
    "delivery.report.only.error": "the log waits for every report",
}
"""Properties of librdkafka that the laws need as they are, and what to set instead."""
CLASSIC_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type")
"""Properties that only the classic group protocol has."""
RECORD_OVERHEAD_BYTES = 8_588
"""Room for what Kafka writes around key, value and headers."""
MOST_SECONDS = 24 * 3600
LEAST_PREFETCH_BYTES, MOST_PREFETCH_BYTES = 1024, 2_097_151 * 1024
"""librdkafka's own bounds of `queued.max.messages.kbytes`."""
LEAST_RECORD_BYTES, MOST_RECORD_BYTES = 16 * 1024, 1_000_000_000 - RECORD_OVERHEAD_BYTES
"""Letters and maps need room; beyond is more than librdkafka sends (`message.max.bytes`)."""


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How the log behaves on Kafka; everything else of librdkafka goes through `properties`."""

    group_protocol: Literal["auto", "consumer", "classic"] = "auto"
    """`auto`: the broker's own (`consumer`, Kafka 4) where it has it, cooperative-sticky else."""
    delivery: Guarantee = "exactly_once"
    """`at_least_once` uses no transactions, for clusters whose ACLs refuse them: results first, then progress. Nothing is
    lost; a worker that dies between the two doubles results, with the same ids."""
    static_membership: bool = False
    """A worker that restarts with the same `slot` within the session time-out gets its partitions back without a rebalance.
    With `group_protocol` `auto` groups are classic then: only those take a worker back that was killed a moment ago."""
    replication_factor: int = -1
    """Copies of each partition of topics that are made; -1: the broker's default."""
    connect_timeout_seconds: float = 8.0
    """A wrong address is told after this long."""
    request_timeout_seconds: float = 30.0
    """Every other question to the cluster."""
    commit_timeout_seconds: float = 20.0
    """How long one commit is tried; then its outcome is looked up."""
    transaction_timeout_seconds: float = 10.0
    """Readers wait at most this long for a worker that died inside a transaction."""
    revoke_seconds: float = 20.0
    """How long work in flight may finish when a partition is taken away."""
    prefetch_bytes: int = 8 * 1024 * 1024
    """How far librdkafka reads ahead, over all partitions."""
    max_record_bytes: int = 1_040_000
    """Key, value and headers of a record that is written. Together with what Kafka adds it is the default of a topic's
    `max.message.bytes`: raise both."""
    unread_lost: Literal["stop", "continue"] = "stop"
    """When retention deleted records that the group had not read: stop with an error, or go on behind the gap and say it."""

    @property
    def max_message_bytes(self) -> int:
        """What a topic's `max.message.bytes` must be at least for what we write."""
        return self.max_record_bytes + RECORD_OVERHEAD_BYTES

    def protocol_asked(self, properties: Mapping[str, object]) -> Literal["consumer", "classic", ""]:
        """By which protocol a group is to work, properties of the client considered; empty where the brokers decide."""
        if self.group_protocol != "auto":
            return self.group_protocol
        # A broker that coordinates groups itself keeps the name of a killed static member until its session is over.
        is_classic = self.static_membership or any(name in properties for name in CLASSIC_ONLY)
        return "classic" if is_classic else ""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for name in ("connect_timeout", "request_timeout", "commit_timeout", "transaction_timeout", "revoke"):
            value = getattr(self, f"{name}_seconds")
            if not 0 < value < MOST_SECONDS:
                raise SettingsError(f"kafka_log.{name}_seconds={value!r}: seconds, more than 0 and less than a day")
        if self.replication_factor != -1 and self.replication_factor < 1:
            raise SettingsError(
                f"kafka_log.replication_factor={self.replication_factor}: copies of a partition, 1 or more; -1 for the "
                "broker's default"
            )
        if not LEAST_PREFETCH_BYTES <= self.prefetch_bytes <= MOST_PREFETCH_BYTES:
            raise SettingsError(
                f"kafka_log.prefetch_bytes={self.prefetch_bytes:,}: write {LEAST_PREFETCH_BYTES:,} to {MOST_PREFETCH_BYTES:,}"
            )
        if not LEAST_RECORD_BYTES <= self.max_record_bytes <= MOST_RECORD_BYTES:
            raise SettingsError(
                f"kafka_log.max_record_bytes={self.max_record_bytes:,}: write {LEAST_RECORD_BYTES:,} to {MOST_RECORD_BYTES:,}"
            )
