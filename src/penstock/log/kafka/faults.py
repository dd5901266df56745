"""What Kafka's errors mean to us, in one place.

librdkafka → [faults] → commit, poll, append
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from penstock.errors import LogUnavailable, PenstockError, RecordTooLarge, SettingsError, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.log.kafka.connection import Connection

FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001
"""Another producer was started with our transactional id (or the coordinator gave up our transaction)."""
NOT_A_MEMBER = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID, KafkaError.FENCED_MEMBER_EPOCH})
"""The group goes on without us."""
OLD_GENERATION = frozenset(
    {KafkaError.ILLEGAL_GENERATION, KafkaError.STALE_MEMBER_EPOCH, KafkaError.REBALANCE_IN_PROGRESS}
)
"""We are a member, but the group has moved on: the next poll tells what is still ours."""
UNRELEASED = int(KafkaError.UNRELEASED_INSTANCE_ID)
"""The name of a static member is still another's: a living one's, or a dead one's until its session is over."""
NAME_TAKEN = frozenset({KafkaError.FENCED_INSTANCE_ID, UNRELEASED})
TOO_LARGE = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.OFFSET_METADATA_TOO_LARGE}
)
MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})  # noqa: SLF001
FORBIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)
LOGIN = frozenset({KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._AUTHENTICATION})  # noqa: SLF001
"""Of who was let in before it is weather: a token that could not be renewed, a broker that does not know its users yet."""
RESOURCES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "Read the input topic, Write results and dead letters, both on <task>.retry "
    "and penstock-state (Create on topics that it is to make)",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "Read the group that has the task's name",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "do this on the cluster (IdempotentWrite to write, Create to make topics)",
}
"""What a worker needs of each kind that access rules are about."""
MOVING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
"""A partition or a coordinator is on its way to a broker: a moment later the same question is answered."""
THROWN_AWAY = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # noqa: SLF001
"""Of a record: its transaction had failed already."""
NO_ANSWER = frozenset(
    # The last: nobody could be asked who leads a partition, such as while a login is renewed.
    {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT, KafkaError._NOENT}  # noqa: SLF001
)
"""Whoever was asked is away."""
NOT_MADE = frozenset(
    {
        KafkaError.TOPIC_ALREADY_EXISTS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_CONFIG,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
    }
)
"""A topic, and asking again is no use."""
UNSUPPORTED = frozenset({KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE})  # noqa: SLF001


class Moving(LogUnavailable):
    """Ask the same again in a moment."""


def _permission(code: int, connection: Connection) -> str:
    """What to let whom do: Kafka tells the kind of the resource only, its name stands in what was done."""
    name = connection.given("sasl.username") or connection.given("sasl.oauthbearer.client.id")
    user = f"user {name!r}" if name else "this client"
    if code == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return (
            f"allow {user} Write and Describe on transactional ids that begin with the task's name and '/'. Where that "
            'cannot be had, set [kafka_log] delivery = "at_least_once": it needs no transactions, and a crash may then '
            "double results"
        )
    if code in RESOURCES:
        return f"allow {user} to: {RESOURCES[code]}. `penstock doctor MODULE:TASK` names every rule that is missing"
    return f"check sasl.* and ssl.* in [kafka]: {connection.bootstrap_servers} does not know {user}"


def code_of(error: KafkaError) -> int:
    """Its code. Of what ended a consumer for good librdkafka tells the broker's code in words only."""
    code: int = error.code()
    if code != KafkaError._FATAL:  # noqa: SLF001
        return code
    return next((behind for behind in NAME_TAKEN | UNSUPPORTED if KafkaError(behind).str() in error.str()), code)


def missing(topics: Iterable[str]) -> TopicMissing:
    """These do not exist."""
    names = sorted(topics)
    return TopicMissing(
        f"topic {', '.join(names)} does not exist; make it with `penstock topics create {' '.join(names)}`"
    )


def no_such_groups(connection: Connection) -> SettingsError:
    """The brokers do not coordinate groups themselves, and were told to."""
    return SettingsError(
        f"kafka_log.group_protocol=consumer: the brokers at {connection.bootstrap_servers} do not offer it (Kafka before 4.0, or "
        "group.coordinator.rebalance.protocols without it): leave kafka_log.group_protocol out, or set it to auto or classic"
    )


def meaning(error: KafkaError, doing: str, connection: Connection) -> PenstockError:
    """Our exception for Kafka's error while `doing` something; what is not known to last is weather."""
    code, text = code_of(error), connection.redacted(error.str())
    if code in TOO_LARGE:
        return RecordTooLarge(
            f"{doing}: Kafka refused the size ({text}); set max_record_bytes at most to the topic's max.message.bytes"
        )
    if code in MISSING:
        return TopicMissing(f"{doing}: {text}; `penstock topics create` makes topics")
    if code in FORBIDDEN:
        return SettingsError(f"{doing}: Kafka refused ({text}); {_permission(code, connection)}")
    if code in UNSUPPORTED:
        return SettingsError(f"{doing}: the broker at {connection.bootstrap_servers} is too old for this ({text})")
    if code in MOVING:
        return Moving(f"{doing}: {text}")
    cause = f" (last: {connection.last_error})" if connection.last_error else ""
    return LogUnavailable(f"{doing}: {text}{cause}")
