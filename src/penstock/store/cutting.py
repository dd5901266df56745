"""An engine and its threads come to an end, also where the database says no word: then its sockets are shut.

sinks → [cutting] → schema's engines
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sqlalchemy import Engine

logger = logging.getLogger("penstock.store")


class Cutter:
    """Of one engine's connections. SQLite has no sockets: there is nothing to cut."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        if engine.dialect.name == "postgresql":
            event.listen(engine, "connect", self._made)

    async def end(self, *threads: Executor, seconds: float) -> None:
        """Finish what these threads do with the database; what takes longer is cut off. Then give the connections back."""
        # What runs in a thread is not cancelled: its connection must come back before the last is closed.
        ends = [asyncio.create_task(asyncio.to_thread(one.shutdown)) for one in threads]
        _, waiting = await asyncio.wait(ends, timeout=seconds)
        if waiting:
            logger.warning("the database does not answer: its connections are cut")
            self._cut()
        await asyncio.gather(*ends)
        self._engine.dispose()

    def _cut(self) -> None:
        """From another thread: a connection that waits cannot be asked to close itself."""
        for connection in list(self._connections):
            with (
                suppress(Exception),  # or closed meanwhile
                socket.socket(fileno=os.dup(connection.fileno())) as shared,
            ):
                shared.shutdown(socket.SHUT_RDWR)

    def _made(self, connection: Any, _: Any) -> None:
        self._connections.add(connection)
