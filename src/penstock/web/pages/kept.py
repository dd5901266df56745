"""An answer that many readers share: made when somebody asks and it is old, by one at a time, whatever becomes of who asked.

overview → [kept] → database, log
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
TIMES = 20
"""An answer is kept for so many times as long as it took to make: the more it costs, the less often it is made."""


class Kept(Generic[T]):
    """One answer. A fault is kept as long, so that what is slow or away is not asked by everybody."""

    def __init__(self, make: Callable[[], Awaitable[T]], *, at_least_seconds: float) -> None:
        self._make, self._at_least_seconds = make, at_least_seconds
        self._running: asyncio.Task[T] | None = None
        self._until = 0.0

    async def get(self, seconds: float) -> T:
        """Within this time, or `TimeoutError`; the making goes on. Raises what the making raised."""
        running = self._running
        if running is None or (running.done() and time.monotonic() >= self._until):
            running = self._running = asyncio.create_task(self._made())
        return await asyncio.wait_for(asyncio.shield(running), seconds)

    async def close(self) -> None:
        """What is being made is brought to its end: it may be a question on a thread."""
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    async def _made(self) -> T:
        begun = time.monotonic()
        try:
            return await self._make()
        finally:
            took = time.monotonic() - begun
            self._until = time.monotonic() + max(self._at_least_seconds, TIMES * took)
