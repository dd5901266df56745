"""The sinks that come with Penstock, as their settings want them.

settings → [wiring_sinks] → cli
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.settings import Settings
    from penstock.sinks.base import Sink
    from penstock.sinks.reading import Feed

SINKS = ("database", "webhooks")
"""Sinks that come with Penstock, by name; others are a user's own."""


def made_sinks(name: str, settings: Settings, feeds: Sequence[Feed]) -> list[Sink]:
    """One of `SINKS`, as its table of `[sinks]` says; `webhooks` are all endpoints, `webhook.NAME` is one of them."""
    if name == "database":
        from penstock.sinks.database import DatabaseSink  # noqa: PLC0415 - SQLAlchemy is for who has a database

        return [DatabaseSink(settings.sinks.database, feeds)]
    if name == "webhooks" or name.startswith("webhook."):
        return [_webhook(one, settings) for one in endpoints(name, settings)]
    raise SettingsError(
        f"there is no sink {name!r}: {', '.join(SINKS)}, webhook.NAME for one endpoint, or MODULE:SINK for one of your own"
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
