"""Writes one batch in one transaction: erasures first, then what they leave, the later over the earlier.

sinks/database → [writing] → tables

A row is replaced only by one of a higher rank (generation, commit time, place in the log), so that the same batch again, or an
old one after a new one, changes nothing. What an erasure covers is deleted, and does not come back when it is delivered late.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, func, select, text, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from penstock.store.faults import translated
from penstock.store.tables import costs, dead_letters, erasures, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Engine, Table

    from penstock.erasure import Erasure

Row = dict[str, Any]
SLACK = timedelta(hours=1)
"""Clocks differ; what was committed later than this behind an erasure is of a topic that was made anew."""
IN_ONE_QUESTION = 500
MAX_KEY_BYTES = 256


@dataclass(slots=True)
class Writes:
    """What a batch comes to, in the order of its deliveries."""

    verdicts: dict[tuple[str, str], Row] = field(default_factory=dict)
    letters: dict[str, Row] = field(default_factory=dict)
    costs: dict[str, Row] = field(default_factory=dict)
    erasures: dict[tuple[Any, ...], Row] = field(default_factory=dict)

    def verdict(self, row: Row) -> None:
        """The one of the highest rank stays."""
        name = (row["task"], row["event_id"])
        known = self.verdicts.get(name)
        if known is None or rank(known) <= rank(row):
            self.verdicts[name] = row

    def letter(self, row: Row) -> None:
        """A letter is never changed."""
        self.letters[row["id"]] = row

    def cost(self, row: Row) -> None:
        """Once per ending, whatever becomes of its verdict."""
        self.costs[row["result_id"]] = row

    def erase(self, erasure: Erasure, committed_at: datetime) -> None:
        """What it covers of this batch goes at once; of several the furthest counts."""
        if erasure.subject is None and erasure.key is None:
            return
        name = name_of_key(erasure.key) if erasure.subject is None else erasure.subject.encode()
        row: Row = {
            "task": erasure.task,
            "scope": "key" if erasure.subject is None else "subject",
            "name": name,
            "source_topic": erasure.source.topic,
            "source_partition": erasure.source.partition,
            "source_offset": erasure.source.offset,
            "committed_at": committed_at,
        }
        at = tuple(row[column.name] for column in erasures.primary_key)
        known = self.erasures.get(at)
        if known is not None:
            row["source_offset"] = max(row["source_offset"], known["source_offset"])
            row["committed_at"] = max(row["committed_at"], known["committed_at"])
        self.erasures[at] = row
        self.verdicts = {name: one for name, one in self.verdicts.items() if not _covers(row, one)}
        self.letters = {name: one for name, one in self.letters.items() if not _covers(row, one)}


def name_of_key(key: bytes | None) -> bytes | None:
    """A key as it is, a long one by its hash: no index takes more than some 2,700 bytes."""
    return key if key is None or len(key) <= MAX_KEY_BYTES else hashlib.sha256(key).digest()


def rank(row: Row) -> tuple[Any, ...]:
    """The later of two verdicts on one event."""
    return row["generation"], row["committed_at"], row["log_offset"]


class Writer:
    """Writes to one database. Called from one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect: Any = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._insert = dialect.insert
        self._is_postgres = engine.dialect.name == "postgresql"
        self._verdicts = self._upsert(verdicts, ("generation", "committed_at", "log_offset"))
        self._letters = self._insert(dead_letters).on_conflict_do_nothing()
        self._costs = self._insert(costs).on_conflict_do_nothing()
        self._erasures = self._raise_erasure()

    def write(self, writes: Writes) -> None:
        """All of it or nothing. Raises `StoreAway`, `RowRefused`, `SettingsError`."""
        with translated(), self._engine.begin() as connection:
            if self._is_postgres:
                # A late result must not slip past an erasure that another process is just writing down.
                how = "pg_advisory_xact_lock" if writes.erasures else "pg_advisory_xact_lock_shared"
                connection.execute(text(f"SELECT {how}(hashtext('penstock erasures'))"))
            if writes.erasures:
                self._erase(connection, list(writes.erasures.values()))
            kept = _not_erased(connection, list(writes.verdicts.values()))
            letters = _not_erased(connection, list(writes.letters.values()))
            # In one order everywhere, or two writers would wait for each other.
            self._put(connection, self._verdicts, sorted(kept, key=lambda row: (row["task"], row["event_id"])))
            self._put(connection, self._letters, sorted(letters, key=lambda row: row["id"]))
            self._put(connection, self._costs, sorted(writes.costs.values(), key=lambda row: row["result_id"]))

    @staticmethod
    def _put(connection: Connection, statement: Any, rows: Sequence[Row]) -> None:
        if rows:
            connection.execute(statement, rows)

    def _upsert(self, table: Table, by: Sequence[str]) -> Any:
        made = self._insert(table)
        names = [column.name for column in table.columns if not column.primary_key]
        return made.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={name: made.excluded[name] for name in names},
            where=tuple_(*(made.excluded[name] for name in by)) > tuple_(*(table.c[name] for name in by)),
        )

    def _raise_erasure(self) -> Any:
        made = self._insert(erasures)
        greater = func.greatest if self._is_postgres else func.max
        return made.on_conflict_do_update(
            index_elements=list(erasures.primary_key),
            set_={name: greater(made.excluded[name], erasures.c[name]) for name in ("source_offset", "committed_at")},
        )

    def _erase(self, connection: Connection, rows: Sequence[Row]) -> None:
        connection.execute(self._erasures, rows)
        for table in (verdicts, dead_letters):
            for scope, column in (("subject", table.c.subject), ("key", table.c.key)):
                covered = [
                    {"b_name": row["name"].decode() if scope == "subject" else row["name"], **_bound(row)}
                    for row in rows
                    if row["scope"] == scope
                ]
                if covered:
                    connection.execute(_delete_covered(table, column), covered)


def _bound(row: Row) -> Row:
    names = ("task", "source_topic", "source_partition", "source_offset", "committed_at")
    return {f"b_{name}": row[name] + SLACK if name == "committed_at" else row[name] for name in names}


def _delete_covered(table: Table, column: Any) -> Any:
    return delete(table).where(
        and_(
            column == bindparam("b_name"),
            table.c.task == bindparam("b_task"),
            table.c.source_topic == bindparam("b_source_topic"),
            table.c.source_partition == bindparam("b_source_partition"),
            table.c.source_offset < bindparam("b_source_offset"),
            table.c.committed_at < bindparam("b_committed_at"),
        )
    )


def _covers(erasure: Row, row: Row) -> bool:
    """Whether a verdict or letter stands before the erasure and is meant by it."""
    name = row["subject"].encode() if erasure["scope"] == "subject" else row["key"]
    return bool(
        name == erasure["name"]
        and all(row[column] == erasure[column] for column in ("task", "source_topic", "source_partition"))
        and row["source_offset"] < erasure["source_offset"]
        and row["committed_at"] < erasure["committed_at"] + SLACK
    )


def _not_erased(connection: Connection, rows: list[Row]) -> list[Row]:
    """Those that no erasure covers which was written down before."""
    if not rows:
        return rows
    names = {row["subject"].encode() for row in rows} | {row["key"] for row in rows if row["key"] is not None}
    known = [row for some in _parts(sorted(names)) for row in _erasures_of(connection, some)]
    if not known:
        return rows
    by_name: dict[bytes, list[Row]] = {}
    for erasure in known:
        by_name.setdefault(bytes(erasure["name"]), []).append({**erasure, "name": bytes(erasure["name"])})
    return [
        row
        for row in rows
        if not any(
            _covers(one, row) for name in (row["subject"].encode(), row["key"]) for one in by_name.get(name or b"", ())
        )
    ]


def _erasures_of(connection: Connection, names: Sequence[bytes]) -> list[Row]:
    found = connection.execute(select(erasures).where(erasures.c.name.in_(names)))
    return [dict(row) for row in found.mappings()]


def _parts(names: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (names[at : at + IN_ONE_QUESTION] for at in range(0, len(names), IN_ONE_QUESTION))


def prune(engine: Engine, table: Table, column: str, before: datetime, rows: int) -> int:
    """Delete up to so many rows that are older; how many there were."""
    key = list(table.primary_key)
    old = select(*key).where(table.c[column] < before.astimezone(UTC)).order_by(table.c[column]).limit(rows)
    with translated(), engine.begin() as connection:
        done = connection.execute(delete(table).where(tuple_(*key).in_(old)))
    return done.rowcount
