"""The gateway and the console for these settings: which log, whose events, which database.

settings, wiring → [wiring web] → web
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.wiring import prepare_topics, with_codec

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.settings import Settings
    from penstock.task import Task
    from penstock.web.pages.console import ConsoleParts
    from penstock.web.server import WebServer

logger = logging.getLogger("penstock.wiring")


def build_gateway(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> WebServer:
    """A server that takes these tasks' events over HTTP. It closes the log when it ends."""
    from penstock.web.build import build_server  # noqa: PLC0415 - the framework is heavy

    async def prepare() -> None:
        for fault in await prepare_topics(settings, tasks, log):
            logger.warning("%s", fault)

    made = [with_codec(settings, task) for task in tasks]
    return build_server(made, log, settings.gateway, prepare=prepare, console=_console(settings))


def _console(settings: Settings) -> ConsoleParts | None:
    """The pages for people, where they are wanted."""
    from penstock.web.pages.console import ConsoleParts  # noqa: PLC0415 - likewise

    if not settings.console.enabled:
        return None
    return ConsoleParts(
        options=settings.console,
        database=settings.sinks.database,
        log_place=settings.log_place,
        sink_prefix=settings.deliver.group_prefix,
        endpoints=tuple(settings.sinks.webhooks),
    )
