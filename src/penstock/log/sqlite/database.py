"""One connection on one thread: acts run there one after another, never on the event loop.

log, consumer → [database] → the file

A statement gives up Python's interpreter lock at every step, and under a busy event loop each step may wait to get it
back (measured: 1.6 ms a row). Acts therefore fetch and write many rows in one step.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from penstock.errors import LogDamaged, LogError, LogUnavailable, SettingsError
from penstock.log.sqlite import schema
from penstock.log.sqlite.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.log.sqlite.options import SqliteOptions

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("penstock.log")

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_WEATHER = {
    sqlite3.SQLITE_BUSY: "another process holds its lock",
    sqlite3.SQLITE_LOCKED: "another process holds its lock",
    sqlite3.SQLITE_NOMEM: "memory is short",
    sqlite3.SQLITE_READONLY: "it cannot be written: check its permissions, its folder's and the mount",
    sqlite3.SQLITE_IOERR: "the disk refuses to read or write",
    sqlite3.SQLITE_FULL: "the disk, or the ceiling max_file_bytes, is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check its permissions and its folder's",
    sqlite3.SQLITE_PROTOCOL: "its lock could not be had",
    sqlite3.SQLITE_INTERRUPT: "the statement was interrupted",
}
_CHECKPOINT_PAGES = 4000
_WRITES_PER_WAL_LOOK = 32
_WAL_RETRY_SECONDS = 5.0


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """Our word for an error of SQLite: the user's, the weather's or ours."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _DAMAGED:
        return LogDamaged(
            f"{path} is damaged or no log of Penstock ({error}): move it away (with its -wal and -shm files) and start "
            "with a new one, or bring back a copy"
        )
    if code in _WEATHER:
        return LogUnavailable(f"{path}: {_WEATHER[code]} ({error}); nothing was written")
    return LogError(f"{path}: {error}")


class Database:
    """A connection and its thread. `for_writing` says whether acts may change the file."""

    def __init__(self, path: Path, options: SqliteOptions, *, for_writing: bool) -> None:
        self.path = path
        self._options = options
        self._for_writing = for_writing
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"penstock-log-{'write' if for_writing else 'read'}")
        self._connection: sqlite3.Connection | None = None
        self._gate: Gate | None = None
        self._inode = 0
        self._writes = 0
        self._wal_look_at = 0.0
        self._is_closed = False

    async def run(self, act: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an act on the thread, as one transaction: its statements see one state and write all or nothing."""

        def bound(connection: sqlite3.Connection) -> T:
            return act(connection, *args, **kwargs)

        return await self._on_thread(self._write if self._for_writing else self._read, bound)

    async def run_bare(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Run an act on the thread without any transaction, so that it sees what others commit meanwhile."""
        return await self._on_thread(self._bare, act)

    async def _on_thread(
        self, body: Callable[[Callable[[sqlite3.Connection], T]], T], act: Callable[[sqlite3.Connection], T]
    ) -> T:
        if self._is_closed:
            raise LogError(f"{self.path}: the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, body, act)

    async def close(self) -> None:
        """Wait for what runs, then give the connection back."""
        if not self._is_closed:
            self._is_closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    def _bare(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return act(self._opened())
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def _read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        def in_one_state(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN")
            try:
                return act(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

        return self._bare(in_one_state)

    def _write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._opened()
            assert self._gate is not None
            with self._gate.passed():
                self._check_file()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = act(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            self._writes += 1
            if self._writes % _WRITES_PER_WAL_LOOK == 0:
                self._bound_wal(connection)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        return result

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self.path.parent.is_dir():
                raise SettingsError(
                    f"the log's folder {self.path.parent} does not exist: make it, or give another path"
                )
            if self.path.is_dir():
                raise SettingsError(f"the log's path {self.path} is a folder: give a file in it")
            self._gate = self._gate or Gate(self.path)
            self._connection = _connected(self.path, self._options, self._gate, for_writing=self._for_writing)
            self._inode = self.path.stat().st_ino
        return self._connection

    def _check_file(self) -> None:
        """A file that was deleted or replaced under us would swallow every write."""
        try:
            inode = self.path.stat().st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            raise LogDamaged(
                f"{self.path} was deleted or replaced while it was open: stop every process that uses it and start again"
            )

    def _bound_wal(self, connection: sqlite3.Connection) -> None:
        """Readers that come and go can keep SQLite from ever starting its write-ahead log anew; then make them wait."""
        now = time.monotonic()
        if now < self._wal_look_at or _size(f"{self.path}-wal") <= self._options.max_wal_bytes:
            return
        connection.execute("PRAGMA busy_timeout = 500")
        is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {int(self._options.lock_wait_seconds * 1000)}")
        if is_busy:
            self._wal_look_at = now + _WAL_RETRY_SECONDS
            logger.warning("%s-wal grows: some process keeps a read of the log open", self.path)

    def _close(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                raise translated(error, self.path) from error
            finally:
                self._connection = None
        if self._gate is not None:
            self._gate.close()


def _connected(path: Path, options: SqliteOptions, gate: Gate, *, for_writing: bool) -> sqlite3.Connection:
    deadline = time.monotonic() + options.lock_wait_seconds
    while True:
        connection = sqlite3.connect(
            path,
            timeout=options.lock_wait_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            _prepare(connection, path, options, gate)
            if not for_writing:
                connection.execute("PRAGMA query_only = ON")
        except sqlite3.OperationalError as error:
            connection.close()
            # Several processes make the file at once: turning it to WAL is refused at once, not after the busy time-out.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def _prepare(connection: sqlite3.Connection, path: Path, options: SqliteOptions, gate: Gate) -> None:
    connection.execute("BEGIN")  # one state of the file: another process may be making it
    is_ready = schema.is_ready(connection, path)
    connection.execute("COMMIT")
    if not is_ready:
        with gate.passed():
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if not schema.is_ready(connection, path):
                schema.create(connection)
            connection.execute("COMMIT")
    connection.execute(f"PRAGMA synchronous = {options.synchronous}")
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("PRAGMA cache_size = -8192")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {options.max_wal_bytes}")
    if options.max_file_bytes is not None:
        page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(1, options.max_file_bytes // page_bytes)}")


def _size(name: str) -> int:
    try:
        return Path(name).stat().st_size
    except OSError:
        return 0
