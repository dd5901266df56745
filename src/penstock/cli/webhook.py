"""`penstock webhook`: endpoints, what was tried, what waits; a secret, a test message, a receiver to look at.

terminal → [webhook] → outbox, post
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.console import emit, line, out, table, tell
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.sinks.webhook.options import WebhookOptions
    from penstock.sinks.webhook.post import Reply
    from penstock.store.outbox import Outbox, Waiting

app = typer.Typer(help="Results to URLs: endpoints, attempts, what waits.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint, as in [sinks.webhooks.NAME].")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


@app.command("list")
@command
def show(invocation: Invocation, *, as_json: _Json = False) -> None:
    """List the endpoints: where they go, whether they are enabled, how many messages wait."""
    rows: list[dict[str, Any]] = []
    for name, options in invocation.settings.sinks.webhooks.items():
        with _outbox(invocation.settings, name) as outbox:
            disabled, (waiting, oldest) = outbox.disabled(), outbox.standing()
        row: dict[str, Any] = {
            "name": name,
            "goes_to": options.target(name).shown,
            "sink": f"webhook.{name}",
            "waiting": waiting,
        }
        row |= {"oldest": oldest, "disabled_at": disabled and disabled[0], "why": disabled[1] if disabled else ""}
        rows.append(row)
    if as_json:
        for row in rows:
            emit(row)
        return
    if not rows:
        tell("there is no webhook yet: add [sinks.webhooks.NAME] with url and secrets")
        return
    shown = table("endpoint", "goes to", "state", "waiting", "oldest")
    for row in rows:
        state = f"disabled since {_moment(row['disabled_at'])}: {row['why']}" if row["disabled_at"] else "enabled"
        shown.add_row(row["name"], row["goes_to"], state, f"{row['waiting']:,}", _moment(row["oldest"]))
    out().print(shown)


@app.command("log")
@command
def log(
    invocation: Invocation,
    name: _Name,
    message_id: Annotated[str | None, typer.Argument(metavar="[MESSAGE]", help="Only this one's attempts.")] = None,
    *,
    most: Annotated[int, typer.Option("--most", help="How many, the newest first.", min=1)] = 50,
    as_json: _Json = False,
) -> None:
    """Show what was tried: when, what was answered, how long it took."""
    _options(invocation.settings, name)
    with _outbox(invocation.settings, name) as outbox:
        found = outbox.attempts(most, message_id)
    if as_json:
        for row in found:
            emit({column: value for column, value in row.items() if column != "id"})
        return
    shown = table("at", "message", "type", "attempt", "answer", "seconds", "detail")
    for row in found:
        answer = f"{row['verdict']} {row['status'] or ''}".strip()
        told = (row["message_id"], row["type"], str(row["attempt"]), answer, f"{row['seconds']:.2f}", row["detail"])
        shown.add_row(_moment(row["at"]), *told)
    out().print(shown)


@app.command("enable")
@command
def enable(invocation: Invocation, name: _Name) -> None:
    """Let an endpoint be posted to again after its receiver said 410; start `penstock deliver` anew."""
    _options(invocation.settings, name)
    with _outbox(invocation.settings, name) as outbox:
        was = outbox.disabled()
        if was is not None:
            outbox.enable()
    told = "is enabled: a running `penstock deliver` that stopped because of it must be started again"
    tell(f"webhook {name} {told if was is not None else 'was enabled already'}")


@app.command("resend")
@command
def resend(
    invocation: Invocation,
    name: _Name,
    message_id: Annotated[
        str | None,
        typer.Argument(metavar="[MESSAGE]", help="One message, delivered or not; all that wait unless given."),
    ] = None,
) -> None:
    """Try again now, whatever the schedule says. `penstock redeliver webhook.NAME --from TIME` repeats a whole time."""
    options = _options(invocation.settings, name)
    with _outbox(invocation.settings, name) as outbox:
        count = outbox.hurry(message_id)
        if not count and message_id is not None:
            outbox.put([_from_log(invocation, outbox, message_id)], options.max_waiting)
            count = 1
    tell(f"{count:,} of webhook.{name} due now: at once where it runs, else when it starts")


@app.command("secret")
@command
def secret(invocation: Invocation) -> None:  # noqa: ARG001 - every command takes the shared options
    """Print a new secret: 32 random bytes, as the standard writes them."""
    from penstock.sinks.webhook.signing import new_secret

    line(new_secret())


@app.command("test")
@command
def test(invocation: Invocation, name: _Name) -> None:
    """Post a signed message that says nothing (penstock.ping.v1), and print what is answered."""
    reply = run_async(_ping(_options(invocation.settings, name), name))
    if reply.verdict != "delivered":
        tell(f"{name}: {reply.detail} ({reply.seconds:.2f} s)")
        raise typer.Exit(1)
    line(f"{name}: took it ({reply.status}, {reply.seconds:.2f} s)")


@app.command("listen")
@command
def listen(
    invocation: Invocation,
    name: _Name,
    *,
    port: Annotated[int, typer.Option("--port", help="On 127.0.0.1.", min=0, max=65535)] = 9292,
    status: Annotated[int, typer.Option("--status", help="What is answered.", min=200, max=599)] = 204,
    count: Annotated[int | None, typer.Option("--count", help="End after so many messages.", min=1)] = None,
) -> None:
    """Receive what is posted to this machine, verify it with the endpoint's secrets, and print it as JSON lines."""
    from penstock.cli.webhook_listen import Listener

    listener = Listener(_options(invocation.settings, name).plain_secrets(), status, count)
    run_async(listener.run(port, invocation))


async def _ping(options: WebhookOptions, name: str) -> Reply:
    from penstock.sinks.webhook.courier import Courier
    from penstock.sinks.webhook.post import Post

    post = Post(options.target(name), options.signer(name), options.post_options(name))
    await post.open()
    try:
        return await Courier(post, 1).ping()
    finally:
        await post.close()


def _options(settings: Settings, name: str) -> WebhookOptions:
    from penstock.wiring_sinks import endpoints

    (endpoint,) = endpoints(f"webhook.{name}", settings)
    return settings.sinks.webhooks[endpoint]


@contextlib.contextmanager
def _outbox(settings: Settings, name: str) -> Iterator[Outbox]:
    from penstock.store.outbox import Outbox
    from penstock.store.schema import check, connect

    database = settings.sinks.database
    engine = connect(database)
    try:
        check(engine, database)
        yield Outbox(engine, name)
    finally:
        engine.dispose()


def _from_log(invocation: Invocation, outbox: Outbox, message_id: str) -> Waiting:
    """A message that was delivered, found by the delivery log and read from the log again."""
    from penstock.record import Partition
    from penstock.sinks.reading import read_delivery
    from penstock.sinks.webhook.message import message_of

    tried = outbox.attempts(1, message_id)
    if not tried:
        raise SettingsError(
            f"webhook {outbox.endpoint} knows no message {message_id}: see `penstock webhook log {outbox.endpoint}`"
        )
    topic, partition, offset = (tried[0][column] for column in ("log_topic", "log_partition", "log_offset"))

    async def read() -> Any:
        async with invocation.log() as opened:
            return await opened.read(Partition(topic, partition), offset, 1)

    found = run_async(read())
    if not found or found[0].offset != offset:
        raise SettingsError(f"{message_id} is no longer in the log: {topic}/{partition} offset {offset} is deleted")
    return message_of(read_delivery(found[0])).waiting(0, 0.0, "a person wants it again")


def _moment(value: Any) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"
