"""`penstock deliver`, `redeliver` and `db`, as a person types them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_calls import Cli, cli_in
from penstock.cli.deliver import moment_of
from penstock.errors import SettingsError

MODULE = """
from pydantic import BaseModel
from penstock import Sink, Task
class Note(BaseModel):
    text: str
class Label(BaseModel):
    good: bool
labeler = Task("labeler", reads="notes", writes="labels", dead_letters="labels-dlq", input=Note, output=Label, instructions="x")
class Shelf(Sink):
    name = "shelf"
    async def deliver(self, batch): pass
shelf = Shelf()
nothing = 1
"""


def test_times_are_read_as_people_write_them() -> None:
    """How long ago, or a moment with or without a zone."""
    assert moment_of("90m", 10_000.0) == 4_600_000
    assert moment_of("2d", 200_000.0) == 27_200_000
    assert moment_of("2026-11-03T14:00", 0) == moment_of("2026-11-03T15:00+01:00", 0) == 1_793_714_400_000
    with pytest.raises(SettingsError, match="yesterday"):
        moment_of("yesterday", 0)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    with cli_in(tmp_path) as made:
        made.write("labels.py", MODULE)
        made.done("topics", "create", "--task", "labels:labeler", "--quiet")
        yield made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deliver"], "deliver to what?"),
        (["deliver", "database"], "whose results?"),
        (["deliver", "pigeon", "--task", "labels:labeler"], "there is no sink 'pigeon'"),
        (["deliver", "labels:nothing", "--task", "labels:labeler"], "is no sink"),
        (["deliver", "database", "--pause", "--resume"], "one of them"),
        (["deliver", "labels:shelf", "labels:Shelf", "--task", "labels:labeler"], "two of these sinks have the name"),
        (["redeliver", "database", "--from", "soon"], "--from soon"),
        (["db", "upgrade", "-X", "sinks.database.url=oracle:x"], "sinks.database.url"),
    ],
)
def test_mistakes_are_told(cli: Cli, arguments: list[str], said: str) -> None:
    """With what to write instead, and exit code 2."""
    assert said in cli.refused(*arguments)


def test_orders_end_up_in_the_log(cli: Cli) -> None:
    """Pause, resume and redeliver are records of the state topic, under the sink's own name."""
    cli.done("deliver", "labels:shelf", "--pause")
    cli.done("deliver", "labels:shelf", "--resume")
    cli.done("redeliver", "labels:shelf", "--from", "2h")
    found = cli.lines("tail", "penstock-state", "--from", "earliest", "--json")
    orders = [one["key"] for one in found]
    assert len(orders) == 3
    assert all("sink.shelf" in str(key) for key in orders)


def test_results_reach_the_database_and_a_sink_of_ones_own(cli: Cli) -> None:
    """As a user would do it, all in one process; the tables of an empty SQLite file are made by themselves."""
    cli.done("deliver", "database", "labels:shelf", "--task", "labels:labeler", "--until-idle", "--quiet")
    with sqlite3.connect(cli.directory / "penstock-store.db") as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (0,)
    database.close()
    assert cli.page("db", "status", "--json")["revision"] == cli.page("db", "status", "--json")["program"]
    assert "as before" in cli("db", "upgrade").stderr
    assert "CREATE TABLE verdicts" in cli.done("db", "upgrade", "--sql")
