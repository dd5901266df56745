"""Opens the database and sees that its tables are those of this program: made, brought up to date, or refused.

cli, sinks → [schema] → migrations, tables
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from penstock.errors import SettingsError
from penstock.store.faults import translated

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine

    from penstock.store.options import DatabaseOptions

VERSION_TABLE = "penstock_version"
REVISIONS = ("0001", "0002", "0003")
"""Every step there is, oldest first: the last one is what this program works with."""
JSON: Any = {"json_serializer": lambda value: orjson.dumps(value).decode(), "json_deserializer": orjson.loads}
"""Documents are most of a row."""
KEEPALIVE_SECONDS = 15
MIGRATIONS = Path(__file__).parent / "migrations"


def connect(options: DatabaseOptions, *, is_reader: bool = False) -> Engine:
    """An engine with few connections. Nothing is asked of the database yet. On SQLite a reader waits for no writer."""
    url = options.address()
    if url.get_backend_name() == "sqlite":
        return _sqlite(options, is_reader=is_reader)
    seconds = max(1, round(options.connect_timeout_seconds))
    statement_ms = int(options.statement_timeout_seconds * 1000)
    try:
        return create_engine(
            url,
            pool_size=2,
            max_overflow=2,
            pool_pre_ping=True,
            **JSON,
            connect_args={
                "connect_timeout": seconds,
                **_noticing(options.statement_timeout_seconds),
                "application_name": "penstock",
                "options": f"-c statement_timeout={statement_ms} -c timezone=UTC",
            },
        )
    except ModuleNotFoundError:
        raise SettingsError("PostgreSQL needs its driver: pip install 'penstock[postgres]'") from None


def _noticing(statement_seconds: float) -> dict[str, int]:
    """A server whose machine or network is gone sends no word of it: without these nobody would notice for hours."""
    most_ms = int((statement_seconds + KEEPALIVE_SECONDS) * 1000)
    return {
        "keepalives": 1,
        "keepalives_idle": KEEPALIVE_SECONDS,
        "keepalives_interval": KEEPALIVE_SECONDS // 3,
        "keepalives_count": 3,
        "tcp_user_timeout": most_ms,
    }


def _sqlite(options: DatabaseOptions, *, is_reader: bool) -> Engine:
    engine = create_engine(options.address(), connect_args={"timeout": options.connect_timeout_seconds}, **JSON)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's `begin` below says when a transaction starts
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = FULL"
        )  # a commit of ours must outlive a power cut: the log has moved on

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that reads first and writes then may find the file taken.
        connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")

    return engine


def revision(connection: Connection) -> str | None:
    """The step that the database has reached; None where it has no tables of ours."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - our own name


def check(engine: Engine, options: DatabaseOptions) -> None:
    """Raises `SettingsError` where the tables are not those of this program, `StoreAway` where nobody answers.

    A SQLite file that has no tables yet gets them: it is ours alone.
    """
    with translated(), engine.connect() as connection:
        found = revision(connection)
        is_empty = found is None and not inspect(connection).get_table_names()
    if found == REVISIONS[-1]:
        return
    if is_empty and engine.dialect.name == "sqlite":
        upgrade(engine)
        return
    if found is None:
        raise SettingsError(f"{options.shown} has no tables of Penstock: run `penstock db upgrade`")
    if found in REVISIONS:
        raise SettingsError(
            f"{options.shown} is at revision {found}, this program works with {REVISIONS[-1]}: run `penstock db upgrade`"
        )
    raise SettingsError(
        f"{options.shown} is at revision {found}, which this program does not know: a newer Penstock wrote it. "
        "Use that version, or another database"
    )


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the tables up to date in one transaction; from where to where. A newer database is refused."""
    from alembic import command  # noqa: PLC0415 - only who upgrades pays for it

    config = _config()
    with translated(), engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # two of us at once: the second finds the work done
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # a new index of a large table takes its time
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('penstock db upgrade'))"))
        found = revision(connection)
        if found is not None and found not in REVISIONS:
            raise SettingsError(f"the database is at revision {found}, which a newer Penstock made: use that version")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            if "already exists" in str(error.orig):
                raise SettingsError(
                    f"the database holds tables of something else ({error.orig}): give Penstock a database or schema of its own"
                ) from error
            raise
    return found, REVISIONS[-1]


def upgrade_sql(dialect: str) -> None:
    """Print what `upgrade` would do to an empty database, for who must hand it to somebody else."""
    from alembic import command  # noqa: PLC0415

    config = _config()
    config.set_main_option("dialect", dialect)
    command.upgrade(config, "head", sql=True)


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
