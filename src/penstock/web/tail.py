"""Reads what the tasks wrote into the ledger: results, dead letters, erasures. One gateway of a machine does it for all.

log → [tail] → ledger → gateway
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.deadletters.letter import Letter
from penstock.erasure import Erasure
from penstock.errors import PenstockError
from penstock.record import Partition, Position
from penstock.sinks.base import Result
from penstock.sinks.reading import feeds_of, read_delivery, topics_of
from penstock.telemetry.pulse import Trouble
from penstock.web.backlog import to_the_end
from penstock.web.ledger_endings import Ended, ErasedBy, Found

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.record import Record
    from penstock.task import Task
    from penstock.web.ledger import Ledger

logger = logging.getLogger("penstock.gateway")
READ_RECORDS = 1_000
TROUBLE_SECONDS = 1.0
AWAITED_SECONDS = 0.04
"""Between two looks while somebody waits (`?wait=`)."""


class Tail:
    """Runs until cancelled. Positions stand in the ledger beside what was read: each record is kept once."""

    def __init__(
        self,
        tasks: Sequence[Task[Any, Any]],
        log: EventLog,
        ledger: Ledger,
        interval_seconds: float,
        awaited_seconds: float = AWAITED_SECONDS,
    ) -> None:
        self._topics = topics_of(feeds_of(tasks), frozenset({"results", "letters"}))
        self._tasks = {task.name for task in tasks}
        self._log = log
        self._ledger = ledger
        self._interval_seconds, self._awaited_seconds = interval_seconds, awaited_seconds
        self._ends: dict[tuple[str, int], int] = {}
        """Where a partition ended when all of it had been read: behind its last record may stand markers only."""
        self.trouble = Trouble()

    async def start(self) -> None:
        """What is written from now on will be read. A ledger that is new does not begin with the past."""
        known = await self._ledger.positions()
        topics = {topic for topic, _ in known}
        first: dict[tuple[str, int], int] = {}
        for topic in self._topics:
            if topic not in topics:
                bounds = await self._log.bounds(topic)
                first |= {(topic, partition.number): kept.high for partition, kept in bounds.items()}
        if first:
            await self._ledger.keep([], first)

    async def run(self) -> None:
        """Look every so often, while this process is the one that does."""
        while True:
            try:
                was_much = self._ledger.is_tailing and await to_the_end(self.look())
            except PenstockError as error:
                self.trouble.begin(str(error))
                logger.warning("what became of events cannot be read: %s", error)
                await asyncio.sleep(TROUBLE_SECONDS)
                continue
            self.trouble.end()
            await self._rest(0.0 if was_much else self._interval_seconds)

    async def _rest(self, seconds: float) -> None:
        """Shorter while somebody waits for what becomes of an event: he would wait for us too."""
        least = min(seconds, self._awaited_seconds)
        await asyncio.sleep(least)
        if seconds > least:
            await self._ledger.awaited(seconds - least)

    async def look(self) -> bool:
        """Read what is new; whether there is more."""
        known = await self._ledger.positions()
        was_much = False
        for topic in self._topics:
            for partition, kept in (await self._log.bounds(topic)).items():
                place = (topic, partition.number)
                start = known.get(place, kept.low)
                if start > kept.high:  # the topic was made again
                    start = kept.low
                if start >= kept.high or self._ends.get(place) == kept.high:
                    continue
                records = await self._log.read(partition, start, READ_RECORDS)
                if len(records) < READ_RECORDS:
                    self._ends[place] = kept.high
                was_much |= len(records) == READ_RECORDS
                if records:
                    await self._ledger.keep(self._found(records), {place: records[-1].offset + 1})
        return was_much

    def _found(self, records: Sequence[Record]) -> list[Found]:
        found: list[Found] = []
        for record in records:
            try:
                delivery = read_delivery(record)
            except ValueError as error:  # somebody else's record: nothing of it is ours to tell
                place = Partition(record.topic, record.partition)
                logger.warning("%s/%d offset %d: %s", *place, record.offset, error)
                continue
            if delivery.task in self._tasks:
                found.append(_ending(delivery.content, record))
        return found


def _ending(content: Result | Letter | Erasure, record: Record) -> Found:
    if isinstance(content, Erasure):
        return ErasedBy(content, record.timestamp_ms)
    key = None if record.key is None else record.key.decode("utf-8", "replace")
    kind, told = _of_result(content) if isinstance(content, Result) else _of_letter(content)
    source = Position(*content.source)
    return Ended(content.task, source, content.event_id, content.subject, key, kind, record.timestamp_ms, told)


def _of_result(result: Result) -> tuple[Any, dict[str, Any]]:
    """What a producer is told: the verdict and where it comes from, not what it cost."""
    told = {
        "id": result.id,
        "output": result.output,
        "confidence": result.confidence,
        "tier": result.tier,
        "model": result.model,
        "prompt": result.prompt,
        "policy": result.policy,
        "simulated": result.simulated,
    }
    return "provisional" if result.provisional else "result", told


def _of_letter(letter: Letter) -> tuple[Any, dict[str, Any]]:
    told = {
        "id": letter.id,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
    }
    return "dead_letter", told
