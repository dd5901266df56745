"""The embedded log's front: `penstock.log.base.EventLog` over one SQLite file.

producers → [log] → consumer · CLI → [log] → short reads
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from penstock.errors import TopicMissing
from penstock.log.base import GroupMember
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import catalogue, records
from penstock.log.sqlite.appender import Appender
from penstock.log.sqlite.catalogue import Catalogue
from penstock.log.sqlite.consumer import SqliteConsumer
from penstock.log.sqlite.database import Database
from penstock.log.sqlite.group import Seat
from penstock.log.sqlite.membership import Membership
from penstock.log.sqlite.news import News
from penstock.log.sqlite.options import SqliteOptions
from penstock.log.sqlite.records import Span
from penstock.log.sqlite.shared import Shared
from penstock.log.sqlite.upkeep import Upkeep
from penstock.record import NewRecord, Partition, Position, Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from penstock.log.base import Bounds, Consumer, Guarantee, Listener, TopicInfo, TopicSpec
    from penstock.task import StartFrom


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteLog:
    """One file, many processes. Wall-clock time only stamps records and ages them; nobody lives or dies by it."""

    kind = "sqlite"
    delivery: Guarantee = "exactly_once"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        options: SqliteOptions = SqliteOptions(),  # noqa: B008 - frozen
        wall_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        self.path = Path(path).absolute()
        reader = Database(self.path, options, for_writing=False)
        writer = Database(self.path, options, for_writing=True)
        news = News(Database(self.path, options, for_writing=False), options.notice_seconds)
        self._shared = Shared(options, reader, writer, Catalogue(), Catalogue(), news, wall_ms)
        self._appender = Appender(self._shared)
        self._upkeep = Upkeep(self._shared)
        self._consumers: list[SqliteConsumer] = []

    async def append(self, records: Sequence[NewRecord]) -> list[Position]:
        """See the contract. Calls that come together are written in one transaction."""
        self._upkeep.start()
        return await self._appender.append(records)

    async def join(
        self, group: str, topics: Sequence[str], listener: Listener, *, start_from: StartFrom = "latest", slot: str = ""
    ) -> Consumer:
        """See the contract. A worker that joins under a slot takes the place of the one that held it."""
        self._upkeep.start()
        options = self._shared.options
        seat = Seat(
            group=group,
            member=f"{slot or socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            slot=slot,
            topics=tuple(dict.fromkeys(topics)),
            start_from=start_from,
            goes_on_after_loss=options.unread_lost == "continue",
        )
        consumer = SqliteConsumer(self._shared, seat)
        await Membership(self._shared, consumer, listener).enter()
        self._consumers.append(consumer)
        return consumer

    async def read(self, partition: Partition, offset: int, max_records: int) -> list[Record]:
        """See the contract."""
        max_bytes = self._shared.options.max_poll_bytes

        def act(db: sqlite3.Connection) -> list[Record]:
            row = self._row(db, partition)
            low, high, largest = db.execute(
                "SELECT low, high, largest_bytes FROM partitions WHERE partition = ?", (row,)
            ).fetchone()
            span = Span(row, partition, max(offset, low), high, max_records)
            if largest * max_records > max_bytes:
                span = records.trimmed(db, span, max_bytes)
            return records.read(db, [span])

        return await self._shared.reader.run(act)

    async def topics(self) -> dict[str, TopicInfo]:
        """See the contract."""
        found = await self._shared.reader.run(self._shared.read_catalogue.refresh)
        return {name: topic.info for name, topic in sorted(found.items())}

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """See the contract. Of `settings`, `retention.bytes` and `delete.retention.ms` have a meaning here."""
        return await self._shared.writer.run(catalogue.create_topics, specs)

    async def delete_topics(self, names: Sequence[str]) -> list[str]:
        """Take topics away, with every group's progress on them; the names that were there."""
        gone = await self._shared.writer.run(catalogue.delete_topics, names)
        self._shared.news.happened()
        return gone

    async def bounds(self, topic: str) -> dict[Partition, Bounds]:
        """See the contract."""

        def act(db: sqlite3.Connection) -> dict[Partition, Bounds]:
            return catalogue.bounds(db, self._topic(db, topic))

        return await self._shared.reader.run(act)

    async def committed(self, group: str, topic: str) -> dict[Partition, OffsetMap]:
        """See the contract."""

        def act(db: sqlite3.Connection) -> dict[Partition, OffsetMap]:
            found = self._topic(db, topic)
            leases = db.execute(
                "SELECT partition, base, map FROM leases WHERE group_name = ? AND partition BETWEEN ? AND ?",
                (group, found.rows[0], found.rows[-1]),
            ).fetchall()
            return {
                Partition(topic, found.rows.index(row)): OffsetMap.decode(text, base=base, topic_id=found.info.id)
                for row, base, text in leases
            }

        return await self._shared.reader.run(act)

    async def topics_of(self, group: str) -> set[str]:
        """See the contract."""

        def act(db: sqlite3.Connection) -> set[str]:
            found = db.execute(
                "SELECT DISTINCT name FROM leases JOIN partitions USING (partition) JOIN topics USING (topic) "
                "WHERE group_name = ?",
                (group,),
            )
            return {name for (name,) in found}

        return await self._shared.reader.run(act)

    async def groups(self) -> dict[str, list[GroupMember]]:
        """See the contract. Alive is who showed a heartbeat within the session time-out, by this machine's clock."""
        now_ms = self._shared.wall_ms()
        session_ms = self._shared.options.session_timeout_seconds * 1000

        def act(db: sqlite3.Connection) -> dict[str, list[GroupMember]]:
            partitions = {
                row: Partition(name, number)
                for name, topic in self._shared.read_catalogue.refresh(db).items()
                for number, row in enumerate(topic.rows)
            }
            (text,) = db.execute(
                "SELECT json_group_array(json_array(group_name, owner, partition)) FROM leases"
            ).fetchone()
            owned: dict[tuple[str, str | None], list[Partition]] = {}
            groups: dict[str, list[GroupMember]] = {}
            for group, owner, row in orjson.loads(text):
                groups.setdefault(group, [])
                if row in partitions:
                    owned.setdefault((group, owner), []).append(partitions[row])
            for group, member, beat_ms in db.execute("SELECT group_name, member, beat_ms FROM members").fetchall():
                mine = tuple(sorted(owned.get((group, member), [])))
                is_alive = abs(now_ms - beat_ms) < session_ms
                groups.setdefault(group, []).append(GroupMember(member, mine, is_alive))
            return groups

        return await self._shared.reader.run(act)

    async def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        """See the contract."""

        def act(db: sqlite3.Connection) -> int:
            return catalogue.offset_at(db, self._row(db, partition), timestamp_ms)

        return await self._shared.reader.run(act)

    async def enforce_retention(self, now_ms: int | None = None) -> None:
        """Delete what is too old or too much, compact what is to be compacted; upkeep does it in the background too."""
        await self._upkeep.run(self._shared.wall_ms() if now_ms is None else now_ms)

    async def close(self) -> None:
        """See the contract. Consumers that are still open leave their groups first."""
        try:
            await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        finally:
            await self._upkeep.close()
            await self._appender.close()
            await self._shared.news.close()
            await self._shared.writer.close()
            await self._shared.reader.close()

    def _topic(self, connection: sqlite3.Connection, name: str) -> catalogue.Topic:
        self._shared.read_catalogue.refresh(connection)
        return self._shared.read_catalogue.topic(name)

    def _row(self, connection: sqlite3.Connection, partition: Partition) -> int:
        topic = self._topic(connection, partition.topic)
        if not 0 <= partition.number < topic.info.partitions:
            raise TopicMissing(
                f"topic {partition.topic!r} has {topic.info.partitions} partitions, none is number {partition.number}"
            )
        return topic.rows[partition.number]
