"""What a sink took on to try again by itself, and gave up: its dead letters, committed beside the batches.

sink → [given_up] → screen → log
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from penstock.errors import LogError, SinkAway, UserError
from penstock.sinks.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from penstock.record import NewRecord
    from penstock.sinks.base import Refused, Sink

logger = logging.getLogger("penstock.deliver")


class GivenUp:
    """Asks one sink. A crash between the commit and `buried` makes the same letters again, with the same ids."""

    def __init__(
        self,
        sink: Sink,
        bury: Callable[[Batch, Refused, int], None],
        commit: Callable[[Sequence[NewRecord]], Awaitable[None]],
        commit_held: Callable[[], Awaitable[None]],
    ) -> None:
        self._sink, self._bury, self._commit, self._commit_held = sink, bury, commit, commit_held

    async def run(self, look_seconds: float) -> None:
        """Until cancelled. Raises the `UserError` that says why the sink cannot go on."""
        while True:
            await asyncio.sleep(look_seconds)
            try:
                if not self._sink.is_paused:
                    await self.once()
                await self._commit_held()
            except (SinkAway, LogError) as weather:
                logger.debug("sink %s: what it gave up waits: %s", self._sink.name, weather)
            except UserError:
                raise
            except Exception:
                logger.exception("sink %s: what it gave up could not be buried; again in a while", self._sink.name)

    async def once(self) -> None:
        """Bury what there is now."""
        refused = await self._sink.given_up()
        if not refused:
            return
        batch = Batch()
        for one in sorted(refused, key=lambda one: one.delivery.position):
            batch.add(one.delivery.record, None)
            self._bury(batch, one, one.attempts)
        letters = [letter for _, found in batch.progress().values() for letter in found]
        if letters:
            await self._commit(letters)
        await self._sink.buried(refused)
