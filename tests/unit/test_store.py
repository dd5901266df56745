"""The tables: made by migrations, refused where they are another program's; the later row wins, erased rows stay erased."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Engine, StaticPool, create_engine, delete, func, insert, select, text

from penstock import SinkAway
from penstock.errors import SettingsError
from penstock.settings import load_settings
from penstock.sinks.database import DatabaseSink
from penstock.sinks.reading import feeds_of
from penstock.sinks.webhook.options import WebhookOptions
from penstock.sinks.webhook.sink import WebhookSink
from penstock.store.faults import RowRefused, StoreAway, translated
from penstock.store.options import DatabaseOptions
from penstock.store.retention import prune_all
from penstock.store.schema import MIGRATIONS, REVISIONS, VERSION_TABLE, check, connect, revision, upgrade
from penstock.store.tables import costs, costs_by_hour, dead_letters, decisions, erasures, events, metadata, verdicts
from penstock.store.writing import Writer, Writes
from sink_feed import TASK, Feeder, deliveries

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=DATABASES)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    """An empty database."""
    if request.param == "sqlite":
        return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}", connect_timeout_seconds=0.5)
    return DatabaseOptions(url=request.getfixturevalue("postgres").make())


@pytest.fixture
def engine(options: DatabaseOptions) -> Iterator[Engine]:
    made = connect(options)
    yield made
    made.dispose()


async def taken(options: DatabaseOptions, *records: Any, first: int = 0) -> list[Any]:
    """Offer these once."""
    sink = DatabaseSink(options, feeds_of([TASK]))
    await sink.open()
    try:
        return await sink.deliver(deliveries(records, first))
    finally:
        await sink.close()


def rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


# --- the schema -------------------------------------------------------------------------------------------------------


def test_migrations_lead_to_the_tables(engine: Engine) -> None:
    """What the steps make is what the code works with, to the index; a second upgrade changes nothing."""
    assert upgrade(engine) == (None, REVISIONS[-1])
    assert upgrade(engine) == (REVISIONS[-1], REVISIONS[-1])
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        for table in (*metadata.tables.values(), events, costs_by_hour):
            connection.execute(select(table))


def test_the_list_of_revisions_is_that_of_the_scripts() -> None:
    """A new step that nobody told the program about would be refused as a newer one's."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert tuple(reversed([one.revision for one in scripts.walk_revisions()])) == REVISIONS


def test_a_database_of_another_revision_is_refused(options: DatabaseOptions, engine: Engine) -> None:
    """Behind: the command that helps. Newer: left alone, also by the upgrade."""
    if engine.dialect.name == "postgresql":
        with pytest.raises(SettingsError, match="has no tables of Penstock: run `penstock db upgrade`"):
            check(engine, options)
        upgrade(engine)
    check(engine, options)  # SQLite: an empty file becomes ours
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="a newer Penstock wrote it"):
        check(engine, options)
    with pytest.raises(SettingsError, match="newer Penstock"):
        upgrade(engine)
    with engine.connect() as connection:
        assert revision(connection) == "9999"


def test_a_database_of_something_else_is_left_alone(options: DatabaseOptions, engine: Engine) -> None:
    """Its tables are neither taken nor changed."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE verdicts (mine INTEGER)"))
    with pytest.raises(SettingsError, match="no tables of Penstock"):
        check(engine, options)
    with pytest.raises(SettingsError, match="tables of something else"):
        upgrade(engine)
    with engine.connect() as connection:
        assert revision(connection) is None


async def test_a_missing_table_names_the_command(options: DatabaseOptions, engine: Engine) -> None:
    """Dropped by somebody while we work: no weather, a person must act."""
    upgrade(engine)
    sink = DatabaseSink(options, feeds_of([TASK]))
    await sink.open()
    with engine.begin() as connection:
        connection.execute(text("DROP VIEW events"))
        connection.execute(text("DROP VIEW costs_by_hour"))
        connection.execute(text("DROP TABLE verdicts"))
    with pytest.raises(SettingsError, match="penstock db upgrade"):
        await sink.deliver(deliveries([Feeder().result("a")]))
    await sink.close()


# --- what is written --------------------------------------------------------------------------------------------------


async def test_columns_say_what_the_result_says(options: DatabaseOptions, engine: Engine) -> None:
    """Typed columns, the whole output as a document, times with their zone."""
    upgrade(engine)
    feed = Feeder()
    await taken(options, feed.result("e-1", "bad", subject="s-1", key=b"k", echo="so \0 it is"))
    (row,) = rows(engine, verdicts)
    assert (row["task"], row["event_id"], row["subject"], row["label"]) == ("labeler", "e-1", "s-1", "bad")
    assert row["output"] == {"label": "bad", "echo": "so \ufffd it is"}
    assert (row["nanousd"], row["confidence"], row["needs_review"], row["key"]) == (70, "sure", False, b"k")
    assert row["committed_at"] == datetime.fromtimestamp(feed.now_ms / 1000, UTC)


async def test_money_is_counted_once_whatever_becomes_of_the_verdict(options: DatabaseOptions, engine: Engine) -> None:
    """Superseded, redelivered, erased and dead: every ending's cost stands once in the books, and adds up by hour."""
    upgrade(engine)
    feed = Feeder()
    records = [feed.result("a", lane="person"), feed.result("a"), feed.letter("b"), feed.result("c")]
    await taken(options, *records)
    await taken(options, *records)
    await taken(options, *feed.erasure("gone", "c")[:1], first=9)
    assert {row["event_id"] for row in rows(engine, verdicts)} == {"a", "c"} - {"c"} | {"a"}
    assert sum(row["nanousd"] for row in rows(engine, costs)) == 70 * 3 + 50
    hours = rows(engine, costs_by_hour)
    assert round(sum(row["usd"] for row in hours) * 1e9) == 260
    assert sum(row["endings"] for row in hours) == 4
    assert all(row["hour"].minute == 0 for row in hours)


async def test_the_view_of_events_says_how_each_has_ended(options: DatabaseOptions, engine: Engine) -> None:
    """Answered wins over a dead letter that was sent through again; one row per event and task."""
    upgrade(engine)
    feed = Feeder()
    await taken(
        options, feed.letter("a"), feed.letter("b"), feed.letter("b"), feed.result("a"), feed.result("c", lane="person")
    )
    states = sorted((row["event_id"], row["state"]) for row in rows(engine, events))
    assert states == [("a", "answered"), ("b", "dead"), ("c", "provisional")]


async def test_what_a_person_shall_see_is_marked(options: DatabaseOptions, engine: Engine) -> None:
    """Provisional, unsure, or a label that the setting names."""
    upgrade(engine)
    feed = Feeder()
    await taken(
        replace(options, review_labels=("bad",)), feed.result("a", "bad"), feed.result("b"), feed.result("c", lane="x")
    )
    assert {row["event_id"]: row["needs_review"] for row in rows(engine, verdicts)} == {
        "a": True,
        "b": False,
        "c": True,
    }


async def test_a_letter_is_erased_with_its_subject(options: DatabaseOptions, engine: Engine) -> None:
    """The event's bytes stand in it."""
    upgrade(engine)
    feed = Feeder()
    letter, other = feed.letter("a", subject="s"), feed.letter("b", subject="t")
    erase = [record for record in feed.erasure("gone", "s") if record.topic == TASK.dead_letters]
    await taken(options, letter, other)
    await taken(options, *erase, first=2)
    await taken(options, letter)
    assert [row["event_id"] for row in rows(engine, dead_letters)] == ["b"]


async def test_a_topic_made_anew_is_not_held_to_old_erasures(options: DatabaseOptions, engine: Engine) -> None:
    """Its offsets begin again, but its results are committed long after the erasure."""
    upgrade(engine)
    feed = Feeder()
    await taken(options, feed.erasure("gone", "s", offset=1_000)[0])
    late = Feeder(start_ms=feed.now_ms + 7_200_000)
    await taken(options, late.result("a", subject="s", offset=3))
    assert [row["event_id"] for row in rows(engine, verdicts)] == ["a"]


def _row(generation: int, second: int, offset: int) -> dict[str, Any]:
    return {
        "task": "t", "event_id": "e", "result_id": f"{generation}-{second}-{offset}", "subject": "s", "label": None,
        "confidence": "sure", "needs_review": False, "provisional": False, "supersedes": None, "simulated": False,
        "output": {}, "tier": "", "model": "", "prompt": "", "policy": "", "attempts": 1, "nanousd": 0,
        "produced_at": None, "answered_at": None, "committed_at": datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC),
        "generation": generation, "key": None, "source_topic": "x", "source_partition": 0, "source_offset": 0,
        "log_offset": offset,
    }  # fmt: skip


@functools.cache
def _in_memory() -> Engine:
    """One for all examples: to make the tables takes longer than to try them."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    return engine


RANKS = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3))


@settings(max_examples=40)
@given(st.lists(st.lists(RANKS, max_size=4), max_size=5))
def test_the_highest_rank_holds_however_they_arrive(batches: list[list[tuple[int, int, int]]]) -> None:
    """Generation, then commit time, then place: the same row stays whatever the order, the batches and the repeats."""
    engine = _in_memory()
    with engine.begin() as connection:
        connection.execute(delete(verdicts))
    writer = Writer(engine)
    for batch in batches:
        writes = Writes()
        for ranked in batch:
            writes.verdict(_row(*ranked))
        writer.write(writes)
    found = rows(engine, verdicts)
    best = max((ranked for batch in batches for ranked in batch), default=None)
    assert [row["result_id"] for row in found] == ([] if best is None else ["-".join(map(str, best))])


# --- retention, options, faults -----------------------------------------------------------------------------------------


def test_old_rows_go_in_bounded_batches(options: DatabaseOptions, engine: Engine) -> None:
    """Only what is older, only what has a limit; nothing goes when nobody asked for it."""
    upgrade(engine)
    now = datetime.now(UTC)
    made = [_row(0, 0, 0) | {"event_id": str(n), "committed_at": now - timedelta(days=n)} for n in range(25)]
    with engine.begin() as connection:
        connection.execute(insert(verdicts), made)
    assert prune_all(engine, options, lambda: False) == {"erasures": 0}
    kept = replace(options, keep_days=10.5, prune_batch_rows=4)
    assert prune_all(engine, kept, lambda: True) == {}
    assert prune_all(engine, kept, lambda: False)["verdicts"] == 14
    assert {int(row["event_id"]) for row in rows(engine, verdicts)} == set(range(11))
    assert (rows(engine, decisions), rows(engine, erasures)) == ([], [])


@pytest.mark.parametrize("url", ["mysql://x/y", "results.db", "sqlite:", "postgresql://host", ""])
def test_an_address_that_is_none_is_told(url: str) -> None:
    """By the setting's name."""
    with pytest.raises(SettingsError, match=r"sinks\.database\.url"):
        DatabaseOptions(url=url)


def test_a_password_is_never_shown() -> None:
    """Neither where settings are printed nor in messages, wherever it stands."""
    url = "postgresql://penstock:geheim@db/x"
    entries = {e.name: e.value for e in load_settings(assignments=[f"sinks.database.url={url}"]).entries()}
    assert "geheim" not in str(entries)
    assert "geheim" not in DatabaseOptions(url=url).shown
    with pytest.raises(SettingsError) as wrong:
        DatabaseOptions(url="mysql://penstock:geheim@db/x")
    assert "geheim" not in str(wrong.value)


async def test_a_file_that_is_taken_full_or_read_only_is_weather(tmp_path: Path) -> None:
    """SQLite says all of it in one class of errors: nothing is lost by waiting."""
    options = DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}", connect_timeout_seconds=0.1)
    sink = DatabaseSink(options, feeds_of([TASK]))
    await sink.open()
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkAway, match="locked"):
        await sink.deliver(deliveries([Feeder().result("a")]))
    later = DatabaseSink(options, feeds_of([TASK]))
    with pytest.raises(SinkAway, match="locked"):
        await later.open()
    await later.close()
    other.close()
    assert await sink.deliver(deliveries([Feeder().result("a")])) == []
    await sink.close()
    many = [_row(0, 0, 0) | {"event_id": str(n) * 500} for n in range(2000)]
    for words, pragma in (("full", "PRAGMA max_page_count = 20"), ("readonly", "PRAGMA query_only = ON")):
        engine = connect(options)
        with pytest.raises(StoreAway, match=words):
            _fails(engine, pragma, many)
        engine.dispose()


def _fails(engine: Engine, before: str, made: list[dict[str, Any]]) -> None:
    """Write these in a session that was made unfit first."""
    with translated(), engine.begin() as connection:
        connection.execute(text(before))
        if made:
            connection.execute(insert(verdicts), made)


@pytest.mark.slow
def test_postgres_says_what_is_weather_and_what_is_not(postgres: Any) -> None:
    """Read-only and a cut connection are waited out; a wrong database or password needs a person; a bad row is refused."""
    options = DatabaseOptions(url=postgres.make())
    engine = connect(options)
    upgrade(engine)
    with pytest.raises(StoreAway, match="read-only"):
        _fails(engine, "SET TRANSACTION READ ONLY", [_row(0, 0, 0)])
    with pytest.raises(StoreAway):
        _fails(engine, "SELECT pg_terminate_backend(pg_backend_pid())", [])
    with pytest.raises(RowRefused):
        _fails(engine, "SELECT 1", [_row(0, 0, 0) | {"generation": 2**40}])
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(verdicts)).scalar() == 0
        driver: Any = connection.connection.driver_connection
        told = driver.info.get_parameters()  # a cut network says nothing: who asks for no answer would wait for hours
        assert int(told["keepalives_idle"]) <= 30
        assert int(told["tcp_user_timeout"]) <= 60_000
    engine.dispose()
    gone = connect(DatabaseOptions(url=options.url.replace("penstock_", "nowhere_")))
    with pytest.raises(SettingsError, match="there is no such database"), translated(), gone.connect():
        pass
    gone.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["database", "webhook"])
async def test_a_sink_is_closed_though_its_database_says_no_word(postgres: Any, kind: str) -> None:
    """What waits for an answer is cut off and told so; the sink's threads end."""
    options = DatabaseOptions(url=postgres.make(), statement_timeout_seconds=600.0)
    engine = connect(options)
    upgrade(engine)
    engine.dispose()
    endpoint = WebhookOptions(url="https://shop.example/hook", secrets=SecretStr(f"whsec_{'AAAA' * 8}"))
    sink = DatabaseSink(options, []) if kind == "database" else WebhookSink("shop", endpoint, options)
    sink.close_seconds = 0.2
    await sink.open()
    wait_for = sink._run if isinstance(sink, DatabaseSink) else sink._ask
    begun = threading.Event()

    def ask() -> None:
        with translated(), sink._engine.connect() as connection:
            begun.set()
            connection.execute(text("SELECT pg_sleep(600)"))

    asked = asyncio.create_task(wait_for(ask))
    assert await asyncio.to_thread(begun.wait, 30)
    await asyncio.wait_for(sink.close(), 60)
    with pytest.raises(SinkAway):
        await asked
