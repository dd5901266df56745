"""Tells waiting readers that something was committed, by this process or another.

database → [news] → consumer

While somebody waits, one task asks SQLite every few milliseconds whether another connection has committed; that answer
costs a look at shared memory, no file is read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.errors import LogUnavailable

if TYPE_CHECKING:
    import sqlite3

    from penstock.log.sqlite.database import Database

_SHORTEST_SECONDS = 0.003
_SLOWDOWN = 1.3


class News:
    """Counts what happened; `wait` returns as soon as the count has passed what the caller saw."""

    def __init__(self, database: Database, notice_seconds: float) -> None:
        self.version = 0
        self._database = database
        self._notice_seconds = notice_seconds
        self._waiters: set[asyncio.Future[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._data_version = -1

    def happened(self) -> None:
        """Something of our own changed: no need to ask the file."""
        self.version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen_version: int, timeout_seconds: float) -> None:
        """Return when something happened since `seen_version`, or after the time-out."""
        if self.version != seen_version or timeout_seconds <= 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watching())
        try:
            await asyncio.wait((waiter, self._watch), timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.discard(waiter)
        if self._watch is not None and self._watch.done() and not self._watch.cancelled():
            self._watch.result()  # the file failed: the reader must hear it

    async def close(self) -> None:
        """Wake everybody and stop asking."""
        self.happened()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait((self._watch,))

    async def _watching(self) -> None:
        nap_seconds = _SHORTEST_SECONDS
        while self._waiters:
            try:
                data_version = await self._database.run(_data_version)
            except LogUnavailable:
                data_version = self._data_version  # weather: the next look, or the reader's own read, tells
            if data_version != self._data_version:
                self._data_version = data_version
                self.happened()
                nap_seconds = _SHORTEST_SECONDS
            await asyncio.sleep(nap_seconds)
            nap_seconds = min(nap_seconds * _SLOWDOWN, self._notice_seconds)


def _data_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version
