"""The whole log on Apache Kafka: what the contract asks, each handed to the part that does it.

producers → [log] → intake …  checkpoint → [log] → sinks
"""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError
from penstock.log.base import Bounds, Consumer, GroupMember, Guarantee, Listener, TopicInfo, TopicSpec
from penstock.log.kafka.act import check_sizes
from penstock.log.kafka.admin import Admin
from penstock.log.kafka.appender import Appender
from penstock.log.kafka.committer import STABLE_SLACK_SECONDS, Committer
from penstock.log.kafka.connection import Connection, logger
from penstock.log.kafka.consumer import KafkaConsumer
from penstock.log.kafka.errands import Errands
from penstock.log.kafka.held import Held
from penstock.log.kafka.membership import Membership
from penstock.log.kafka.options import KafkaOptions
from penstock.log.kafka.ownership import Ownership
from penstock.log.kafka.reader import Reader
from penstock.log.kafka.standing import Stands
from penstock.log.kafka.starts import Starts
from penstock.log.kafka.two_steps import TwoStepCommitter
from penstock.log.offset_map import OffsetMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.record import NewRecord, Partition, Position, Record
    from penstock.task import StartFrom


class KafkaLog:
    """An `EventLog` on a cluster. Making one opens no connection; the first call that needs one tells a wrong address."""

    kind = "kafka"

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        properties: Mapping[str, Any] = MappingProxyType({}),
        options: KafkaOptions = KafkaOptions(),  # noqa: B008 frozen
    ) -> None:
        self._options = options
        self._connection = Connection(bootstrap_servers, properties, options)
        self._admin = Admin(self._connection)
        self._reader = Reader(self._connection, self._admin)
        self._appender = Appender(self._connection)
        self._consumers: list[KafkaConsumer] = []

    @property
    def delivery(self) -> Guarantee:
        """`exactly_once`, or what the cluster's ACLs make of it."""
        return self._options.delivery

    def __repr__(self) -> str:
        return f"KafkaLog({self._connection.bootstrap_servers!r})"

    async def append(self, records: Sequence[NewRecord]) -> list[Position]:
        """Write records, durable when this returns."""
        check_sizes(list(records), self._options.max_record_bytes)
        await asyncio.to_thread(self._admin.require_topics, {record.topic for record in records})
        return await self._appender.append(records)

    async def join(
        self, group: str, topics: Sequence[str], listener: Listener, *, start_from: StartFrom = "latest", slot: str = ""
    ) -> Consumer:
        """Become a member. `slot` is half of the transactional id: two living workers must not share one."""
        if self._options.static_membership and not slot:
            raise SettingsError(
                "static_membership needs a slot: a name of this worker that stays the same over restarts"
            )
        await asyncio.to_thread(self._admin.check_connection)
        await asyncio.to_thread(self._admin.require_topics, topics)
        settings = await asyncio.to_thread(self._member_settings, group, slot)
        joined = self._joined(group, topics, listener, start_from, slot or uuid.uuid4().hex, settings)
        consumer = await joined
        self._consumers.append(consumer)
        return consumer

    async def read(self, partition: Partition, offset: int, max_records: int) -> list[Record]:
        """Committed records from `offset` on; empty at the end."""
        return await asyncio.to_thread(self._reader.read, partition, offset, max_records)

    async def topics(self) -> dict[str, TopicInfo]:
        """All topics but Kafka's own, by name."""
        return await asyncio.to_thread(self._admin.topics)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make what is missing; the names that were made."""
        return await asyncio.to_thread(self._admin.create_topics, specs)

    async def bounds(self, topic: str) -> dict[Partition, Bounds]:
        """First and next offset of each partition. Transaction markers take offsets too: a difference is no count of records."""
        return await asyncio.to_thread(self._admin.bounds, topic)

    async def committed(self, group: str, topic: str) -> dict[Partition, OffsetMap]:
        """How far a group has come; partitions without offsets are left out."""
        return await asyncio.to_thread(self._committed, group, topic)

    async def topics_of(self, group: str) -> set[str]:
        """The topics that a group has progress in."""
        return await asyncio.to_thread(self._admin.topics_of, group)

    async def groups(self) -> dict[str, list[GroupMember]]:
        """All groups and their members."""
        return await asyncio.to_thread(self._admin.groups)

    async def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        """The first offset whose record is not older; the next offset where there is none."""
        return (await asyncio.to_thread(self._admin.at, [partition], timestamp_ms))[partition]

    async def close(self) -> None:
        """Leave all groups and give back every connection."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.close()
        await asyncio.to_thread(self._appender.close)
        await asyncio.to_thread(self._reader.close)

    async def _joined(
        self,
        group: str,
        topics: Sequence[str],
        listener: Listener,
        start_from: StartFrom,
        slot: str,
        settings: Mapping[str, Any],
    ) -> KafkaConsumer:
        loop = asyncio.get_running_loop()
        threads = [ThreadPoolExecutor(1, f"penstock-kafka-{part}") for part in ("consume", "commit")]
        ownership, held, errands = Ownership(), Held(), Errands(threads[0])
        starts = Starts(self._connection, self._admin, self._reader, group)
        stands = Stands(self._admin, starts, group, start_from, self._stable_seconds, self._options.unread_lost)
        membership = Membership(
            self._connection, settings, topics, stands, ownership, held, listener, loop, threads[0], errands
        )
        committer = self._committer(group, slot, ownership, membership, errands)
        try:
            await loop.run_in_executor(threads[1], committer.start)
            await loop.run_in_executor(threads[0], membership.join)
        except BaseException:
            for thread in threads:
                thread.shutdown(wait=False)
            raise
        return KafkaConsumer(membership, committer, ownership, held, threads[0], threads[1], self._options)

    def _committer(
        self, group: str, slot: str, ownership: Ownership, membership: Membership, errands: Errands
    ) -> Committer | TwoStepCommitter:
        parts = (self._connection, self._admin, self._reader, ownership)
        if self._options.delivery == "at_least_once":
            logger.warning(
                "group %s: delivery is at_least_once: after a crash results may be there twice, with the same ids",
                group,
            )
            return TwoStepCommitter(*parts, errands, commit_marks=membership.commit_marks, on_fenced=membership.fenced)
        return Committer(*parts, group=group, transactional_id=f"{group}/{slot}", on_fenced=membership.fenced)

    @property
    def _stable_seconds(self) -> float:
        return self._options.transaction_timeout_seconds + STABLE_SLACK_SECONDS

    def _member_settings(self, group: str, slot: str) -> dict[str, Any]:
        settings: dict[str, Any] = {"group.id": group}
        protocol = self._connection.group_protocol
        if not protocol:
            protocol = "consumer" if self._admin.broker_has_consumer_protocol() else "classic"
        settings["group.protocol"] = protocol
        if protocol == "consumer":
            # By topic: over all topics together one worker may get the events and another the empty retry topic.
            settings["group.remote.assignor"] = "range"
        else:
            # Nothing else here moves partitions one by one; what it does over two topics: `log.topics.retry_partitions`.
            settings["partition.assignment.strategy"] = "cooperative-sticky"
        if self._options.static_membership:
            settings["group.instance.id"] = f"{group}/{slot}"
        return settings

    def _committed(self, group: str, topic: str) -> dict[Partition, OffsetMap]:
        partitions = self._admin.partitions(topic)
        topic_id = self._admin.topic_infos([topic])[topic].id
        found = self._admin.committed(group, partitions, self._stable_seconds)
        return {p: OffsetMap.decode(c.metadata, base=c.offset, topic_id=topic_id) for p, c in found.items()}
