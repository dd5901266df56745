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
MOST_SECONDS = 60.0
FAULT_SECONDS = 10.0
"""A fault is kept no longer: what was slow or away may be back at once."""


class Kept(Generic[T]):
    """One answer. A fault is kept too, but not as long, so that what is slow or away is not asked by everybody."""

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
        most = FAULT_SECONDS
        try:
            made = await self._make()
            most = MOST_SECONDS
        finally:
            ended = time.monotonic()
            self._until = ended + kept_seconds(ended - begun, self._at_least_seconds, most)
        return made


def kept_seconds(took_seconds: float, at_least_seconds: float, most_seconds: float) -> float:
    """How long an answer is kept that took so long."""
    return max(at_least_seconds, min(TIMES * took_seconds, most_seconds))
