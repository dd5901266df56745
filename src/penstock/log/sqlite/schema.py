"""The tables of the embedded log, and whether a file is one.

database → [schema]

A record's row id is `partition << 40 | offset`: one b-tree, ranges of a partition lie together, and the file can be read
with any SQLite tool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import LogDamaged

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

APPLICATION_ID = 0x50454E53
VERSION = 1
OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1

_TABLES = """
CREATE TABLE counters (topics INTEGER NOT NULL, groups INTEGER NOT NULL);
INSERT INTO counters VALUES (1, 1);
CREATE TABLE topics (
    topic INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, id TEXT NOT NULL, partitions INTEGER NOT NULL,
    is_compacted INTEGER NOT NULL, retention_ms INTEGER, retention_bytes INTEGER, tombstone_ms INTEGER NOT NULL);
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, number INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0, high INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    largest_bytes INTEGER NOT NULL DEFAULT 0, compacted_to INTEGER NOT NULL DEFAULT 0);
CREATE INDEX partitions_of_topic ON partitions (topic, number);
CREATE TABLE records (id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB NOT NULL);
CREATE TABLE members (
    group_name TEXT NOT NULL, member TEXT NOT NULL, slot TEXT NOT NULL, topics TEXT NOT NULL, beat INTEGER NOT NULL,
    beat_ms INTEGER NOT NULL, PRIMARY KEY (group_name, member)) WITHOUT ROWID;
CREATE TABLE leases (
    group_name TEXT NOT NULL, partition INTEGER NOT NULL, owner TEXT, epoch INTEGER NOT NULL, base INTEGER NOT NULL,
    map TEXT NOT NULL, PRIMARY KEY (group_name, partition)) WITHOUT ROWID;
CREATE TABLE losses (
    group_name TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, first_offset INTEGER NOT NULL,
    next_offset INTEGER NOT NULL, noticed_ms INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic, partition, first_offset, next_offset)) WITHOUT ROWID;
"""


def is_ready(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a log of ours; False where it is still empty. A foreign or newer file raises `LogDamaged`."""
    application_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id == APPLICATION_ID and version == VERSION:
        return True
    if application_id == APPLICATION_ID:
        raise LogDamaged(
            f"{path} was written by another version of Penstock (format {version}, this one reads {VERSION}): "
            "use that version, or give another path"
        )
    if application_id or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise LogDamaged(f"{path} is a database of something else, nothing was changed: give another path for the log")
    return False


def create(connection: sqlite3.Connection) -> None:
    """Make the tables; runs inside a transaction."""
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
