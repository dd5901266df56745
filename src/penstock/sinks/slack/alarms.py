"""What people on call are told besides results: a ceiling that is nearly spent, a task that falls behind.

log, penstock-state → [alarms] → sink

What was told stands in the state topic, so that neither a restart nor another process tells it again. An alarm that was posted
just before a crash may come a second time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.errors import LogDamaged
from penstock.flow.claims import Claims, read_entry
from penstock.flow.standing import standings_of
from penstock.log.state import STATE_TOPIC, read_state, state_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.flow.ceilings import AtCeiling, Ceiling
    from penstock.flow.standing import Standing
    from penstock.log.base import Bounds, EventLog
    from penstock.log.offset_map import OffsetMap
    from penstock.record import Partition, Record
    from penstock.sinks.slack.options import SlackOptions

logger = logging.getLogger("penstock.deliver")
PAGE = 2_000
OVER_BELOW = 0.5
"""Of `lag_seconds`: a task that hovers around it is not told about again and again."""
_MARKS = (b'"spend"', b'"alarm"')
_THEN: dict[AtCeiling, str] = {
    "wait": "At the ceiling workers wait until the period ends; nothing is lost.",
    "cheaper": "At the ceiling the answers of cheaper steps stand.",
    "bury": "At the ceiling events become dead letters (over_budget).",
    "stop": "At the ceiling workers stop.",
}


class Followed(NamedTuple):
    """A task whose lag is watched."""

    task: str
    group: str
    topic: str


class Alarm(NamedTuple):
    """One message to people on call."""

    key: str
    """Of which it is the newest: what is remembered of it stands under this."""
    title: str
    lines: tuple[str, ...]
    remembered: dict[str, Any] | None
    """None: it is over."""


class Alarms:
    """Of one channel. `due` says what is to be told now, `told` that it was."""

    def __init__(
        self,
        log: EventLog,
        group: str,
        options: SlackOptions,
        *,
        follows: Sequence[Followed] = (),
        ceilings: Sequence[Ceiling] = (),
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._log, self._group, self._options, self._unix = log, group, options, unix
        self._follows = follows if "lag" in options.kinds else ()
        self._ceilings = ceilings if "budget" in options.kinds else ()
        self._claims = Claims(time.monotonic, unix)
        self._offsets: dict[Partition, int] = {}
        self._told: dict[str, dict[str, Any]] = {}

    async def due(self) -> list[Alarm]:
        """Look at everything once. Raises what the log raises."""
        await self._read_state()
        found = [alarm for standing in self._standings() if (alarm := self._of_budget(standing))]
        for followed in self._follows:
            waiting, oldest_ms = await self._waiting(followed)
            seconds = 0.0 if oldest_ms is None else max(0.0, self._unix() - oldest_ms / 1000)
            if alarm := self._of_lag(followed.task, waiting, seconds):
                found.append(alarm)
        return found

    async def told(self, alarm: Alarm) -> None:
        """It was posted, or Slack will never take it."""
        await self._log.append([state_record(self._group, "alarm", alarm.key, alarm.remembered)])
        self._remember(alarm.key, alarm.remembered)

    # --- budget ----------------------------------------------------------------------------------------------------

    def _standings(self) -> Iterator[Standing]:
        self._claims.look()
        return standings_of(self._claims, self._ceilings, self._unix())

    def _of_budget(self, standing: Standing) -> Alarm | None:
        ceiling = standing.ceiling
        passed = max((part for part in self._options.budget_at if standing.part >= part), default=0.0)
        key = f"budget {ceiling.setting}"
        told = self._told.get(key, {})
        if not passed or (told.get("period") == standing.label and told.get("part", 0.0) >= passed):
            return None
        title = f"{standing.part:.0%} of a budget: {ceiling.setting}"
        return Alarm(key, title, (str(standing), _THEN[ceiling.at_ceiling]), {"period": standing.label, "part": passed})

    # --- lag -------------------------------------------------------------------------------------------------------

    def _of_lag(self, task: str, waiting: int, seconds: float) -> Alarm | None:
        key, now = f"lag {task}", self._unix()
        told, most = self._told.get(key), self._options.lag_seconds
        if told is not None and seconds < most * OVER_BELOW:
            return Alarm(key, f"{task} has caught up", (_count(waiting),), None)
        is_new = told is None or now - float(told.get("at", 0.0)) >= self._options.lag_repeat_seconds
        if seconds < most or not is_new:
            return None
        title = f"{task} is behind: the oldest event has waited for {_span(seconds)}"
        lines = (_count(waiting), "What each partition waits for: penstock status")
        return Alarm(key, title, lines, {"at": now})

    async def _waiting(self, followed: Followed) -> tuple[int, int | None]:
        """How many events the task has not ended, and the timestamp of the oldest. Before it has ever begun none counts."""
        done = await self._log.committed(followed.group, followed.topic)
        waiting, oldest = 0, None
        for partition, kept in (await self._log.bounds(followed.topic)).items():
            if partition not in done:
                continue
            count, timestamp_ms = await self._head(partition, done[partition], kept)
            waiting += count
            if timestamp_ms is not None:
                oldest = timestamp_ms if oldest is None else min(oldest, timestamp_ms)
        return waiting, oldest

    async def _head(self, partition: Partition, done: OffsetMap, kept: Bounds) -> tuple[int, int | None]:
        base = max(done.base, kept.low)
        count = kept.high - base - done.from_offset(base).count_above()
        first = await self._log.read(partition, base, 1) if count > 0 else []
        return (count, first[0].timestamp_ms) if first else (0, None)  # behind the last there may be markers only

    # --- what was told, and what is spent -----------------------------------------------------------------------------

    async def _read_state(self) -> None:
        for partition, kept in (await self._log.bounds(STATE_TOPIC)).items():
            at = max(self._offsets.get(partition, 0), kept.low)
            while records := await self._log.read(partition, at, PAGE):
                for record in records:
                    self._hear(record)
                at = records[-1].offset + 1
                self._offsets[partition] = at

    def _hear(self, record: Record) -> None:
        if not any(mark in (record.key or b"") for mark in _MARKS):
            return
        try:
            state = read_state(record)
            if state.kind == "spend" and self._ceilings:
                entry = read_entry(state)
                self._claims.hear(entry, age_seconds=max(0.0, self._unix() - entry.at))
            elif state.kind == "alarm" and state.task == self._group:
                self._remember(state.id, state.value)
        except LogDamaged as error:
            logger.warning("%s", error)

    def _remember(self, key: str, value: dict[str, Any] | None) -> None:
        if value is None:
            self._told.pop(key, None)
        else:
            self._told[key] = value


def _count(waiting: int) -> str:
    return "1 event waits." if waiting == 1 else f"{waiting:,} events wait."


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
