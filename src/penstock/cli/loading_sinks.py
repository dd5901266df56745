"""`database`, `webhooks`, `webhook.NAME`, `slack`, `slack.NAME` or `MODULE:SINK` as users write it, to the sink that they mean.

terminal → [loading_sinks] → sink
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.cli.loading import module_of, split_reference
from penstock.errors import SettingsError
from penstock.sinks.base import Sink
from penstock.sinks.reading import feeds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.settings import Settings
    from penstock.task import Task


def load_sinks(settings: Settings, names: Sequence[str], tasks: Sequence[Task[Any, Any]]) -> list[Sink]:
    """One sink per name, but for `webhooks` and `slack`, which are as many as there are endpoints and channels."""
    from penstock.wiring_sinks import made_sinks

    feeds = feeds_of(tasks)
    return [
        sink for name in names for sink in ([_users_own(name)] if ":" in name else made_sinks(name, settings, feeds))
    ]


def _users_own(reference: str) -> Sink:
    """A sink, or what makes one when it is called without arguments."""
    source, attribute = split_reference(reference)
    if not source or not attribute:
        raise SettingsError(f"{reference!r} names no sink: write MODULE:SINK")
    found = getattr(module_of(source, Path.cwd()), attribute, None)
    if callable(found) and not isinstance(found, Sink):
        found = found()
    if not isinstance(found, Sink):
        raise SettingsError(f"{reference} is no sink: make it an object of a class that extends penstock.Sink")
    return found


def names_of(reference: str, settings: Settings) -> list[str]:
    """The sinks' own names, for orders: those of their groups. A user's sink may be given by either."""
    if ":" in reference:
        return [_users_own(reference).name]
    if reference == "webhooks":
        from penstock.wiring_sinks import endpoints

        return [f"webhook.{endpoint}" for endpoint in endpoints(reference, settings)]
    if reference == "slack":
        from penstock.wiring_sinks import channels

        return [f"slack.{channel}" for channel in channels(reference, settings)]
    return [reference]


def known_tasks(settings: Settings, given: Sequence[str]) -> list[Task[Any, Any]]:
    """The tasks of the command line, else those of `deliver.tasks`."""
    from penstock.cli.loading import load_tasks

    references = given or settings.deliver.tasks
    if not references:
        raise SettingsError(
            'whose results? give --task MODULE:TASK, or set deliver.tasks, as in deliver.tasks = ["review_moderation:moderator"]'
        )
    return load_tasks(references)
