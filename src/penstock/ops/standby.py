"""Says when a worker gets no events: its group has more members than the input has partitions, or it owns only the retry topic's.

log, pipeline → [standby] → log line
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Self

from penstock.errors import LogUnavailable, PenstockError
from penstock.ops.crowd import Crowd, crowd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine.pipeline import Pipeline
    from penstock.log.base import EventLog

logger = logging.getLogger("penstock.ops")
LOOK_SECONDS = 5.0
SETTLED_LOOKS = 6
"""Longer than a partition may be on its way (`revoke_seconds`)."""
SHOWN_MEMBERS = 5


class Standby:
    """Looks for as long as its context is open. One line when a task begins to stand by, one when it has work again."""

    def __init__(self, log: EventLog, pipelines: Sequence[Pipeline], look_seconds: float = LOOK_SECONDS) -> None:
        self._log = log
        self._pipelines = pipelines
        self._look_seconds = look_seconds
        self._idle: set[str] = set()
        self._beside: Counter[str] = Counter()
        """For how many looks in a row a task has owned partitions of its retry topic only."""
        self._is_blind = False
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watch = asyncio.create_task(self._keep_looking(), name="standby")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def look(self) -> None:
        """Ask the log once; what it does not tell now is asked again at the next look."""
        try:
            for pipeline in self._pipelines:
                await self._of(pipeline)
        except LogUnavailable as weather:
            logger.debug("who owns which partition could not be asked: %s", weather)
        except PenstockError as error:
            if not self._is_blind:
                logger.warning("whether this worker is one too many can't be seen: %s", error)
            self._is_blind = True
        except Exception:
            if not self._is_blind:
                logger.exception("whether this worker is one too many can't be seen")
            self._is_blind = True

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.look()

    async def _of(self, pipeline: Pipeline) -> None:
        task, reading = pipeline.task, pipeline.reading()
        if not reading.has_joined or reading.is_draining:
            return
        topics = {partition.topic for partition in pipeline.positions()}
        if task.reads in topics:
            del self._beside[task.name]
            if task.name in self._idle:
                self._idle.discard(task.name)
                logger.info("%s: this worker has partitions of %s now", task.name, task.reads)
            return
        if task.name in self._idle:
            return
        others = await crowd(self._log, task.group, [task.reads])
        # While partitions move, or a member's place is not known yet, nobody is one too many.
        if others is not None and len(others.members) > others.partitions:
            self._idle.add(task.name)
            logger.warning("%s", _told(task.group, task.reads, others))
        elif others is None or not topics:
            del self._beside[task.name]
        else:
            self._beside[task.name] += 1
            if self._beside[task.name] == SETTLED_LOOKS:
                self._idle.add(task.name)
                logger.warning("%s: %s", task.name, _BESIDE % (task.retry_topic, task.reads))


_BESIDE = (
    "this worker owns partitions of %s and none of %s, so that it gets hardly any events: the classic group protocol evens out the "
    "sum over both topics. Kafka 4's own protocol (kafka_log.group_protocol=consumer), more partitions of the input or fewer of the "
    "retry topic end that"
)


def _told(group: str, topic: str, others: Crowd) -> str:
    names = ", ".join(sorted(member.member for member in others.busy)[:SHOWN_MEMBERS])
    more = f" and {len(others.busy) - SHOWN_MEMBERS} more" if len(others.busy) > SHOWN_MEMBERS else ""
    count = f"{others.partitions} partition{'' if others.partitions == 1 else 's'}"
    return (
        f"group {group} has {len(others.members)} members and {topic} has {count}, which belong to {names}{more}: this worker "
        "gets no events and stands by until one of them leaves. Stop it, or give the topic more partitions"
    )
