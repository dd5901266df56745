"""The sinks that come with Penstock, as their settings want them.

settings → [wiring_sinks] → cli
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.flow.ceilings import Ceiling
    from penstock.log.base import EventLog
    from penstock.settings import Settings
    from penstock.sinks.base import Sink
    from penstock.sinks.reading import Feed
    from penstock.task import Task

SINKS = ("database", "webhooks", "slack")
"""Sinks that come with Penstock, by name; others are a user's own."""


def made_sinks(name: str, settings: Settings, feeds: Sequence[Feed]) -> list[Sink]:
    """One of `SINKS`, as its table of `[sinks]` says; `webhooks` are all endpoints, `webhook.NAME` is one of them.

    `slack` are all channels, `slack.NAME` is one of them.
    """
    if name == "database":
        from penstock.sinks.database import DatabaseSink  # noqa: PLC0415 - SQLAlchemy is for who has a database

        return [DatabaseSink(settings.sinks.database, feeds)]
    if name == "webhooks" or name.startswith("webhook."):
        return [_webhook(one, settings) for one in endpoints(name, settings)]
    if name == "slack" or name.startswith("slack."):
        return [_slack(one, settings, feeds) for one in channels(name, settings)]
    raise SettingsError(
        f"there is no sink {name!r}: {', '.join(SINKS)}, webhook.NAME or slack.NAME for one of them, or MODULE:SINK for one of your own"
    )


def endpoints(name: str, settings: Settings) -> list[str]:
    """The endpoints that `webhooks` or `webhook.NAME` means."""
    known = settings.sinks.webhooks
    if name == "webhooks":
        if not known:
            raise SettingsError("there is no webhook yet: add [sinks.webhooks.NAME] with url and secrets")
        return list(known)
    endpoint = name.removeprefix("webhook.")
    if endpoint not in known:
        there = f"there are {', '.join(known)}" if known else "there is none yet"
        raise SettingsError(
            f"there is no webhook {endpoint!r}: add [sinks.webhooks.{endpoint}] with url and secrets; {there}"
        )
    return [endpoint]


def _webhook(endpoint: str, settings: Settings) -> Sink:
    from penstock.sinks.webhook.sink import WebhookSink  # noqa: PLC0415 - likewise, and its HTTP client

    return WebhookSink(endpoint, settings.sinks.webhooks[endpoint], settings.sinks.database)


def channels(name: str, settings: Settings) -> list[str]:
    """The channels that `slack` or `slack.NAME` means."""
    known = settings.sinks.slack
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    if name == "slack" and known:
        return list(known)
    channel = name.removeprefix("slack.") if name != "slack" else "NAME"
    if channel not in known:
        raise SettingsError(
            f"there is no Slack channel {channel!r}: add [sinks.slack.{channel}] with webhook_secret, or token and channel; {there}"
        )
    return [channel]


def _slack(channel: str, settings: Settings, feeds: Sequence[Feed]) -> Sink:
    from penstock.sinks.slack.sink import SlackSink  # noqa: PLC0415 - likewise

    return SlackSink(channel, settings.sinks.slack[channel], feeds)


def with_alarms(
    settings: Settings,
    sinks: Sequence[Sink],
    tasks: Sequence[Task[Any, Any]],
    log: EventLog,
    ceilings: Sequence[Ceiling],
) -> None:
    """Channels that tell of budgets and lag are given what they tell of."""
    wanted = {f"slack.{name}" for name, one in settings.sinks.slack.items() if {"budget", "lag"} & {*one.kinds}}
    if not wanted.intersection(sink.name for sink in sinks):
        return
    from penstock.sinks.slack.alarms import Alarms, Followed  # noqa: PLC0415 - likewise
    from penstock.sinks.slack.sink import SlackSink  # noqa: PLC0415

    for sink in sinks:
        if isinstance(sink, SlackSink) and sink.name in wanted:
            options = settings.sinks.slack[sink.name.removeprefix("slack.")]
            follows = [
                Followed(task.name, task.group, task.reads)
                for task in tasks
                if task.name in (options.tasks or [task.name])
            ]
            group = settings.deliver.group_prefix + sink.name
            sink.alarms = Alarms(log, group, options, follows=follows, ceilings=ceilings)
