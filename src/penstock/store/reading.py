"""The database as somebody reads it who must hold up nobody: never written to, and every question has an end in time.

web/pages → [reading] → queries

Called from a few threads. A question that takes too long is stopped: by the server itself, or in SQLite's own loop.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from sqlalchemy import QueuePool, create_engine, event

from penstock.errors import PenstockError, SettingsError
from penstock.store.faults import StoreAway, translated
from penstock.store.schema import JSON, REVISIONS, revision

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from penstock.store.options import DatabaseOptions

T = TypeVar("T")
STEPS = 2_000
"""Of SQLite's machine between two looks at the clock."""
CANCELED = "57014"
"""PostgreSQL stopped a statement because its time was over."""


class StoreMissing(PenstockError):
    """There is no database yet, or it is not made for this program; the text says what to do."""


class StoreSlow(StoreAway):
    """A question took longer than it may."""


class StoreReader:
    """Asks one database. Nothing is connected before the first question."""

    def __init__(self, options: DatabaseOptions, *, seconds: float, connections: int) -> None:
        self._options, self._seconds = options, seconds
        self._file = _file_of(options)
        self._until = threading.local()
        self._engine = self._sqlite(connections) if self._file else self._postgres(connections)

    @property
    def shown(self) -> str:
        """The address for people, without a password."""
        return self._options.shown

    def ask(self, question: Callable[[Connection], T]) -> T:
        """What the question finds, in one transaction that sees one state. Raises `StoreMissing`, `StoreAway`, `SettingsError`."""
        self._until.at = time.monotonic() + self._seconds
        if self._file is not None and not self._file.exists():
            raise StoreMissing(f"{self.shown} is not there yet")
        try:
            with translated(), self._engine.connect() as connection, connection.begin():
                self._check(connection)
                return question(connection)
        except StoreAway as error:
            if self._is_over(error):
                raise StoreSlow(f"the database did not answer within {self._seconds:g} s") from error
            raise

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def _check(self, connection: Connection) -> None:
        found = revision(connection)
        if found is None:
            raise StoreMissing(f"{self.shown} has no tables of Penstock: run `penstock db upgrade`")
        if found not in REVISIONS:
            raise StoreMissing(f"{self.shown} is at revision {found}, which a newer Penstock made: use that version")
        if found != REVISIONS[-1]:
            raise StoreMissing(
                f"{self.shown} is at revision {found}, this program works with {REVISIONS[-1]}: run `penstock db upgrade`"
            )

    def _is_over(self, error: BaseException) -> bool:
        cause = error.__cause__
        state = getattr(getattr(cause, "orig", None), "sqlstate", None)
        return state == CANCELED or time.monotonic() >= self._until.at

    def _sqlite(self, connections: int) -> Engine:
        def make() -> sqlite3.Connection:
            address = f"file:{quote(str(self._file))}?mode=ro"
            seconds = min(self._seconds, self._options.connect_timeout_seconds)
            made = sqlite3.connect(address, uri=True, timeout=seconds, check_same_thread=False, isolation_level=None)
            made.set_progress_handler(lambda: int(time.monotonic() >= self._until.at), STEPS)
            return made

        engine = create_engine(
            "sqlite://", creator=make, poolclass=QueuePool, pool_size=connections, max_overflow=0, **JSON
        )

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        return engine

    def _postgres(self, connections: int) -> Engine:
        ms = max(1, round(self._seconds * 1000))
        given = {
            "connect_timeout": max(1, round(min(self._seconds, self._options.connect_timeout_seconds))),
            "application_name": "penstock console",
            "options": f"-c statement_timeout={ms} -c timezone=UTC -c default_transaction_read_only=on "
            r"-c default_transaction_isolation=repeatable\ read",
            # A network that swallows everything must not keep a thread for longer than that.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "tcp_user_timeout": ms * 2,
        }
        pool = {"pool_size": connections, "max_overflow": 0, "pool_timeout": self._seconds, "pool_pre_ping": True}
        try:
            engine = create_engine(self._options.address(), connect_args=given, **pool, **JSON)
        except ModuleNotFoundError:
            raise SettingsError("PostgreSQL needs its driver: pip install 'penstock[postgres]'") from None

        @event.listens_for(engine, "before_cursor_execute")
        def look(*_: Any) -> None:
            if time.monotonic() >= self._until.at:
                raise StoreSlow("the time is over")

        return engine


def _file_of(options: DatabaseOptions) -> Path | None:
    url = options.address()
    return Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else None
