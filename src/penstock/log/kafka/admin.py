"""Questions to the cluster about topics and groups, and the making of topics. Every call blocks: never on the event loop.

log, consumer, committer → [admin] → asking → Kafka
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from penstock.errors import LogUnavailable, SettingsError, TopicMissing, UserError
from penstock.log.base import Bounds, GroupMember, TopicInfo, TopicSpec
from penstock.log.kafka.asking import Asking, NoAnswer
from penstock.log.kafka.connection import Connection, logger
from penstock.log.kafka.faults import FORBIDDEN, MISSING, NOT_MADE, Moving, meaning, missing
from penstock.record import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SPEC: Any = OffsetSpec
SEGMENT_MS = "3600000"
UNSTABLE_WAIT_SECONDS = 0.02
LONGEST_SESSION = "group.consumer.max.session.timeout.ms"
DEFAULT_LONGEST_SESSION_MS = 60_000
SHOWN_SETTINGS = frozenset(
    {"cleanup.policy", "retention.ms", "retention.bytes", "min.insync.replicas", "max.message.bytes"}
)
"""Of `TopicInfo`: a cluster may have thousands of topics."""


class Committed(NamedTuple):
    """What a group has committed for a partition: the next offset to read and the text beside it."""

    offset: int
    metadata: str


class Admin(Asking):
    """What is asked of a cluster, and made in it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._known_topics: set[str] = set()

    def topics(self) -> dict[str, TopicInfo]:
        """All topics but Kafka's own."""
        names = [name for name in self._all_names() if not name.startswith("__")]
        found = self.topic_infos(names)
        settings = self._settled(lambda: self._settings_of(found))
        return {name: _with_settings(topic, settings.get(name, {})) for name, topic in found.items()}

    def topic_infos(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        """Id and number of partitions of those that exist (whether they are compacted is not asked)."""
        return self._settled(lambda: self._described(names)) if names else {}

    def _described(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        found = {}
        for name, future in self._asked("describe_topics", TopicCollection(list(names))).items():
            try:
                described = self._result(future, f"describing topic {name!r}")
            except TopicMissing:
                continue
            copies = min((len(partition.replicas) for partition in described.partitions), default=0)
            found[name] = TopicInfo(name, str(described.topic_id), len(described.partitions), replicas=copies)
        self._known_topics.update(found)
        return found

    def require_topics(self, names: Iterable[str]) -> None:
        """Raises `TopicMissing`: a broker would make a topic with settings that nobody chose."""
        unknown = set(names) - self._known_topics
        if not unknown:
            return
        if absent := unknown - set(self.topic_infos(sorted(unknown))):
            raise missing(absent)

    def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make what is missing, and wait until the cluster knows it."""
        existing = self.topic_infos([spec.name for spec in specs])
        wanted = [spec for spec in specs if spec.name not in existing]
        if not wanted:
            return []
        made, copies = [], self._copies()
        for name, future in self._asked("create_topics", [self._new_topic(spec, copies) for spec in wanted]).items():
            try:
                self._result(future, f"making topic {name!r}", passing=NOT_MADE)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:  # a neighbour was faster
                    continue
                raise SettingsError(f"topic {name!r} can't be made so: {error.args[0].str()}") from None
            made.append(name)
        self._wait_until_known(made)
        return made

    def bounds(self, topic: str) -> dict[Partition, Bounds]:
        """First and next offset of each partition."""
        partitions = self.partitions(topic)
        lows, highs = self.lows(partitions), self.highs(partitions)
        return {p: Bounds(lows[p], highs[p]) for p in partitions}

    def partitions(self, topic: str) -> list[Partition]:
        """Every partition of a topic. Raises `TopicMissing`."""
        infos = self.topic_infos([topic])
        if topic not in infos:
            raise missing([topic])
        return [Partition(topic, number) for number in range(infos[topic].partitions)]

    def lows(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset that is kept."""
        return self._offsets(partitions, SPEC.earliest(), IsolationLevel.READ_UNCOMMITTED)

    def highs(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that the next record gets."""
        return self._offsets(partitions, SPEC.latest(), IsolationLevel.READ_UNCOMMITTED)

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """How far readers of committed data get: up to the first open transaction."""
        return self._offsets(partitions, SPEC.latest(), IsolationLevel.READ_COMMITTED)

    def at(self, partitions: Iterable[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """The first offset whose record is not older; the next offset where there is none."""
        partitions = list(partitions)
        found = self._offsets(partitions, SPEC.for_timestamp(timestamp_ms), IsolationLevel.READ_UNCOMMITTED)
        beyond = self.highs(p for p in partitions if found[p] < 0)
        return found | beyond

    def committed(self, group: str, partitions: Sequence[Partition], wait_seconds: float) -> dict[Partition, Committed]:
        """What a group has committed, once no transaction is open on it; partitions without offsets are left out."""
        if not partitions:
            return {}
        end = time.monotonic() + wait_seconds
        while True:
            found, unsettled = self._settled(lambda: self._committed_now(group, partitions))
            if not unsettled:
                return found
            if time.monotonic() > end:
                raise LogUnavailable(
                    f"progress of group {group!r}: a transaction on it stays open longer than {wait_seconds:g} s"
                )
            time.sleep(UNSTABLE_WAIT_SECONDS)

    def unsettled(self, group: str, partitions: Sequence[Partition]) -> frozenset[Partition]:
        """Those whose progress a transaction holds that is still open."""
        return self._settled(lambda: self._committed_now(group, partitions))[1] if partitions else frozenset()

    def topics_of(self, group: str) -> set[str]:
        """The topics that a group has committed something in, whether a transaction is open or not."""

        def asked() -> set[str]:
            return {tp.topic for tp in self._offsets_of(group, None) if tp.offset >= 0}

        return self._settled(asked)

    def groups(self) -> dict[str, list[GroupMember]]:
        """All groups and their members; none of those that are not shown to us."""
        return self._settled(self._groups)

    def _groups(self) -> dict[str, list[GroupMember]]:
        listing = self._result(self._asked("list_consumer_groups"), "listing groups")
        names = [group.group_id for group in listing.valid]
        if not names:
            return {}
        found = {}
        for name, future in self._asked("describe_consumer_groups", names).items():
            try:
                members = self._of_coordinator(future, f"describing group {name!r}", passing=FORBIDDEN).members
            except KafkaException as error:  # who asks for its progress is told what is missing
                logger.debug("group %r is not shown to us: %s", name, error.args[0].str())
                members = []
            found[name] = [GroupMember(member.member_id, _assigned(member)) for member in members]
        return found

    def broker_has_consumer_protocol(self) -> bool:
        """Whether the brokers coordinate groups themselves (`group.protocol=consumer`)."""
        try:
            return "consumer" in self._broker_setting("group.coordinator.rebalance.protocols")
        except SettingsError as error:
            logger.info(
                "group protocol: classic, because the brokers' settings are not shown to us (no DescribeConfigs on the cluster); "
                'on Kafka 4 set [kafka_log] group_protocol = "consumer"'
            )
            logger.debug("brokers' settings: %s", error)
            return False

    def longest_session_seconds(self) -> float:
        """How long brokers may wait for a silent member of any group that they coordinate themselves."""
        try:
            return int(self._broker_setting(LONGEST_SESSION) or DEFAULT_LONGEST_SESSION_MS) / 1000
        except SettingsError as error:
            logger.debug("brokers' settings: %s", error)
            return DEFAULT_LONGEST_SESSION_MS / 1000

    def _broker_setting(self, name: str) -> str:
        """As one of the brokers has it; empty where it has none of that name."""
        entry = self._settled(self._broker_settings).get(name)
        return "" if entry is None else entry.value or ""

    def _broker_settings(self) -> Any:
        nodes = self._result(self._asked("describe_cluster"), "describing the cluster").nodes
        node = random.choice(nodes)
        resource = ConfigResource(ConfigResource.Type.BROKER, str(node.id))
        future = next(iter(self._asked("describe_configs", [resource]).values()))
        return self._result(future, "reading the broker's settings")

    def _offsets(self, partitions: Iterable[Partition], spec: Any, level: IsolationLevel) -> dict[Partition, int]:
        request = {TopicPartition(p.topic, p.number): spec for p in partitions}
        if not request:
            return {}

        def asked() -> dict[Partition, int]:
            answers = self._asked("list_offsets", request, isolation_level=level)
            return {
                Partition(tp.topic, tp.partition): self._result(future, f"offsets of {tp.topic}/{tp.partition}").offset
                for tp, future in answers.items()
            }

        return self._settled(asked, is_known={tp.topic for tp in request} <= self._known_topics)

    def _committed_now(
        self, group: str, partitions: Sequence[Partition]
    ) -> tuple[dict[Partition, Committed], frozenset[Partition]]:
        found, unsettled = {}, set()
        for tp in self._offsets_of(group, partitions, require_stable=True):
            if tp.error is not None and tp.error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
                unsettled.add(Partition(tp.topic, tp.partition))
            elif tp.error is not None:
                raise meaning(tp.error, f"progress of group {group!r} in {tp.topic}/{tp.partition}", self._connection)
            elif tp.offset >= 0:
                found[Partition(tp.topic, tp.partition)] = Committed(tp.offset, tp.metadata or "")
        return found, frozenset(unsettled)

    def _offsets_of(
        self, group: str, partitions: Sequence[Partition] | None, **settings: Any
    ) -> Sequence[TopicPartition]:
        """Of these partitions, or of all."""
        self._find_coordinator(group)
        wanted = None if partitions is None else [TopicPartition(p.topic, p.number) for p in partitions]
        asked = ConsumerGroupTopicPartitions(group, wanted)
        future = next(iter(self._asked("list_consumer_group_offsets", [asked], **settings).values()))
        told: Sequence[TopicPartition] = self._of_coordinator(future, f"progress of group {group!r}").topic_partitions
        return told

    def _find_coordinator(self, group: str) -> None:
        """Asked for progress by a client that is no consumer, a broker that is not (yet) the group's coordinator ends the process:
        librdkafka (2.16) follows a null pointer then. Asked for the group, it only says so. This narrows the crash and does not
        close it: the coordinator can move between the two questions.
        """
        future = next(iter(self._asked("describe_consumer_groups", [group]).values()))
        try:
            self._of_coordinator(future, f"looking for the coordinator of group {group!r}")
        except Moving as weather:
            raise NoAnswer(str(weather)) from weather
        except UserError:  # what else is wrong with the group is told by the answer that is wanted
            return

    def _all_names(self) -> list[str]:
        self.check_connection()
        try:
            return sorted(self._client.list_topics(timeout=self._connection.options.request_timeout_seconds).topics)
        except KafkaException as error:
            raise meaning(error.args[0], "listing topics", self._connection) from error

    def _settings_of(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings of topics; those that we may not read are left out: the other facts still stand."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        found, hidden = {}, []
        for resource, future in (self._asked("describe_configs", resources) if resources else {}).items():
            try:
                told = self._result(future, "settings of a topic", passing=frozenset(FORBIDDEN | MISSING))
            except KafkaException as error:
                hidden += [resource.name] if error.args[0].code() in FORBIDDEN else []
                continue
            found[resource.name] = {name: str(entry.value) for name, entry in told.items()}
        if hidden:
            logger.info("settings are not shown to us (no DescribeConfigs) of: %s", ", ".join(sorted(hidden)))
        return found

    def _copies(self) -> int:
        """How many copies of a partition a topic gets; -1 where only the brokers know, whose settings we may not read."""
        if self._connection.options.replication_factor != -1:
            return self._connection.options.replication_factor
        try:
            return int(self._broker_setting("default.replication.factor") or -1)
        except SettingsError as error:
            logger.info("the default number of replicas can't be read: %s", error)
            return -1

    def _new_topic(self, spec: TopicSpec, copies: int) -> Any:
        settings = {
            "cleanup.policy": "compact" if spec.is_compacted else "delete",
            "retention.ms": str(-1 if spec.retention_ms is None else spec.retention_ms),
            "max.message.bytes": str(self._connection.options.max_message_bytes),
            # The segment that is written to is never compacted, and whoever starts reads all of the topic.
            **({"segment.ms": SEGMENT_MS} if spec.is_compacted else {}),
            # One broker may be down. Where there is one copy, a cluster's stricter default would refuse every write.
            **({"min.insync.replicas": str(max(1, copies - 1))} if copies > 0 else {}),
            **spec.settings,
        }
        return NewTopic(spec.name, spec.partitions, copies, config=settings)

    def _wait_until_known(self, names: Sequence[str]) -> None:
        end = time.monotonic() + self._connection.options.request_timeout_seconds
        while len(self.topic_infos(names)) < len(names):
            if time.monotonic() > end:
                raise LogUnavailable(f"topics {', '.join(names)} were made, but the cluster does not know them yet")
            time.sleep(0.05)


def _with_settings(topic: TopicInfo, settings: Mapping[str, str]) -> TopicInfo:
    shown = {name: value for name, value in settings.items() if name in SHOWN_SETTINGS}
    return replace(topic, is_compacted="compact" in settings.get("cleanup.policy", ""), settings=shown)


def _assigned(member: Any) -> tuple[Partition, ...]:
    assignment = member.assignment
    return tuple(sorted(Partition(tp.topic, tp.partition) for tp in assignment.topic_partitions)) if assignment else ()
