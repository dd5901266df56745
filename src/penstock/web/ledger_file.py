"""The file of the ledger: one thread that writes, one that reads, and acts that come together share a transaction.

ledger → [ledger file] → SQLite
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from penstock.errors import PenstockError, SettingsError

T = TypeVar("T")
Act = Callable[[sqlite3.Connection], Any]
BUSY_SECONDS = 10.0
VERSION = 1
SCHEMA = """
CREATE TABLE claims (
  claim TEXT PRIMARY KEY, digest TEXT NOT NULL, topic TEXT NOT NULL, event_id TEXT NOT NULL, subject TEXT NOT NULL,
  record_key TEXT, turn TEXT NOT NULL, owner TEXT NOT NULL, made_ms INTEGER NOT NULL,
  partition INTEGER, "offset" INTEGER
) WITHOUT ROWID;
CREATE INDEX claims_by_event ON claims (topic, event_id);
CREATE INDEX claims_by_age ON claims (made_ms);
CREATE INDEX claims_by_subject ON claims (topic, subject);
CREATE INDEX claims_by_key ON claims (topic, record_key);
CREATE TABLE endings (
  number INTEGER PRIMARY KEY, task TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
  event_id TEXT NOT NULL, subject TEXT NOT NULL, record_key TEXT, kind TEXT NOT NULL, at_ms INTEGER NOT NULL,
  content TEXT NOT NULL, UNIQUE (task, topic, partition, "offset")
);
CREATE INDEX endings_by_event ON endings (topic, event_id);
CREATE INDEX endings_by_subject ON endings (topic, subject);
CREATE INDEX endings_by_key ON endings (topic, record_key);
CREATE INDEX endings_by_place ON endings (topic, partition, "offset");
CREATE TABLE tails (topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));
CREATE TABLE owners (owner TEXT PRIMARY KEY, until_ms INTEGER NOT NULL);
"""


class LedgerUnavailable(PenstockError):
    """Weather: the ledger's file cannot be used now; nothing was written."""


class LedgerFile:
    """Acts on the file, each all or nothing. Opened by the first act."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._threads = [ThreadPoolExecutor(1, f"penstock-ledger-{part}") for part in ("write", "read")]
        self._connections: list[sqlite3.Connection | None] = [None, None]
        self._acts: list[tuple[Act, asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Durable when it returns."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._acts.append((act, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="ledger")
        return await done

    async def read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """What is committed. Raises `LedgerUnavailable`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[1], self._read, act)

    async def close(self) -> None:
        """Write what was handed in, and give back the file."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        loop = asyncio.get_running_loop()
        for number, thread in enumerate(self._threads):
            await loop.run_in_executor(thread, self._disconnect, number)
            thread.shutdown()

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._acts:
            acts, self._acts = self._acts, []
            try:
                outcomes = await loop.run_in_executor(self._threads[0], self._commit, [act for act, _ in acts])
            except Exception as error:  # noqa: BLE001 - handed to every caller
                for _, done in acts:
                    if not done.done():
                        done.set_exception(error)
                continue
            for (_, done), outcome in zip(acts, outcomes, strict=True):
                if not done.done():
                    done.set_result(outcome)

    def _commit(self, acts: list[Act]) -> list[Any]:
        db = self._connection(0)
        try:
            db.execute("BEGIN IMMEDIATE")
            outcomes = [act(db) for act in acts]
            db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise LedgerUnavailable(f"{self.path}: {error}") from error
        return outcomes

    def _read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        db = self._connection(1)
        try:
            return act(db)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"gateway.ledger_file={str(self.path)!r}: {error}") from error

    def _connection(self, number: int) -> sqlite3.Connection:
        found = self._connections[number]
        if found is None:
            found = self._connections[number] = self._connected()
        return found

    def _connected(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA secure_delete=ON")  # what an erasure takes is gone from the file, too
            db.execute("BEGIN IMMEDIATE")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise LedgerUnavailable(f"gateway.ledger_file={str(self.path)!r}: {error}") from error
        except sqlite3.Error as error:
            raise SettingsError(
                f"gateway.ledger_file={str(self.path)!r} is damaged or no ledger ({error}): move it away"
            ) from error
        if version not in {0, VERSION}:
            raise SettingsError(
                f"gateway.ledger_file={str(self.path)!r} is of version {version}, this Penstock knows {VERSION}: "
                "move it away, or use the newer Penstock"
            )
        return db

    def _disconnect(self, number: int) -> None:
        db, self._connections[number] = self._connections[number], None
        if db is not None:
            db.close()
