"""Which part of a task's partitions is ours: told to whoever divides the account's limits by it.

log → [portion] → flow
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Collection

    from penstock.flow.base import TakesShares
    from penstock.log.base import EventLog
    from penstock.record import Partition
    from penstock.task import Task

logger = logging.getLogger("penstock.engine")
AGAIN_SECONDS = 5.0
INPUT_WEIGHT = 10
"""What a partition of the input counts against one of the retry topic, which is nearly always empty: whoever owns only the latter
needs a share, but a small one."""


class Portion:
    """Told anew with every change of assignment; how many partitions there are is asked of the log beside the work."""

    def __init__(
        self, task: Task[Any, Any], log: EventLog, shares: TakesShares | None, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self._task = task
        self._log = log
        self._shares = shares
        self._again_seconds = again_seconds
        self._assigned = 0
        self._total = 0
        self._learning: asyncio.Task[None] | None = None

    def changed(self, partitions: Collection[Partition]) -> None:
        """These are ours now. More of them may have been made: the log is asked again."""
        if self._shares is None:
            return
        self._assigned = sum(self._weight(partition.topic) for partition in partitions)
        self._tell()
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn(), name=f"{self._task.name}: partitions")

    async def close(self) -> None:
        """Nothing is asked any more."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)

    async def _learn(self) -> None:
        while True:
            try:
                found = [self._weight(name) * len(await self._log.bounds(name)) for name in self._task.topics]
            except PenstockError as error:
                logger.warning("%s: how many partitions there are is not known yet: %s", self._task.name, error)
                await asyncio.sleep(self._again_seconds)
            else:
                self._total = sum(found)
                return self._tell()

    def _weight(self, topic: str) -> int:
        return INPUT_WEIGHT if topic == self._task.reads else 1

    def _tell(self) -> None:
        if self._shares is not None and self._total:
            self._shares.note_share(self._task.name, self._assigned, max(self._total, self._assigned))
