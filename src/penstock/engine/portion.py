"""Which part of a task's partitions is ours: told to whoever divides the account's limits by it.

log → [portion] → flow
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from penstock.errors import LogUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection

    from penstock.flow.base import TakesShares
    from penstock.log.base import EventLog
    from penstock.record import Partition
    from penstock.task import Task

logger = logging.getLogger("penstock.engine")


class Portion:
    """Told anew with every change of assignment; how many partitions there are is asked of the log beside the work."""

    def __init__(self, task: Task[Any, Any], log: EventLog, shares: TakesShares | None) -> None:
        self._task = task
        self._log = log
        self._shares = shares
        self._assigned = 0
        self._total = 0
        self._learning: asyncio.Task[None] | None = None

    def changed(self, partitions: Collection[Partition]) -> None:
        """These are ours now. More of them may have been made: the log is asked again."""
        if self._shares is None:
            return
        self._assigned = len(partitions)
        self._tell()
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn(), name=f"{self._task.name}: partitions")

    async def close(self) -> None:
        """Nothing is asked any more."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)

    async def _learn(self) -> None:
        try:
            topics = await self._log.topics()
        except LogUnavailable as weather:  # the next rebalance asks again; until then what was known holds
            logger.warning("%s: how many partitions there are is not known: %s", self._task.name, weather)
            return
        self._total = sum(topics[name].partitions for name in self._task.topics if name in topics)
        self._tell()

    def _tell(self) -> None:
        if self._shares is not None and self._total:
            self._shares.note_share(self._task.name, self._assigned, max(self._total, self._assigned))
