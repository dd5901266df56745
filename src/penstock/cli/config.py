"""`penstock config`: which settings are in force, and who says so.

terminal → [config] → settings
"""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.command import Invocation, command
from penstock.cli.console import emit_page, line, out, table, tell

app = typer.Typer(help="Which settings are in force, and where each comes from.", no_args_is_help=True)


@app.command("show")
@command
def show(
    invocation: Invocation,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object: name to value and origin.")] = False,
    only_changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
) -> None:
    """Print every setting with its value and origin. Secrets are masked."""
    entries = [e for e in invocation.loaded.entries() if not only_changed or e.origin != "default"]
    if as_json:
        emit_page({e.name: {"value": e.value, "origin": e.origin, "env": e.env} for e in entries})
        return
    shown = table("setting", "value", "origin")
    for entry in entries:
        style = "" if entry.origin == "default" else "bold"
        shown.add_row(entry.name, _plain(entry.value), entry.origin, style=style)
    out().print(shown)
    if not invocation.is_quiet:
        tell("Change one in penstock.toml, by environment (PENSTOCK_…, `__` for each dot) or by -X NAME=VALUE.")


def _plain(value: object) -> str:
    from rich.markup import escape

    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case {}:
            return "{}"
    return escape(str(value))


@app.command("reference", hidden=True)
@command
def reference(_: Invocation) -> None:
    """Print docs/reference/settings.md: every setting, its default and what it does."""
    from penstock.cli.reference import settings_page

    line(settings_page().rstrip("\n"))
