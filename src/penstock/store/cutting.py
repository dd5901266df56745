"""Ends what waits for a database that says no word: its sockets are shut, and whoever reads from them is told at once.

sinks → [cutting] → schema's engines
"""

from __future__ import annotations

import os
import socket
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Cutter:
    """Of one engine's connections. SQLite has no sockets: there is nothing to cut."""

    def __init__(self, engine: Engine) -> None:
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        if engine.dialect.name == "postgresql":
            event.listen(engine, "connect", self._made)

    def cut(self) -> None:
        """From another thread: a connection that waits cannot be asked to close itself."""
        for connection in list(self._connections):
            with (
                suppress(Exception),
                socket.socket(fileno=os.dup(connection.fileno())) as shared,
            ):  # or closed meanwhile
                shared.shutdown(socket.SHUT_RDWR)

    def _made(self, connection: Any, _: Any) -> None:
        self._connections.add(connection)
