"""What every sink promises: again changes nothing, the final replaces the provisional, an erasure erases, weather is waited out.

A sink joins the suite with a `Bench`: how it is made, and what can be seen of its effect from outside.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from sqlalchemy import create_engine, select

from penstock import Sink
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord
from penstock.sinks.database import DatabaseSink
from penstock.sinks.delivery import DeliveryLoop
from penstock.sinks.reading import feeds_of
from penstock.sinks.webhook.sink import WebhookSink
from penstock.store.options import DatabaseOptions
from penstock.store.schema import connect, upgrade
from penstock.store.tables import verdicts
from sink_feed import QUICK, TASK, Feeder, deliveries, delivering, letters_in, made_topics, until
from webhook_receiver import Receiver

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Bench:
    """One sink on the bench."""

    make: Callable[[], Sink]
    """A new object on the same target, as another process would make it."""
    seen: Callable[[], Mapping[str, Any]]
    """The label that holds of each event id, as the world sees it."""
    go_away: Callable[[], None]
    come_back: Callable[[], None]
    refusable: NewRecord | None
    """A result that this sink will never take; None where it takes everything."""


def _database(url: str, go_away: Callable[[], None], come_back: Callable[[], None]) -> Bench:
    options = DatabaseOptions(url=url, connect_timeout_seconds=0.5)

    def seen() -> dict[str, Any]:
        engine = create_engine(options.address())
        try:
            with engine.connect() as connection:
                found = connection.execute(select(verdicts.c.event_id, verdicts.c.label))
                return {row.event_id: row.label for row in found}
        finally:
            engine.dispose()

    refusable = None
    if url.startswith("postgresql"):  # the longest that its indexes take are some 2,700 bytes that can't be packed
        refusable = Feeder().result(os.urandom(4000).hex())
    return Bench(lambda: DatabaseSink(options, feeds_of([TASK])), seen, go_away, come_back, refusable)


def _sqlite(tmp_path: Path) -> Bench:
    file = tmp_path / "store.db"
    options = DatabaseOptions(url=f"sqlite:{file}")
    engine = connect(options)
    upgrade(engine)
    engine.dispose()
    other: list[sqlite3.Connection] = []

    def go_away() -> None:
        """Another program has the file for itself."""
        other.append(sqlite3.connect(file, isolation_level=None))
        other[0].execute("BEGIN EXCLUSIVE")

    def come_back() -> None:
        other.pop().close()

    return _database(f"sqlite:{file}", go_away, come_back)


def _files(tmp_path: Path) -> Bench:
    spec = importlib.util.spec_from_file_location("file_sink", EXAMPLES / "file_sink.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "bucket"
    folder.mkdir()

    def seen() -> dict[str, Any]:
        kept = {unquote(file.stem): json.loads(file.read_text()) for file in folder.glob("*/*.json")}
        return {event_id: one["output"]["label"] for event_id, one in kept.items() if "output" in one}

    def go_away() -> None:
        folder.rename(tmp_path / "away")

    def come_back() -> None:
        (tmp_path / "away").rename(folder)

    return Bench(lambda: module.FileSink(folder), seen, go_away, come_back, Feeder().result("e/" + "x" * 5000))


def _webhook(tmp_path: Path, receiver: Receiver) -> Bench:
    database = DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")
    refusable = Feeder().result("e" * 30_000)
    return Bench(
        lambda: WebhookSink("shop", receiver.options(), database),
        receiver.labels,
        receiver.stop,
        receiver.start,
        refusable,
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


SINKS = ["sqlite", "files", "webhook", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=SINKS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Slack keeps nothing that could be read back: its laws stand in `tests/unit/test_slack_sink.py`."""
    if request.param == "sqlite":
        return _sqlite(tmp_path)
    if request.param == "webhook":
        return _webhook(tmp_path, request.getfixturevalue("receiver"))
    if request.param == "files":
        return _files(tmp_path)
    server = request.getfixturevalue("postgres")
    url = server.make()
    engine = connect(DatabaseOptions(url=url))
    upgrade(engine)
    engine.dispose()
    return _database(url, server.stop, server.start)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    options = SqliteOptions(heartbeat_seconds=0.1, session_timeout_seconds=2.0, synchronous="normal")
    made = SqliteLog(tmp_path / "log.db", options=options)
    await made_topics(made)
    yield made
    await made.close()


async def taken(sink: Sink, records: list[NewRecord], first: int = 0) -> Any:
    """Offer it these once, as one batch."""
    await sink.open()
    try:
        return list(await sink.deliver(deliveries(records, first)) or ())
    finally:
        await sink.close()


async def test_a_batch_that_comes_again_changes_nothing(bench: Bench) -> None:
    """At least once with an effect of once: the same batch, and the older half of it, after the newer one."""
    feed = Feeder()
    records = [feed.result("a"), feed.result("b", "bad"), feed.result("a", "bad")]
    assert await taken(bench.make(), records) == []
    whole = dict(bench.seen())
    assert whole == {"a": "bad", "b": "bad"}
    for again in (records, records[:1], records[:2]):
        assert await taken(bench.make(), again) == []
        assert dict(bench.seen()) == whole


async def test_the_final_result_replaces_the_provisional_one(bench: Bench) -> None:
    """In one batch and in two, and a provisional one that comes again does not come back."""
    feed = Feeder()
    first, final = feed.result("a", "bad", lane="person"), feed.result("a", "good")
    await taken(bench.make(), [first])
    assert bench.seen() == {"a": "bad"}
    await taken(bench.make(), [final], first=1)
    assert bench.seen() == {"a": "good"}
    await taken(bench.make(), [first])
    assert bench.seen() == {"a": "good"}


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_an_erasure_erases_and_stays(bench: Bench, in_one_batch: bool) -> None:
    """What stands before it goes, also when it is delivered again afterwards; what comes later stays."""
    feed = Feeder()
    old, other = feed.result("a", subject="s", key=b"k"), feed.result("b", subject="t", key=b"k")
    erase = next(record for record in feed.erasure("gone", "s", key=b"k") if record.topic == TASK.writes)
    new = feed.result("c", subject="s", key=b"k")
    if in_one_batch:
        await taken(bench.make(), [old, other, erase])
    else:
        for at, record in enumerate((old, other, erase)):
            await taken(bench.make(), [record], first=at)
    assert set(bench.seen()) == {"b"}
    await taken(bench.make(), [old, other])
    assert set(bench.seen()) == {"b"}
    await taken(bench.make(), [new], first=3)
    assert set(bench.seen()) == {"b", "c"}


async def test_an_erasure_of_a_key_erases_all_that_has_it(bench: Bench) -> None:
    """A tombstone in the input means every subject under its key."""
    feed = Feeder()
    records = [feed.result("a", key=b"k"), feed.result("b", key=b"k"), feed.result("c", key=b"other")]
    erase = next(record for record in feed.erasure("gone", None, key=b"k") if record.topic == TASK.writes)
    await taken(bench.make(), [*records, erase])
    assert set(bench.seen()) == {"c"}


async def test_weather_holds_and_nothing_is_lost(bench: Bench, log: SqliteLog) -> None:
    """While the target is away the loop waits, makes no dead letter and commits nothing; then all of it arrives."""
    feed = Feeder()
    async with delivering(bench.make(), log) as loop:
        await log.append([feed.result("a")])
        await until(lambda: loop.counts.delivered["result"] == 1, "the first result is delivered")
        bench.go_away()
        try:
            await log.append([feed.result("b"), feed.result("a", "bad")])
            await until(lambda: loop.trouble.why, "the sink says that it is away")
            assert not loop.counts.refused
        finally:
            bench.come_back()
        await until(lambda: loop.counts.delivered["result"] == 3, "all results are delivered")
    assert bench.seen() == {"a": "bad", "b": "good"}
    assert await letters_in(log) == []


async def test_what_is_refused_becomes_a_letter(bench: Bench, log: SqliteLog) -> None:
    """`stage=deliver`, with the result byte for byte; its neighbours are delivered."""
    if bench.refusable is None:
        pytest.skip("this sink takes everything")
    feed = Feeder()
    async with delivering(bench.make(), log) as loop:
        await log.append([feed.result("a"), bench.refusable, feed.result("b")])
        await until(lambda: loop.counts.letters == 1, "the dead letter is written")
        await until(lambda: loop.counts.delivered["result"] == 2, "the neighbours are delivered")
    assert set(bench.seen()) == {"a", "b"}
    (letter,) = await letters_in(log)
    assert letter.value == bench.refusable.value


async def test_simulated_results_are_refused(bench: Bench, log: SqliteLog) -> None:
    """Nobody judged: they do not reach the world, and are counted. In a demo they do."""
    feed = Feeder()
    await log.append([feed.result("a", simulated=True), feed.result("b")])
    async with delivering(bench.make(), log) as loop:
        await until(lambda: loop.counts.delivered["result"] == 1, "the real one is delivered")
        assert loop.counts.refused == {"simulated": 1}
    assert set(bench.seen()) == {"b"}
    demo = replace(QUICK, simulated="deliver", group_prefix="demo.")
    async with delivering(bench.make(), log, demo) as loop:
        await until(lambda: loop.counts.delivered["result"] == 2, "both are delivered")
    assert set(bench.seen()) == {"a", "b"}
    assert isinstance(loop, DeliveryLoop)
