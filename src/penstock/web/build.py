"""Puts the gateway together from its parts, on a log that is open.

wiring → [build] → server
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError
from penstock.web.backlog import Backlog
from penstock.web.gateway import Parts, application
from penstock.web.judge import Judge
from penstock.web.keys import Keys
from penstock.web.ledger import Ledger
from penstock.web.pages.console import Console, ConsoleParts
from penstock.web.posting import Posting
from penstock.web.server import WebServer
from penstock.web.tail import Tail

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.task import Task
    from penstock.web.options import GatewayOptions

logger = logging.getLogger("penstock.gateway")


def build_server(
    tasks: Sequence[Task[Any, Any]],
    log: EventLog,
    options: GatewayOptions,
    *,
    prepare: Callable[[], Awaitable[None]] | None = None,
    console: ConsoleParts | None = None,
) -> WebServer:
    """A server for the topics that these tasks read, and for people where `console` is given. Raises `UserError` where
    it could not work."""
    topics = list(dict.fromkeys(task.reads for task in tasks))
    judges = {
        topic: Judge(topic, [t for t in tasks if t.reads == topic], options.key, options.max_event_bytes)
        for topic in topics
    }
    ledger = Ledger(options.ledger_file, remember_hours=options.remember_hours, max_endings=options.max_endings)
    backlog = Backlog(
        tasks,
        log,
        interval_seconds=options.look_seconds,
        max_seconds=options.max_backlog_seconds,
        patience_seconds=options.log_patience_seconds,
    )
    posting = Posting(log, ledger, backlog)
    tail = Tail(tasks, log, ledger, options.tail_seconds)
    parts = Parts(options, tasks, judges, _keys(options), posting, ledger, backlog)
    pages = None if console is None else Console(console, tasks, log, keys=parts.keys, ledger=ledger)

    @asynccontextmanager
    async def around() -> AsyncIterator[Sequence[Callable[[], Coroutine[Any, Any, None]]]]:
        try:
            if prepare is not None:
                await prepare()
            await ledger.open()
            await tail.start()
            await backlog.look()
            yield (tail.run, backlog.run)
            await posting.drain()
        finally:
            if pages is not None:
                await pages.close(options.drain_seconds)
            await ledger.close()
            await log.close()

    return WebServer(lambda: application(parts, pages), options, around=around, on_stop=ledger.stop_waiting)


def _keys(options: GatewayOptions) -> Keys | None:
    if options.auth == "none":
        logger.warning("gateway.auth is 'none': every program of this machine may send and read events")
        return None
    keys = Keys(options.keys_file)
    if not len(keys):
        raise SettingsError(
            f"there is no key in {options.keys_file} (gateway.keys_file): make one with `penstock gateway key --name NAME`, "
            "or set gateway.auth='none' to try it on this machine"
        )
    return keys
