"""With 200,000 rows no page of the console reads a whole table: by the database's own plan of every question that a page asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from penstock.store import queries, queries_counts, queries_event
from penstock.store.options import DatabaseOptions
from penstock.store.places import Cursor
from penstock.store.schema import connect, upgrade

pytestmark = pytest.mark.slow
ROWS = 200_000
NOW = datetime.now(UTC)
TASKS = ["t0", "t1", "t2"]
TABLES = "verdicts|dead_letters|costs|erasures|decisions|webhook_attempts"
# SQLite names a whole walk through a table or an index SCAN, a directed one SEARCH. A walk in the order of an index that ends
# at a LIMIT is what a list is; tables that are small by their nature (webhook_endpoints, the outbox) do not count.
NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})",
    "postgresql": "WITH n AS (SELECT generate_series(1, {rows}) AS i)",
}
WHEN = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || (i * 3) || ' seconds')",
    "postgresql": "now() - make_interval(secs => i * 3)",
}


def fill(engine: Engine) -> None:
    name = engine.dialect.name
    truth = {"sqlite": ("0", "1"), "postgresql": ("false", "true")}[name]
    numbers, when = NUMBERS[name], WHEN[name]
    key = "CAST('k' || (i % 5000) AS blob)" if name == "sqlite" else "convert_to('k' || (i % 5000), 'UTF8')"
    output = "'{\"decision\": \"' || (CASE i % 7 WHEN 0 THEN 'no' ELSE 'yes' END) || '\", \"colour\": \"' || (CASE i % 40000 WHEN 0 THEN 'blue' ELSE 'red' END) || '\", \"why\": \"because ' || i || '\"}'"
    cast = "" if name == "sqlite" else "::jsonb"
    with engine.begin() as connection:
        connection.execute(text(
            f"{numbers.format(rows=ROWS)} INSERT INTO verdicts SELECT 't' || (i % 3), 'e' || i, 'r' || i, 's' || (i % 60000), "
            f"CASE i % 7 WHEN 0 THEN 'no' ELSE 'yes' END, 'sure', {truth[0]}, {truth[0]}, NULL, {truth[0]}, ({output}){cast}, 'haiku', 'm', 'p', '', 1, 7, "
            f"{when}, {when}, {when}, 0, {key}, 'notes', 0, i, i FROM n"
        ))  # fmt: skip
        connection.execute(text(
            f"{numbers.format(rows=ROWS // 10)} INSERT INTO dead_letters SELECT 'd' || i, 't' || (i % 3), 'x' || i, 's' || i, 'answer', 'reason' || (i % 5), "
            f"'detail', 1, 1, {when}, {when}, {when}, {truth[0]}, {key}, {key}, 'notes', 0, i, 'dlq', 0, i FROM n"
        ))  # fmt: skip
        connection.execute(text(
            f"{numbers.format(rows=ROWS)} INSERT INTO costs SELECT 'r' || i, 't' || (i % 3), 'result', 'm', 'haiku', {truth[0]}, {when}, 7, 1, 1, 1, 1 FROM n"
        ))  # fmt: skip
        connection.execute(text(
            f"{numbers.format(rows=ROWS // 10)} INSERT INTO erasures SELECT 't' || (i % 3), 'subject', {key.replace('5000', '100000')}, 'notes', 0, i, {when} FROM n"
        ))  # fmt: skip
        connection.execute(text(
            f"{numbers.format(rows=ROWS // 10)} INSERT INTO webhook_attempts SELECT 'a' || i, 'shop' || (i % 3), 'm' || i, 't', 1, {when}, 'taken', 200, 0.1, '', 'r', 0, i FROM n"
        ))  # fmt: skip
        connection.execute(text(
            f"{numbers.format(rows=ROWS // 10)} INSERT INTO decisions SELECT 'd' || i, 't1', 'e' || i, 's', 'r', 'anna', {when}, NULL, NULL, NULL, '' FROM n"
        ))  # fmt: skip
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
            "ANALYZE" if name == "sqlite" else "VACUUM ANALYZE"
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = f"sqlite:{tmp_path / 'store.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres").make()
    made = connect(DatabaseOptions(url=url), is_reader=True)
    upgrade(made)
    fill(made)
    yield made
    made.dispose()


def wanted(**given: Any) -> Callable[[Connection], Any]:
    return lambda connection: queries.rows(connection, queries.Wanted(**given), 50)


OLD = Cursor(NOW - timedelta(days=3), "verdict", "t1", "e5")
QUESTIONS: dict[str, Callable[[Connection], Any]] = {
    "overview": lambda c: queries_counts.counts(c, queries_counts.tasks(c), NOW, 24),
    "endpoints": lambda c: queries_counts.endpoints(c, ["shop"]),
    "dead letters": lambda c: queries_counts.kinds(c, TASKS, NOW),
    "newest": wanted(),
    "older": lambda c: queries.rows(c, queries.Wanted(), 50, OLD),
    "older of a task": lambda c: queries.rows(c, queries.Wanted(tasks=["t1"]), 50, OLD),
    "of a task": wanted(tasks=["t1"]),
    "by label": wanted(tasks=["t1"], fields=[queries.FieldIs("decision", "no", is_label=True)]),
    "by field": wanted(tasks=["t1"], fields=[queries.FieldIs("colour", "blue")]),
    "by words": wanted(words="because 77"),
    "by confidence": wanted(confidence="unsure"),
    "for a person": wanted(tasks=["t1"], needs_review=True, kind="verdict"),
    "by time": wanted(since=NOW - timedelta(days=2), until=NOW - timedelta(days=1)),
    "of a kind": wanted(tasks=["t1"], stage="answer", reason="reason3", kind="letter"),
    "by name": lambda c: queries.named(c, "s77", queries.Wanted(), TASKS, 50, OLD),
    "new": lambda c: queries.newer(c, queries.Wanted(), Cursor(NOW, "verdict", "", ""), 200),
    "one event": lambda c: queries_event.event(c, "e4711", TASKS),
    "an erased event": lambda c: queries_event.event(c, "k77", TASKS),
    "one letter": lambda c: (row := queries_event.letter(c, "d77")) and queries_event.erasures_of(c, row),
}


def plans(engine: Engine, question: Callable[[Connection], Any]) -> list[tuple[str, str]]:
    """Every statement that it asks, with the database's plan."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with engine.connect() as connection, connection.begin():
        question(connection)
    event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    found = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            if statement.lstrip().startswith(("SELECT", "WITH")):
                rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
                found.append((statement, "\n".join(str(row[-1]) for row in rows)))
    return found


def reads_it_all(plan: str, statement: str) -> list[str]:
    """Lines of a plan that walk through a whole table; in the order of an index up to a limit is no such walk."""
    has_limit = "LIMIT" in statement
    found = []
    for line in plan.splitlines():
        whole = re.search(rf"Seq Scan on ({TABLES})\b", line) or re.match(rf"SCAN ({TABLES})\b", line.strip())
        in_order = re.match(rf"SCAN ({TABLES}) USING (COVERING )?INDEX", line.strip()) and has_limit
        if whole and not in_order:
            found.append(line.strip())
    return found


def test_no_page_reads_a_whole_table(engine: Engine) -> None:
    """The lists, the counts, one event, one letter: an index leads to the rows, or a walk in its order ends at a limit."""
    told = [
        f"{name}: {line}\n    {statement[:300]}"
        for name, question in QUESTIONS.items()
        for statement, plan in plans(engine, question)
        for line in reads_it_all(plan, statement)
    ]
    assert told == []


def test_the_plans_are_those_of_many_rows(engine: Engine) -> None:
    """The rule above can fail: a question without an index does read it all."""
    for statement, plan in plans(engine, lambda c: c.execute(text("SELECT count(*) FROM verdicts WHERE model = 'x'"))):
        assert reads_it_all(plan, statement), plan
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM verdicts")).scalar() == ROWS
