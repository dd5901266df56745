"""Whether more events should come now: how far the tasks are behind, and whether the log can be written at all.

log → [backlog] → posting
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.errors import PenstockError
from penstock.web.problems import Problem

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.task import Task

T = TypeVar("T")
logger = logging.getLogger("penstock.gateway")
LOOK_TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 2.0
SMOOTHING = 0.3
"""The newest look's share of the pace."""


@dataclass(slots=True)
class Pace:
    """What is known of one task's progress."""

    waiting: int = 0
    done: int = 0
    at: float = 0.0
    per_second: float = 0.0
    since: float = 0.0
    """When events began to wait without any being done."""

    def look(self, waiting: int, done: int, now: float) -> None:
        """The next look."""
        if self.at:
            moved = max(0, done - self.done)
            fresh = moved / max(1e-3, now - self.at)
            self.per_second += SMOOTHING * (fresh - self.per_second) if self.per_second else fresh
            if moved or not waiting:
                self.since = 0.0
            elif not self.since:
                self.since = self.at
        self.waiting, self.done, self.at = waiting, done, now

    def seconds(self, now: float) -> float:
        """How long an event that comes now will wait, about."""
        if not self.waiting:
            return 0.0
        standing = now - self.since if self.since else 0.0
        by_pace = self.waiting / self.per_second if self.per_second > 0 else 0.0
        return max(standing, by_pace)


class Backlog:
    """Looks every so often; asked before a body is read."""

    def __init__(
        self,
        tasks: Sequence[Task[Any, Any]],
        log: EventLog,
        *,
        interval_seconds: float,
        max_seconds: float | None,
        patience_seconds: float,
    ) -> None:
        self._tasks = tasks
        self._log = log
        self._interval_seconds = interval_seconds
        self._max_seconds = max_seconds or inf
        self._patience_seconds = patience_seconds
        self._appends: dict[object, float] = {}
        self.paces = {task.name: Pace() for task in tasks}
        self.fault = ""
        """Why the log could not be asked at the last look."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await to_the_end(self.look())
            await asyncio.sleep(RETRY_SECONDS if self.fault else self._interval_seconds)

    async def look(self) -> None:
        """Ask the log once."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                for task in self._tasks:
                    await self._look_at(task)
        except (PenstockError, TimeoutError) as error:
            if not self.fault:
                logger.warning("the log does not answer: %s", error or "timed out")
            self.fault = str(error) or "the log did not answer in time"
        else:
            if self.fault:
                logger.info("the log answers again")
            self.fault = ""

    def check(self, topic: str, deadline_ms: int = 0) -> None:
        """Raises a `Problem` where an event of this topic should come later."""
        now = time.monotonic()
        if self.fault or any(now - since > self._patience_seconds for since in self._appends.values()):
            detail = "the log cannot be reached or is slow, and nothing of this was written: send it again"
            raise Problem("log-unreachable", detail, retry_after_seconds=RETRY_SECONDS)
        allowed = self._max_seconds
        if deadline_ms:
            allowed = min(allowed, max(0.0, deadline_ms / 1000 - time.time()))
        if allowed == inf:
            return
        for task in self._tasks:
            wait = self.paces[task.name].seconds(now) if task.reads == topic else 0.0
            if wait > allowed:
                detail = (
                    f"task {task.name} would get to it in about {wait:,.0f} s, later than it may: send it again later"
                )
                raise Problem("backlog", detail, retry_after_seconds=min(60.0, wait - allowed))

    def appending(self) -> object:
        """An append begins; give what is returned to `appended`."""
        token = object()
        self._appends[token] = time.monotonic()
        return token

    def appended(self, token: object) -> None:
        """It is over, however it ended."""
        self._appends.pop(token, None)

    async def _look_at(self, task: Task[Any, Any]) -> None:
        bounds = await self._log.bounds(task.reads)
        done = await self._log.committed(task.group, task.reads)
        waiting = finished = 0
        for partition, kept in bounds.items():
            known = done.get(partition)
            if known is None:  # nobody has begun: what stands there before is no backlog of ours to judge
                continue
            base = max(known.base, kept.low)
            above = known.from_offset(base).count_above()
            waiting += max(0, kept.high - base - above)
            finished += base + above
        self.paces[task.name].look(waiting, finished, time.monotonic())


async def to_the_end(look: Coroutine[Any, Any, T]) -> T:
    """A question to the log is a call on a thread, which a cancelled task would leave behind: the log must not be closed under it."""
    asked = asyncio.create_task(look)
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        await asyncio.wait([asked])
        raise
