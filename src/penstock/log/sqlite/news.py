"""Tells waiting readers that records came or the group changed, by this process or another.

database → [news] → consumer

While somebody waits, a thread asks SQLite every few milliseconds whether another connection has committed; that answer
costs a look at shared memory. Only then it looks whether it was more than a heartbeat.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from penstock.errors import LogUnavailable

if TYPE_CHECKING:
    import sqlite3

    from penstock.log.sqlite.database import Database

_SHORTEST_SECONDS = 0.003
_SLOWDOWN = 1.3
_WATCH_SECONDS = 0.5

Sign = tuple[int, ...]


class News:
    """Counts what happened; `wait` returns as soon as the count has passed what the caller saw."""

    def __init__(self, database: Database, notice_seconds: float) -> None:
        self.version = 0
        self._database = database
        self._notice_seconds = notice_seconds
        self._waiters: set[asyncio.Future[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._is_closing = threading.Event()
        self._data_version = -1
        self._sign: Sign = ()

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
        self._is_closing.set()
        self.happened()
        if self._watch is not None:
            await asyncio.wait((self._watch,))
        await self._database.close()

    async def _watching(self) -> None:
        while self._waiters and not self._is_closing.is_set():
            try:
                sign = await self._database.run_bare(self._until_changed)
            except LogUnavailable:
                await asyncio.sleep(self._notice_seconds)
                sign = ()  # weather: the reader's own read tells
            if sign != self._sign:
                self._sign = sign
                self.happened()

    def _until_changed(self, connection: sqlite3.Connection) -> Sign:
        """On the thread: sleep and look, until there is something or it is time to ask who still waits."""
        end = time.monotonic() + _WATCH_SECONDS
        nap_seconds = _SHORTEST_SECONDS
        while time.monotonic() < end:
            data_version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            if data_version != self._data_version:
                self._data_version = data_version
                sign: Sign = connection.execute(_SIGN).fetchone()
                if sign != self._sign:
                    return sign
            if self._is_closing.wait(nap_seconds):
                break
            nap_seconds = min(nap_seconds * _SLOWDOWN, self._notice_seconds)
        return self._sign


_SIGN = "SELECT groups, topics, (SELECT sum(high) FROM partitions) FROM counters"
"""Moves with every append, and with every change of topics, members and leases, but not with heartbeats and commits."""
