"""The database as pages ask it: on threads of its own, so that a slow one never holds the event loop of the gateway.

pages → [database] → store
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from penstock.store.reading import StoreReader, StoreSlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from penstock.store.options import DatabaseOptions

T = TypeVar("T")
THREADS = 3
MOST_QUESTIONS = 40
"""More at once are told to come back."""
GRACE_SECONDS = 0.5


class Database:
    """Asks, and waits no longer than it may."""

    def __init__(self, options: DatabaseOptions, seconds: float) -> None:
        self._options, self._seconds = options, seconds
        self._threads = ThreadPoolExecutor(THREADS, "penstock-console")
        self._reader: StoreReader | None = None
        self._making = threading.Lock()
        self._questions = 0

    @property
    def shown(self) -> str:
        """The address for people, without a password."""
        return self._options.shown

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """Raises `StoreMissing`, `StoreAway` (`StoreSlow`), `SettingsError`."""
        if self._questions >= MOST_QUESTIONS:
            raise StoreSlow("too many questions wait for the database")
        self._questions += 1
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)
        asked.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asked, self._seconds + GRACE_SECONDS)
        except TimeoutError:
            raise StoreSlow(f"the database did not answer within {self._seconds:g} s") from None

    async def close(self) -> None:
        """What waits is dropped; what is being asked ends by its own time-out."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._reader is not None:
            self._reader.close()

    def _ask(self, question: Callable[[Connection], T]) -> T:
        with self._making:
            if self._reader is None:
                self._reader = StoreReader(self._options, seconds=self._seconds, connections=THREADS)
        return self._reader.ask(question)

    def _done(self, asked: asyncio.Future[T]) -> None:
        self._questions -= 1
        if not asked.cancelled():
            asked.exception()  # told to who asked, or to nobody when he did not wait
