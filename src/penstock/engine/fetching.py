"""Holds what was read while its codec fetches what decoding needs, so that decoding itself never waits.

log → intake → [fetching] → reader
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from penstock.codecs.base import Fetching
from penstock.errors import CodecUnavailable

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from penstock.record import Partition, Record
    from penstock.task import Task

logger = logging.getLogger("penstock.engine")
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0


class Fetches:
    """At most one polled batch is held: untracked, so that a partition that goes meanwhile takes its part along.

    Nothing behind it may be read before it: the checkpoint would take the held offsets for a gap, and pass them.
    """

    def __init__(self, task: Task[Any, Any]) -> None:
        self._name = task.name
        self._codec = task.decode if isinstance(task.decode, Fetching) else None
        self._held: list[Record] = []
        self._fetch: asyncio.Task[None] | None = None

    @property
    def is_holding(self) -> bool:
        """Whether records wait for a fetch: no more may be read."""
        return self._fetch is not None

    def admit(self, records: Sequence[Record]) -> Sequence[Record]:
        """What can be decoded now, in its order. Raises what makes fetching hopeless: a `UserError` of the codec."""
        if self._codec is None:
            return records
        if self._fetch is None:
            if not (records and self._codec.lacks(records)):
                return records
            self._fetch = asyncio.create_task(self._until_fetched(self._codec, records), name=f"{self._name}: fetch")
        self._held += records
        if not self._fetch.done():
            return ()
        self._fetch.result()
        ready, self._held, self._fetch = self._held, [], None
        return ready

    def forget(self, partitions: Container[Partition]) -> None:
        """They are no longer ours, or ours anew: their records will be read again by whoever owns them."""
        self._held = [r for r in self._held if (r.topic, r.partition) not in partitions]

    async def close(self) -> None:
        """Fetch no more; what is held was never begun."""
        if self._fetch is not None:
            self._fetch.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # told by `admit`, if it was awaited at all
                await self._fetch
        self._held, self._fetch = [], None

    async def _until_fetched(self, codec: Fetching, records: Sequence[Record]) -> None:
        """Waiting is not failing: an outage holds intake and ends no event."""
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                await codec.fetch(records)
            except CodecUnavailable as weather:
                logger.warning("%s holds its intake, nothing is lost: %s", self._name, weather)
            else:
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2)
