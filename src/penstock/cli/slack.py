"""`penstock slack`: what a channel would be told, and whether it takes a message.

terminal → [slack] → message, post
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, TasksOption, command, run_async
from penstock.cli.console import emit, line, tell
from penstock.errors import SinkAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from penstock.log.base import EventLog
    from penstock.record import Record
    from penstock.sinks.reading import Feed
    from penstock.sinks.slack.alarms import Alarm
    from penstock.sinks.slack.digests import Digest
    from penstock.sinks.slack.message import Message
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


@app.command("preview")
@command
def preview(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The channel, as in [sinks.slack.NAME].")],
    *,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="2026-11-03T14:00, with or without a zone (UTC), or 90m, 6h, 2d ago."
        ),
    ] = "24h",
    references: TasksOption = None,
    is_simulated: Annotated[
        bool, typer.Option("--simulated", help="Made-up verdicts of the offline simulator too.")
    ] = False,
) -> None:
    """Print the digests that the channel's rules make of what was written since a time, a JSON line each; send nothing."""
    from penstock.cli.deliver import moment_of
    from penstock.cli.loading_sinks import known_tasks
    from penstock.sinks.reading import feeds_of
    from penstock.wiring_sinks import channels

    settings = invocation.settings
    (channel,) = channels(f"slack.{name}", settings)
    feeds = feeds_of(known_tasks(settings, references or []))
    takes_simulated = is_simulated or settings.deliver.simulated == "deliver"
    options, from_ms = settings.sinks.slack[channel], moment_of(start, time.time())
    found = run_async(_digests(invocation, options, feeds, from_ms, takes_simulated=takes_simulated))
    for message in found:
        emit(message.payload())
    if not found and not invocation.is_quiet:
        tell("nothing of it would be told")


async def _digests(
    invocation: Invocation, options: SlackOptions, feeds: Sequence[Feed], from_ms: int, *, takes_simulated: bool
) -> list[Message]:
    """As if all of it had come within one window, outside of quiet hours."""
    from penstock.sinks.base import Result
    from penstock.sinks.reading import read_delivery, topics_of
    from penstock.sinks.slack.digests import Digests
    from penstock.sinks.slack.message import message_of

    digests = Digests(replace(options, quiet_hours=""), {feed.task: feed.label for feed in feeds})
    tasks = {feed.task for feed in feeds}
    async with invocation.log() as log:
        for topic in topics_of(feeds, frozenset({"results", "letters"})):
            async for record in _since(log, topic, from_ms):
                try:
                    delivery = read_delivery(record)
                except ValueError:
                    continue
                is_made_up = isinstance(delivery.content, Result) and delivery.content.simulated
                if delivery.task in tasks and (takes_simulated or not is_made_up):
                    digests.add(delivery, 0.0)
    messages, later = [], time.time()
    while (digest := digests.due(later)) is not None:
        digests.take(digest)
        messages.append(message_of(digest, options))
    return messages


async def _since(log: EventLog, topic: str, from_ms: int) -> AsyncIterator[Record]:
    for partition, kept in (await log.bounds(topic)).items():
        at = await log.offset_at(partition, from_ms)
        while at < kept.high and (records := await log.read(partition, at, 500)):
            for record in records:
                yield record
            at = records[-1].offset + 1


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
