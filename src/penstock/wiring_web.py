"""The gateway for these settings: which log, whose events.

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
    from penstock.web.server import WebServer

logger = logging.getLogger("penstock.wiring")


def build_gateway(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> WebServer:
    """A server that takes these tasks' events over HTTP. It closes the log when it ends."""
    from penstock.web.build import build_server  # noqa: PLC0415 - the framework is heavy

    async def prepare() -> None:
        for fault in await prepare_topics(settings, tasks, log):
            logger.warning("%s", fault)

    return build_server([with_codec(settings, task) for task in tasks], log, settings.gateway, prepare=prepare)
