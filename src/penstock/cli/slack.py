"""`penstock slack`: what a channel would be told, and whether it takes a message.

terminal → [slack] → message, post
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.console import emit, line, tell
from penstock.errors import SinkAway

if TYPE_CHECKING:
    from penstock.sinks.slack.alarms import Alarm
    from penstock.sinks.slack.digests import Digest
    from penstock.sinks.slack.options import SlackOptions

app = typer.Typer(help="Digests to Slack: see one, or send it.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `test` a word of its own."""


@app.command("test")
@command
def send_test(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The channel, as in [sinks.slack.NAME].")],
    *,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, send nothing.")] = False,
) -> None:
    """Send a digest of an event that does not exist, and say what Slack answers."""
    from penstock.sinks.slack.message import message_of, message_of_alarm
    from penstock.sinks.slack.post import Post, SlackRefused
    from penstock.wiring_sinks import channels

    (channel,) = channels(f"slack.{name}", invocation.settings)
    options = invocation.settings.sinks.slack[channel]
    post = Post(channel, options)
    if {"result", "letter"}.isdisjoint(options.kinds):
        message = message_of_alarm(_example_alarm(), options, time.time())
    else:
        message = message_of(_example(options), options)
    if is_dry_run:
        shown: dict[str, Any] = message.payload()
        emit({"channel": options.channel, **shown} if options.channel else shown)
        return
    try:
        run_async(post.send(message))
    except (SinkAway, SlackRefused) as error:
        tell(f"{name}: {error}")
        raise typer.Exit(1) from None
    line(f"{name}: took it")


def _example_alarm() -> Alarm:
    """For a channel that is told of nothing else."""
    from penstock.sinks.slack.alarms import Alarm

    return Alarm("a test", "a test of alarms", ("Nothing is wrong.",), None)


def _example(options: SlackOptions) -> Digest:
    """What the first rule would tell of."""
    from penstock.record import Record
    from penstock.sinks.base import Delivery, Result
    from penstock.sinks.slack.digests import Digest, Fingerprint

    now_ms = time.time_ns() // 1_000_000
    said = {name: values[0] for name, values in options.where.items() if values} or {"message": "a test"}
    task = options.tasks[0] if options.tasks else "test"
    shown = dict.fromkeys(options.sample_fields, "text that <!channel> and https://example.com can do nothing in")
    result = Result(id="test", event_id="test-1", subject="test-1", task=task, output=shown | said, confidence="sure")
    says = tuple((name, str(value)) for name, value in said.items())
    digest = Digest(Fingerprint(task, "result", says), now_ms / 1000)
    digest.add(Delivery(result, Record("test", 0, 0, None, b"", (), now_ms)), options.samples)
    return digest
