"""Deletes what is too old, too much or superseded, in short transactions, and warns before unread records go.

[upkeep] → the file
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import orjson

from penstock.errors import LogUnavailable
from penstock.log.sqlite.schema import OFFSET_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from penstock.log.sqlite.catalogue import Topic
    from penstock.log.sqlite.shared import Shared

logger = logging.getLogger("penstock.log")

_ROWS_PER_DELETE = 1_000
_WARN_AT = 0.9
"""Part of the retention after which an unread record is told of."""
_SIZE = "ifnull(length(key), 0) + ifnull(length(value), 0) + length(headers)"


class Upkeep:
    """Every process that writes looks after the file now and then; who finds nothing to do is done at once."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._task: asyncio.Task[None] | None = None
        self._warned: set[tuple[str, int, int]] = set()

    def start(self) -> None:
        """Begin to look in the background; a second call does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._look_on(), name="upkeep of the log")

    async def close(self) -> None:
        """Stop; what is half deleted the next one deletes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def run(self, now_ms: int) -> None:
        """One look at every topic."""
        topics = await self._shared.reader.run(self._shared.read_catalogue.refresh)
        for topic in topics.values():
            if topic.retention_ms is not None:
                await self._warn(topic, now_ms, topic.retention_ms)
            for row in topic.rows:
                if topic.retention_ms is not None:
                    await self._delete_old(row, now_ms - topic.retention_ms)
                if topic.retention_bytes is not None:
                    await self._delete_excess(row, topic.retention_bytes)
                if topic.info.is_compacted:
                    await self._compact(row, now_ms - topic.tombstone_ms)
        await self._delete_orphans()

    async def _look_on(self) -> None:
        while True:
            # Not all processes at the same moment, and none at its busy start.
            await asyncio.sleep(self._shared.options.upkeep_seconds * random.uniform(0.75, 1.25))
            try:
                await self.run(self._shared.wall_ms())
            except LogUnavailable as error:
                logger.warning("upkeep of the log waits: %s", error)

    async def _delete_old(self, row: int, oldest_ms: int) -> None:
        """As on Kafka, from the front on: what stands behind a younger record stays with it."""
        while True:
            span = await self._shared.reader.run(_front, row)
            ids = [id_ for id_, timestamp_ms, _ in span]
            young = next((id_ for id_, timestamp_ms, _ in span if timestamp_ms >= oldest_ms), None)
            end = young if young is not None else ids[-1] + 1 if ids else None
            if end is None or (ids and end == ids[0]):
                return
            await self._shared.writer.run(_delete_front, row, end)
            if young is not None:
                return

    async def _delete_excess(self, row: int, max_bytes: int) -> None:
        while True:
            span = await self._shared.reader.run(_front, row)
            held = await self._shared.reader.run(_bytes, row)
            end = None
            for id_, _, size in span:
                if held - size < max_bytes:
                    break
                held -= size
                end = id_ + 1
            if end is None:
                return
            await self._shared.writer.run(_delete_front, row, end)

    async def _compact(self, row: int, oldest_tombstone_ms: int) -> None:
        """Superseded stays superseded, so that victims are found without any lock and deleted bit by bit."""
        victims = await self._shared.reader.run(_superseded, row, oldest_tombstone_ms)
        for first in range(0, len(victims), _ROWS_PER_DELETE):
            part = victims[first : first + _ROWS_PER_DELETE]
            await self._shared.writer.run(_delete, row, part)

    async def _delete_orphans(self) -> None:
        """Records of topics that were deleted."""
        rows = await self._shared.reader.run(_orphans)
        for row in rows:
            is_left = True
            while is_left:
                is_left = await self._shared.writer.run(_delete_orphan, row)

    async def _warn(self, topic: Topic, now_ms: int, retention_ms: int) -> None:
        oldest_ms = now_ms - int(retention_ms * _WARN_AT)
        for group, row, offset in await self._shared.reader.run(_unread, topic, oldest_ms):
            if (group, row, offset) not in self._warned:
                self._warned.add((group, row, offset))
                logger.warning(
                    "group %r has not read %s/%d from offset %d on, and retention (%d s) deletes it soon: "
                    "add workers or raise the topic's retention",
                    group,
                    topic.name,
                    topic.rows.index(row),
                    offset,
                    retention_ms // 1000,
                )


def _front(connection: sqlite3.Connection, row: int) -> list[tuple[int, int, int]]:
    """Id, time and size of the first records of a partition."""
    (text,) = connection.execute(
        f"SELECT json_group_array(json_array(id, timestamp_ms, size)) FROM (SELECT id, timestamp_ms, {_SIZE} AS size"
        " FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
        (row << OFFSET_BITS, row + 1 << OFFSET_BITS, _ROWS_PER_DELETE),
    ).fetchone()
    return sorted(map(tuple, orjson.loads(text)))


def _bytes(connection: sqlite3.Connection, row: int) -> int:
    held: int = connection.execute("SELECT bytes FROM partitions WHERE partition = ?", (row,)).fetchone()[0]
    return held


def _delete_front(connection: sqlite3.Connection, row: int, end: int) -> None:
    """Delete below `end` and let the partition begin there, in one act."""
    (freed,) = connection.execute(
        f"SELECT ifnull(sum({_SIZE}), 0) FROM records WHERE id >= ? AND id < ?", (row << OFFSET_BITS, end)
    ).fetchone()
    connection.execute("DELETE FROM records WHERE id >= ? AND id < ?", (row << OFFSET_BITS, end))
    connection.execute(
        "UPDATE partitions SET low = max(low, ?), bytes = bytes - ? WHERE partition = ?",
        (end - (row << OFFSET_BITS), freed, row),
    )


def _superseded(connection: sqlite3.Connection, row: int, oldest_tombstone_ms: int) -> list[int]:
    (text,) = connection.execute(
        "SELECT json_group_array(id) FROM (SELECT id, value IS NULL AND timestamp_ms < ? AS is_old_tombstone,"
        " max(id) OVER (PARTITION BY key) AS last FROM records WHERE id >= ? AND id < ?)"
        " WHERE id < last OR is_old_tombstone",
        (oldest_tombstone_ms, row << OFFSET_BITS, row + 1 << OFFSET_BITS),
    ).fetchone()
    return sorted(orjson.loads(text))


def _delete(connection: sqlite3.Connection, row: int, ids: Sequence[int]) -> None:
    listed = ",".join(map(str, ids))
    (freed,) = connection.execute(f"SELECT ifnull(sum({_SIZE}), 0) FROM records WHERE id IN ({listed})").fetchone()
    connection.execute(f"DELETE FROM records WHERE id IN ({listed})")
    connection.execute("UPDATE partitions SET bytes = bytes - ? WHERE partition = ?", (freed, row))


def _orphans(connection: sqlite3.Connection) -> list[int]:
    (text,) = connection.execute(
        "SELECT json_group_array(partition) FROM partitions WHERE topic NOT IN (SELECT topic FROM topics)"
    ).fetchone()
    rows: list[int] = orjson.loads(text)
    return rows


def _delete_orphan(connection: sqlite3.Connection, row: int) -> bool:
    """Some records of a deleted partition; False when none is left and the partition is forgotten too."""
    deleted = connection.execute(
        "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
        (row << OFFSET_BITS, row + 1 << OFFSET_BITS, _ROWS_PER_DELETE),
    ).rowcount
    if not deleted:
        connection.execute("DELETE FROM partitions WHERE partition = ?", (row,))
    return deleted > 0


def _unread(connection: sqlite3.Connection, topic: Topic, oldest_ms: int) -> list[tuple[str, int, int]]:
    """Groups whose first unresolved record of a partition of this topic is older."""
    found = connection.execute(
        "SELECT group_name, partition, base FROM leases WHERE partition BETWEEN ? AND ? AND timestamp_ms < ?".replace(
            "timestamp_ms", f"(SELECT timestamp_ms FROM records WHERE id = partition << {OFFSET_BITS} | base)"
        ),
        (topic.rows[0], topic.rows[-1], oldest_ms),
    )
    return found.fetchall()
