"""The topics of a log: made, deleted and looked up by name.

log → [catalogue] → records, group
"""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import LogError, SettingsError, TopicMissing
from penstock.log.base import Bounds, TopicInfo, TopicSpec
from penstock.log.partitioner import partition_of
from penstock.log.sqlite.schema import OFFSET_BITS
from penstock.record import NewRecord, Partition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_TOMBSTONE_MS = 24 * 3600 * 1000
_MOST_PARTITIONS = 10_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with the row ids of its partitions, by number."""

    info: TopicInfo
    rows: tuple[int, ...]
    retention_ms: int | None
    retention_bytes: int | None
    tombstone_ms: int

    @property
    def name(self) -> str:
        return self.info.name


class Catalogue:
    """All topics as of the last look. Each database thread has its own; `refresh` costs one small statement."""

    def __init__(self) -> None:
        self._version = 0
        self._topics: dict[str, Topic] = {}
        self._turns: dict[str, int] = {}

    def refresh(self, connection: sqlite3.Connection) -> dict[str, Topic]:
        """The topics by name, read again where another process changed them."""
        version: int = connection.execute("SELECT topics FROM counters").fetchone()[0]
        if version != self._version:
            self._topics = _topics(connection)
            self._version = version
        return self._topics

    def topic(self, name: str) -> Topic:
        """The topic of that name, as of the last refresh."""
        found = self._topics.get(name)
        if found is None:
            raise TopicMissing(f"topic {name!r} does not exist: make it with `penstock topics create {name}`")
        return found

    def place(self, record: NewRecord) -> tuple[Topic, int]:
        """The topic and partition number that a record belongs to."""
        topic = self.topic(record.topic)
        if record.partition is not None:
            if not 0 <= record.partition < topic.info.partitions:
                raise LogError(
                    f"topic {record.topic!r} has partitions 0 to {topic.info.partitions - 1}, not {record.partition}"
                )
            return topic, record.partition
        if record.key is not None:
            return topic, partition_of(record.key, topic.info.partitions)
        if topic.info.is_compacted:
            raise LogError(f"topic {record.topic!r} is compacted: every record needs a key")
        return topic, self._turns.get(record.topic, 0) % topic.info.partitions

    def next_turn(self, names: set[str]) -> None:
        """Records without a key of one append stay together; the next append's go to the next partition."""
        for name in names:
            self._turns[name] = self._turns.get(name, random.randrange(_MOST_PARTITIONS)) + 1


def _topics(connection: sqlite3.Connection) -> dict[str, Topic]:
    rows: dict[int, list[int]] = {}
    for topic, partition in connection.execute("SELECT topic, partition FROM partitions ORDER BY topic, number"):
        rows.setdefault(topic, []).append(partition)
    return {
        name: Topic(
            TopicInfo(
                name,
                id_,
                count,
                bool(is_compacted),
                settings={
                    "cleanup.policy": "compact" if is_compacted else "delete",
                    "retention.ms": str(-1 if retention_ms is None else retention_ms),
                    "retention.bytes": str(-1 if retention_bytes is None else retention_bytes),
                },
            ),
            tuple(rows[topic]),
            retention_ms,
            retention_bytes,
            tombstone,
        )
        for topic, name, id_, count, is_compacted, retention_ms, retention_bytes, tombstone in connection.execute(
            "SELECT topic, name, id, partitions, is_compacted, retention_ms, retention_bytes, tombstone_ms FROM topics"
        )
    }


def create_topics(connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> list[str]:
    """Make what is missing; the names that were made."""
    made = []
    for spec in specs:
        if not 1 <= spec.partitions <= _MOST_PARTITIONS:
            raise SettingsError(f"topic {spec.name!r}: partitions={spec.partitions}: write 1 to {_MOST_PARTITIONS}")
        cursor = connection.execute(
            "INSERT OR IGNORE INTO topics (name, id, partitions, is_compacted, retention_ms, retention_bytes, tombstone_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                spec.name,
                uuid.uuid4().hex,
                spec.partitions,
                spec.is_compacted,
                None if spec.is_compacted else spec.retention_ms,
                _setting(spec, "retention.bytes", None),
                _setting(spec, "delete.retention.ms", _TOMBSTONE_MS),
            ),
        )
        if cursor.rowcount:
            made.append(spec.name)
            connection.executemany(
                "INSERT INTO partitions (topic, number) VALUES (?, ?)",
                [(cursor.lastrowid, number) for number in range(spec.partitions)],
            )
    if made:
        connection.execute("UPDATE counters SET topics = topics + 1, groups = groups + 1")
    return made


def _setting(spec: TopicSpec, name: str, default: int | None) -> int | None:
    text = spec.settings.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError as error:
        raise SettingsError(f"topic {spec.name!r}: setting {name}={text!r}: write a whole number") from error
    return None if number < 0 else number


def delete_topics(connection: sqlite3.Connection, names: Sequence[str]) -> list[str]:
    """Take the topics and every group's progress on them away; their records are deleted by upkeep, bit by bit."""
    gone = []
    for name in names:
        found = connection.execute("SELECT topic FROM topics WHERE name = ?", (name,)).fetchone()
        if found is None:
            continue
        gone.append(name)
        connection.execute(
            "DELETE FROM leases WHERE partition IN (SELECT partition FROM partitions WHERE topic = ?)", found
        )
        connection.execute("DELETE FROM topics WHERE topic = ?", found)
    if gone:
        connection.execute("UPDATE counters SET topics = topics + 1, groups = groups + 1")
    return gone


def bounds(connection: sqlite3.Connection, topic: Topic) -> dict[Partition, Bounds]:
    """First and next offset of each partition of a topic."""
    (text,) = connection.execute(
        "SELECT json_group_array(json_array(number, low, high)) FROM partitions WHERE partition BETWEEN ? AND ?",
        (topic.rows[0], topic.rows[-1]),
    ).fetchone()
    return {Partition(topic.name, number): Bounds(low, high) for number, low, high in sorted(json.loads(text))}


def offset_at(connection: sqlite3.Connection, row: int, timestamp_ms: int) -> int:
    """The first offset of a partition whose record is not older; the next offset where there is none."""
    found = connection.execute(
        "SELECT id FROM records WHERE id >= ? AND id < ? AND timestamp_ms >= ? ORDER BY id LIMIT 1",
        (row << OFFSET_BITS, row + 1 << OFFSET_BITS, timestamp_ms),
    ).fetchone()
    if found is not None:
        return int(found[0]) - (row << OFFSET_BITS)
    high: int = connection.execute("SELECT high FROM partitions WHERE partition = ?", (row,)).fetchone()[0]
    return high
