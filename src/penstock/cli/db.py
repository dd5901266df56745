"""`penstock db`: the tables of the database that results are written to.

terminal → [db] → store
"""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.command import Invocation, command
from penstock.cli.console import emit, line, tell

app = typer.Typer(help="The database of results: make its tables, or bring them up to date.", no_args_is_help=True)


@app.command("upgrade")
@command
def upgrade(
    invocation: Invocation,
    *,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL for an empty database, and change nothing.")
    ] = False,
) -> None:
    """Make the tables, or bring them up to date: one transaction, harmless to repeat."""
    from penstock.store.schema import connect, upgrade_sql
    from penstock.store.schema import upgrade as bring_up

    options = invocation.settings.sinks.database
    if as_sql:
        upgrade_sql(options.address().get_backend_name())
        return
    engine = connect(options)
    try:
        before, now = bring_up(engine)
    finally:
        engine.dispose()
    if not invocation.is_quiet:
        tell(f"{options.shown} is at revision {now}" + (", as before" if before == now else ""))


@app.command("status")
@command
def status(
    invocation: Invocation, *, as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False
) -> None:
    """Say which revision the tables are at, and which this program works with."""
    from penstock.store.faults import translated
    from penstock.store.schema import REVISIONS, connect, revision

    options = invocation.settings.sinks.database
    engine = connect(options, is_reader=True)
    try:
        with translated(), engine.connect() as connection:
            found = revision(connection)
    finally:
        engine.dispose()
    if as_json:
        emit({"database": options.shown, "revision": found, "program": REVISIONS[-1]})
    else:
        line(f"{options.shown}: revision {found or 'none'}, this program works with {REVISIONS[-1]}")
