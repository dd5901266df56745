"""The listener, as the consumer's thread calls it: on the event loop, one call at a time, waited for here.

Meanwhile the thread does the committer's errands: what the listener commits before it returns may need this very thread.

membership → [telling] → engine
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from penstock.log.kafka.connection import logger

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from penstock.log.base import Assignment, Listener
    from penstock.log.kafka.errands import Errands
    from penstock.log.losses import Loss
    from penstock.record import Partition

SLACK_SECONDS = 2.0
"""Beyond the deadline that `revoked` is given: it ends itself in time or is cut off."""
LOOK_SECONDS = 1.0


class Telling:
    """What the listener raises is kept in `failure`: a rebalance callback has nobody to raise it to."""

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop, errands: Errands) -> None:
        self._listener, self._loop, self._errands = listener, loop, errands
        self.is_going_on = False
        """The consumer's thread waits for the listener: it serves nothing else now."""
        self.failure: Exception | None = None

    def assigned(self, assignments: Sequence[Assignment]) -> None:
        """Returns when the listener is ready for their records."""
        if assignments:
            self._tell(self._listener.assigned(assignments), None)

    def revoked(self, partitions: Sequence[Partition], within_seconds: float) -> None:
        """Returns when their work is finished, or its time is over."""
        if partitions:
            deadline = time.monotonic() + within_seconds
            self._tell(self._listener.revoked(partitions, deadline), deadline + SLACK_SECONDS)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """They are gone already."""
        if partitions:
            self._tell(self._listener.lost(partitions), None)

    def passed(self, losses: Sequence[Loss]) -> None:
        """Reading goes on behind what retention deleted."""
        if losses:
            self._tell(self._listener.passed(losses), None)

    def _tell(self, told: Coroutine[Any, Any, None], deadline: float | None) -> None:
        self.is_going_on = True
        try:
            self._wait(told, deadline)
        except Exception as error:  # noqa: BLE001
            self.failure = error
        finally:
            self.is_going_on = False

    def _wait(self, told: Coroutine[Any, Any, None], deadline: float | None) -> None:
        future = asyncio.run_coroutine_threadsafe(told, self._loop)
        future.add_done_callback(lambda _: self._errands.nudge())
        while not self._loop.is_closed():
            if future.done():
                return future.result()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                break
            rest = LOOK_SECONDS if deadline is None else deadline - now
            self._errands.serve(min(LOOK_SECONDS, rest))
        future.cancel()
        logger.warning("partitions were taken before their work in flight was finished")
        return None
