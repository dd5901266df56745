"""What the console says is so: counts are those of the lists, a question sees one state, what is away is called by its name."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from console_calls import NOW, RICH, letter, looking, put, verdict
from penstock.log.sqlite import SqliteLog
from penstock.store import queries_counts
from penstock.store.options import DatabaseOptions
from penstock.store.queries_counts import What
from penstock.store.reading import StoreReader
from penstock.store.schema import connect
from penstock.store.tables import erasures
from penstock.web.pages.overview import SinkView

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
NOON = datetime(2026, 11, 28, 12, 10, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> DatabaseOptions:
    return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")


@pytest.fixture(params=DATABASES)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    if request.param == "sqlite":
        return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")
    return DatabaseOptions(url=request.getfixturevalue("postgres").make())


def counted(options: DatabaseOptions) -> queries_counts.TaskCounts:
    reader = StoreReader(options, seconds=30.0, connections=1)
    try:
        (found,) = reader.ask(lambda connection: queries_counts.counts(connection, ["rich"], NOON, 24))
    finally:
        reader.close()
    return found


async def test_an_event_is_counted_once(either):
    """As the view `events` has it: what a sink refused has its verdict, what was sent through again its last ending."""
    hours = [NOON - timedelta(hours=back) for back in range(6)]
    await put(
        either,
        *(verdict(name, hours[1]) for name in ("fine", "refused", "redriven")),
        letter("l-refused", hours[1], event_id="refused", stage="deliver", reason="row_refused"),
        letter("l-redriven", hours[3], event_id="redriven"),
        letter("l-twice-1", hours[4], event_id="twice", reason="expired"),
        letter("l-twice-2", hours[2], event_id="twice"),
        letter("l-dead", hours[5], event_id="dead"),
    )
    found = counted(either)
    assert found.day() == Counter({What("yes"): 3, What(None, "answer", "refused"): 2})
    assert found.undelivered == 1


async def test_a_day_is_24_hours(either):
    """To the second, as its lists have it: what lies before is not counted, in whichever hour of the clock."""
    ages = (1, 10, 30, 23 * 60 + 50, 24 * 60 - 1, 24 * 60 + 1, 24 * 60 + 9)
    await put(either, *(verdict(f"e{age}", NOON - timedelta(minutes=age), needs_review=True) for age in ages))
    found = counted(either)
    assert (found.day().total(), found.for_review, found.last_hour.total()) == (5, 5, 3)
    assert list(found.hours)[:: len(found.hours) - 1] == [
        datetime(2026, 11, 27, 12, tzinfo=UTC),
        datetime(2026, 11, 28, 12, tzinfo=UTC),
    ]


async def test_what_was_not_delivered_has_a_number_of_its_own(tmp_path, database):
    """Beside those that died; and a class that no filter names leads nowhere."""
    refused = letter("l-1", event_id="e-1", stage="deliver", reason="row_refused")
    await put(database, verdict("e-1"), refused, verdict("e-2", label=None))
    async with looking(tmp_path, database, tasks=[RICH]) as reader:
        page = await reader.get("/console/")
        (section,) = page.tree.all("section", cls="task")
        facts = {one.all("dt")[0].text: one.all("dd")[0] for one in section.all("div") if one.all("dt")}
        (link,) = facts["not delivered, 24 h"].all("a")
        listed = await reader.get(link.attrs["href"])
    rows = {row.all("td")[0].text: len(row.all("a")) for row in section.all("tr", data_row="")}
    assert {name: facts[name].text for name in ("24 hours", "died, 24 h", "not delivered, 24 h")} == {
        "24 hours": "2", "died, 24 h": "0", "not delivered, 24 h": "1",
    }  # fmt: skip
    assert (rows, listed.text.count("not delivered")) == ({"yes": 1, "no label": 0}, 1)


async def test_a_question_sees_one_state(either):
    """What is written between two statements of it is not there for it."""
    await put(either, verdict("e-1"))
    reader = StoreReader(either, seconds=30.0, connections=1)
    writer = connect(either)
    count = text("SELECT count(*) FROM verdicts")

    def question(connection: Any) -> list[int]:
        before = connection.execute(count).scalar_one()
        with writer.begin() as other:
            other.execute(text("DELETE FROM verdicts"))
        return [before, connection.execute(count).scalar_one()]

    try:
        assert await asyncio.to_thread(reader.ask, question) == [1, 1]
        assert reader.ask(lambda connection: connection.execute(count).scalar_one()) == 0
    finally:
        reader.close()
        writer.dispose()


async def test_another_topics_erasure_erases_nothing_here(tmp_path, database):
    """Ids are unique in a topic only: a deletion of the other topic's event of the same name leaves this one shown."""
    await put(database, verdict("e-1"), verdict("e-1", task="elsewhere", source_topic="others", subject="someone"))
    engine = connect(database)
    with engine.begin() as connection:
        row = {"task": "elsewhere", "scope": "subject", "name": b"someone", "source_topic": "others"}
        connection.execute(insert(erasures), [row | {"source_partition": 0, "source_offset": 9, "committed_at": NOW}])
    engine.dispose()
    async with looking(tmp_path, database) as reader:
        here = await reader.get("/console/event?event_id=e-1&task=rich")
        there = await reader.get("/console/event?event_id=e-1&task=elsewhere")
    assert ("erased" in here.text, "erased" in there.text) == (False, True)


async def test_a_ledger_that_is_away_is_called_so(tmp_path, database):
    """The page of an event that only the gateway could know: not the database, not a fault of ours."""
    await put(database)
    async with looking(tmp_path, database) as reader:
        broken = sqlite3.connect(tmp_path / "ledger.db")
        broken.execute("ALTER TABLE claims RENAME TO gone")
        broken.commit()
        broken.close()
        page = await reader.get("/console/event?event_id=e-1&task=rich")
    assert (page.status, "gateway.ledger_file" in page.text, "no such table" in page.text) == (503, True, True)


async def test_a_log_that_never_answers_does_not_hold_the_end(tmp_path, database, caplog):
    """The console's last questions have their time; then the gateway goes all the same, and says so."""

    class Never(SqliteLog):
        async def read(self, partition, offset, max_records):
            if partition.topic == "notes":
                await asyncio.Event().wait()
            return await super().read(partition, offset, max_records)

    await put(database, verdict("e-1"))
    with caplog.at_level(logging.WARNING, "penstock.console"):
        async with asyncio.timeout(60):
            log = Never(tmp_path / "never.db")
            async with looking(tmp_path, database, log=log, log_seconds=0.05, drain_seconds=0.2) as reader:
                page = await reader.get("/console/event?event_id=e-1&task=rich")
    assert (page.status, "did not end within 0.2 s" in caplog.text) == (200, True)


def test_a_sink_that_nobody_works_on_is_not_well() -> None:
    """Idle where nothing waits for it, a warning where something does."""
    assert [SinkView("sink.x", lag=lag).mood for lag in (0, 3)] == ["idle", "warn"]
    assert SinkView("sink.x", workers=1).mood == "good"
