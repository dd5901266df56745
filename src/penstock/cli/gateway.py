"""`penstock gateway`: the API keys of the gateway.

terminal → [gateway] → web/keys
"""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.command import Invocation, command
from penstock.cli.console import emit, line, out, table, tell

app = typer.Typer(help="Keys of the gateway.", no_args_is_help=True)


@app.command("key")
@command
def key(
    invocation: Invocation,
    *,
    name: Annotated[str, typer.Option("--name", help="Whose it is; a second key of one name is the same client.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="events:write, events:read or console:read. Repeatable; the first two unless given."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option("--days", help="It ends after so many days.", min=0.001)] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Events per second at most.", min=0.001)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from penstock.web.keys import SCOPES, add_key, new_key

    made, shown = new_key(name, scopes or SCOPES, days=days, events_per_second=rate)
    file = invocation.settings.gateway.keys_file
    add_key(file, made)
    if as_json:
        emit({"id": made.id, "name": made.name, "key": shown, "scopes": sorted(made.scopes)})
        return
    line(shown)
    if not invocation.is_quiet:
        tell(f"key {made.id} of {made.name} is in {file}, hashed; it is not shown again")


@app.command("keys")
@command
def keys(
    invocation: Invocation, *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object per key.")] = False
) -> None:
    """List the keys. To take one back, delete its block in the file: running gateways see it within a second."""
    from penstock.web.keys import read_keys

    found = read_keys(invocation.settings.gateway.keys_file)
    rows = [
        {
            "id": one.id,
            "name": one.name,
            "scopes": sorted(one.scopes),
            "expires": one.expires.isoformat() if one.expires else None,
            "events_per_second": one.events_per_second,
        }
        for one in found
    ]
    if as_json:
        for row in rows:
            emit(row)
        return
    shown = table("id", "name", "scopes", "expires", "events/s")
    for one in found:
        expires = one.expires.isoformat() if one.expires else "never"
        rate = f"{one.events_per_second:g}" if one.events_per_second else "-"
        shown.add_row(one.id, one.name, " ".join(sorted(one.scopes)), expires, rate)
    out().print(shown)
