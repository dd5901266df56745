"""How far the sinks are, seen from outside: rows in the database, what the receiver has, what of the log waits for whom.

log, database, receiver → [deliveries] → watch
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.errors import TopicMissing
from penstock.log.unresolved import unresolved
from penstock.settings import Settings, SinksOptions
from penstock.store.options import DatabaseOptions

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.demo.gateway import Entrance
    from penstock.demo.place import Place
    from penstock.demo.receiver import Receiver
    from penstock.log.base import EventLog
    from penstock.record import Partition
    from penstock.task import Task
    from penstock.web.options import GatewayOptions

NAME = "demo"
DATABASE, WEBHOOK, SLACK = "database", f"webhook.{NAME}", f"slack.{NAME}"
RECENT = 100
DRAIN_SECONDS = 5.0
_ROWS = "SELECT count(*) FROM verdicts"
_ROW = "SELECT 1 FROM verdicts WHERE task = ? AND event_id = ?"


@dataclass(frozen=True, slots=True)
class Delivered:
    """One moment."""

    rows: int = 0
    """Verdicts in the database, of all runs."""
    webhooks: int = 0
    """Verified, each id once; of this run, as everything below."""
    erasures: int = 0
    """Of them; the others are verdicts."""
    repeats: int = 0
    """Verdicts of an id that had come before."""
    simulated: int = 0
    """Verified verdicts that say so."""
    digests: int = 0
    last_digest: tuple[str, ...] = ()
    """Its texts, block by block."""
    refused: int = 0
    """What the receiver did not take."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """By sink: records of the log that its group has not done."""
    delays_ms: Sequence[int] = ()
    """From committed to received, in the order of arrival."""

    @property
    def lag_ms(self) -> int | None:
        """Half of the latest webhooks took so long at most."""
        recent = sorted(self.delays_ms[-RECENT:])
        return recent[len(recent) // 2] if recent else None

    def spread_ms(self) -> tuple[int, int] | None:
        """Median and 99th percentile of all."""
        found = sorted(self.delays_ms)
        return (found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)]) if found else None

    def waits(self, *sinks: str) -> int:
        """How much waits for these."""
        return sum(self.waiting.get(sink, 0) for sink in sinks)


class Deliveries:
    """Reads; the sinks are processes of their own."""

    def __init__(self, log: EventLog, tasks: Sequence[Task[Any, Any]], place: Place, receiver: Receiver) -> None:
        self.receiver = receiver
        self.now = Delivered()
        self.has_sinks = False
        """They are started. Before that nobody is asked for their progress: a cluster that has just begun knows no groups."""
        self._log = log
        self._task = tasks[0]
        self._file = place.store
        self._prefix = f"{place.stretch.prefix}sink."
        results = list(dict.fromkeys(task.writes for task in tasks))
        letters = list(dict.fromkeys(task.dead_letters for task in tasks))
        self._topics = {DATABASE: results + letters, WEBHOOK: results, SLACK: results}

    def settings(self, settings: Settings, gateway: GatewayOptions, entrance: Entrance) -> Settings:
        """For the roles: the demo's own sinks and gateway, and none of those that the user has set up."""
        deep_link = f"{entrance.url}/console/event?task={{task}}&event_id={{event_id}}"
        sinks = SinksOptions(
            database=DatabaseOptions(url=f"sqlite:{self._file}"),
            webhooks={NAME: self.receiver.webhook(self._task.name)},
            slack={NAME: self.receiver.slack(self._task.name, deep_link)},
        )
        deliver = replace(
            settings.deliver,
            sinks=(DATABASE, WEBHOOK, SLACK),
            group_prefix=self._prefix,
            simulated="deliver",
            drain_seconds=DRAIN_SECONDS,
        )
        return settings.model_copy(update={"sinks": sinks, "deliver": deliver, "gateway": gateway})

    async def look(self) -> Delivered:
        """Read what is new."""
        rows = await asyncio.to_thread(_asked, self._file, _ROWS, ())
        waiting = {sink: await self._waiting(sink) for sink in self._topics} if self.has_sinks else {}
        receiver = self.receiver
        self.now = Delivered(
            rows=self.now.rows if rows is None else rows,
            webhooks=receiver.webhooks,
            erasures=receiver.erasures,
            repeats=receiver.repeats,
            simulated=receiver.simulated,
            digests=receiver.digests,
            last_digest=tuple(receiver.last_digest),
            refused=receiver.refused,
            waiting=waiting,
            delays_ms=receiver.delays_ms,
        )
        return self.now

    async def has_row(self, task: str, event_id: str) -> bool:
        """Whether the event's verdict is in the database."""
        return await asyncio.to_thread(_asked, self._file, _ROW, (task, event_id)) is not None

    async def _waiting(self, sink: str) -> int:
        count = 0
        for topic in self._topics[sink]:
            try:
                done = await self._log.committed(self._prefix + sink, topic)
                bounds = await self._log.bounds(topic)
            except TopicMissing:
                continue
            for partition, kept in bounds.items():
                known = done.get(partition)
                if known is not None:
                    count += (await unresolved(self._log, partition, known, kept))[0]
                else:
                    count += await self._untouched(partition, kept.low, kept.high)
        return count

    async def _untouched(self, partition: Partition, low: int, high: int) -> int:
        """Nobody has begun there; markers of transactions alone are nothing that waits."""
        return high - low if low < high and await self._log.read(partition, low, 1) else 0


def _asked(file: Path, question: str, values: tuple[str, ...]) -> Any:
    """One value; None where there is none, or nothing to ask yet. Read-only: the file is the sinks'."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            found = connection.execute(question, values).fetchone()
    except sqlite3.Error:  # no file or no tables yet, or somebody has it: the next look will tell
        return None
    return None if found is None else found[0]
