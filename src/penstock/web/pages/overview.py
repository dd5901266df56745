"""The first page: what each task decided lately and at what cost, who waits and why, how sinks and endpoints stand.

database, looking → [overview] → overview.html
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.errors import PenstockError
from penstock.ops.groups import GroupTopic, duration
from penstock.store import queries_counts as store
from penstock.web.pages import faults
from penstock.web.pages.chart import Bar, chart
from penstock.web.pages.kept import Kept
from penstock.web.pages.render import COLOURS, colour, usd
from penstock.web.pages.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markupsafe import Markup
    from sqlalchemy import Connection

    from penstock.ops.asking import Alike, SinkStanding
    from penstock.store.queries_counts import Endpoint, TaskCounts, What
    from penstock.web.pages.database import Database
    from penstock.web.pages.fields import Choice
    from penstock.web.pages.looking import Looking, Standing

HOURS = 24
DEAD = "c-dead"
ATTENTION = {"stopped": "bad", "away": "warn", "paused": "warn"}
CALM = frozenset({"asked", "nothing_to_read", "company", "other_worker"})


class Counted(NamedTuple):
    """What the database said."""

    at: datetime
    tasks: list[TaskCounts]
    endpoints: list[Endpoint]


class Line(NamedTuple):
    """One class of a task's endings."""

    name: str | None
    colour: str
    hour: int
    day: int
    share: float
    query: Mapping[str, str] | None
    """What leads to its list; None where no filter says it."""
    is_dead: bool = False
    stage: str = ""


@dataclass(slots=True)
class TaskView:
    """One task."""

    name: str
    lines: list[Line]
    per_second: float
    hour: int
    day: int
    dead_hour: int
    dead_day: int
    usd_hour: float
    usd_day: float
    for_review: int
    undelivered: int
    skipped: int | None
    pace: Markup
    pace_told: str
    cost: Markup
    cost_told: str


@dataclass(slots=True)
class SinkView:
    """One sink: its group, and what its processes say of it."""

    group: str
    lag: int = 0
    lag_seconds: float = 0.0
    workers: int = 0
    topics: list[str] = field(default_factory=list)
    told: list[SinkStanding] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The worst of its processes' states."""
        held = {one.held for one in self.told}
        for state in ("stopped", "away", "paused"):
            if state in held:
                return state
        return "delivers" if self.told or self.workers else "nobody works on it"

    @property
    def why(self) -> str:
        """What is wrong."""
        return next((one.why for one in self.told if one.why), "")

    @property
    def mood(self) -> str:
        """For the eye."""
        if self.state in ATTENTION:
            return ATTENTION[self.state]
        if self.state == "nobody works on it":
            return "warn" if self.lag else "idle"
        return "good"


class Overview:
    """Makes it, from counts that all readers share."""

    def __init__(
        self,
        database: Database,
        looking: Looking,
        choices: Mapping[str, Sequence[Choice]],
        *,
        endpoints: Sequence[str],
        sink_prefix: str,
    ) -> None:
        self._database, self._looking, self._choices = database, looking, choices
        self._endpoints, self._sink_prefix = list(endpoints), sink_prefix
        self._counted = Kept(self._count, at_least_seconds=looking.options.live_seconds)

    async def close(self) -> None:
        """Nothing is being counted any more."""
        await self._counted.close()

    async def given(self) -> dict[str, Any]:
        """What the template is given."""
        counted, standing = await asyncio.gather(self._of_database(), self._of_log())
        look = standing if not isinstance(standing, faults.Trouble) else None
        found: dict[str, Any] = {"now": time.time(), "log_trouble": None if look else standing}
        if isinstance(counted, faults.Trouble):
            found |= {"trouble": counted, "tasks": [], "endpoints": [], "counted_at": None}
        else:
            tasks = [self._task(one, look) for one in counted.tasks]
            found |= {"trouble": None, "tasks": tasks, "endpoints": counted.endpoints, "counted_at": counted.at}
        found |= {"standing": look, **self._groups(look)}
        return found | {"attention": _attention(found)}

    async def _of_database(self) -> Counted | faults.Trouble:
        try:
            return await self._counted.get(self._looking.options.query_seconds + 1)
        except TimeoutError:
            slow = f"no counts within {self._looking.options.query_seconds:g} s"
            return faults.Trouble("The database is slow", slow, ("Or give it more time: `console.query_seconds`.",))
        except PenstockError as error:
            return faults.of_database(error, self._database.shown)

    async def _of_log(self) -> Standing | faults.Trouble:
        try:
            return await self._looking.standing()
        except PenstockError as error:
            return faults.of_log(error)

    async def _count(self) -> Counted:
        served = list(self._choices)

        def question(connection: Connection) -> Counted:
            now = datetime.now(UTC)
            names = [*served, *(name for name in store.tasks(connection) if name not in served)]
            return Counted(
                now, store.counts(connection, names, now, HOURS), store.endpoints(connection, self._endpoints)
            )

        return await self._database.ask(question)

    def _groups(self, look: Standing | None) -> dict[str, Any]:
        if look is None:
            return {"lags": [], "waits": [], "sinks": [], "unreadable": {}}
        sinks: dict[str, SinkView] = {}
        lags: list[GroupTopic] = []
        for row in look.groups.rows:
            if not row.group.startswith(self._sink_prefix):
                lags.append(row)
                continue
            one = sinks.setdefault(row.group, SinkView(row.group))
            one.lag += row.lag_events
            one.lag_seconds = max(one.lag_seconds, row.lag_seconds)
            one.workers = max(one.workers, len(row.members))
            one.topics.append(row.topic)
        for told in look.sinks:
            sinks.setdefault(told.group or told.sink, SinkView(told.group or told.sink)).told.append(told)
        tasks = [row for row in lags if row.lag_events or not row.topic.endswith(".retry")]
        waits = [one for one in look.waits if not one.group.startswith(self._sink_prefix)]
        unreadable = look.groups.unreadable
        return {"lags": tasks, "waits": waits, "sinks": list(sinks.values()), "unreadable": unreadable}

    def _task(self, counts: TaskCounts, look: Standing | None) -> TaskView:
        choices = self._choices.get(counts.task, ())
        order = next((one.values for one in choices if one.is_label), ())
        day = counts.day()
        classes = sorted({*day, *counts.last_hour}, key=lambda what: _rank(what, order))
        total = sum(day.values()) or 1
        lines = [_line(what, counts.last_hour[what], day[what], total, order, choices) for what in classes]
        dead = [line for line in lines if line.is_dead]
        paces = [_pace_bar(hour, of, order) for hour, of in sorted(counts.hours.items())]
        costs = [_cost_bar(hour, counts.usd.get(hour, 0.0)) for hour in sorted(counts.hours)]
        return TaskView(
            counts.task,
            lines,
            counts.last_minute / store.SINCE_SECONDS,
            sum(counts.last_hour.values()),
            sum(day.values()),
            sum(line.hour for line in dead),
            sum(line.day for line in dead),
            counts.last_hour_usd,
            sum(counts.usd.values()),
            counts.for_review,
            counts.undelivered,
            look.skipped(counts.task) if look else None,
            chart(paces, plain(f"events of {counts.task} by hour, the last {HOURS} hours")),
            _peak(counts.hours),
            chart(costs, plain(f"cost of {counts.task} by hour, the last {HOURS} hours")),
            usd(max(counts.usd.values(), default=0.0)),
        )


def _line(what: What, hour: int, day: int, total: int, order: Sequence[str], choices: Sequence[Choice]) -> Line:
    if what.reason:
        query = {"kind": "letter", "stage": what.stage, "reason": what.reason}
        return Line(what.reason, DEAD, hour, day, day / total, query, is_dead=True, stage=what.stage)
    label = next((one.name for one in choices if one.is_label), "")
    leads = {"kind": "verdict", f"f.{label}": what.label} if label and what.label is not None else None
    return Line(what.label, colour(what.label, order), hour, day, day / total, leads)


def _rank(what: What, order: Sequence[str]) -> tuple[Any, ...]:
    """As the task declares its values; what it does not know behind them, dead letters last."""
    if what.reason:
        return 2, 0, what.stage, what.reason
    known = list(order)
    return (0, known.index(what.label), "", "") if what.label in known else (1, 0, what.label or "", "")


def _pace_bar(hour: datetime, of: Counter[What], order: Sequence[str]) -> Bar:
    parts = [
        (DEAD if what.reason else colour(what.label, order), float(count))
        for what, count in sorted(of.items(), key=lambda item: _rank(item[0], order))
    ]
    each = ", ".join(
        f"{count:,} {plain(what.reason or what.label or 'without a label', 40)}"
        for what, count in of.most_common(COLOURS)
    )
    total = sum(of.values())
    return Bar(
        f"{hour:%d %b %H:00} UTC: {total:,} events, {_pace(total, hour)}/s" + (f" ({each})" if each else ""), parts
    )


def _cost_bar(hour: datetime, amount: float) -> Bar:
    return Bar(f"{hour:%d %b %H:00} UTC: {usd(amount)}", [("cost", amount)])


def _pace(total: int, hour: datetime) -> str:
    now = datetime.now(UTC)
    begin, end = max(hour, now - store.HOUR * HOURS), min(hour + store.HOUR, now)
    seconds = min(3600.0, max(1.0, (end - begin).total_seconds()))
    return f"{total / seconds:,.2f}"


def _peak(hours: Mapping[datetime, Counter[What]]) -> str:
    totals = {hour: sum(of.values()) for hour, of in hours.items()}
    most = max(totals, key=lambda hour: totals[hour], default=None)
    return f"{_pace(totals[most], most)}/s" if most is not None and totals[most] else "0/s"


def _attention(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a person should know first: its gravity and what is said."""
    disabled = [one for one in found["endpoints"] if one.disabled_at is not None]
    return sorted(
        [
            *_of_sinks(found["sinks"]),
            *(("bad", f"group {group} cannot be read: {why}") for group, why in found["unreadable"].items()),
            *_of_waits(found["waits"], found["now"]),
            *_of_lags(found["lags"]),
            *(("bad", f"webhook {one.name} is disabled: {one.why}") for one in disabled),
        ]
    )


def _of_sinks(sinks: Sequence[SinkView]) -> Iterator[tuple[str, str]]:
    for sink in sinks:
        if sink.mood in {"bad", "warn"}:
            lag = f", {sink.lag:,} wait" if sink.lag else ""
            yield sink.mood, f"{sink.group}: {sink.state}{f' ({sink.why})' if sink.why else ''}{lag}"


def _of_waits(waits: Sequence[Alike], now: float) -> Iterator[tuple[str, str]]:
    for one in waits:
        if one.waits and one.rows[0].cause not in CALM:
            lasts = one.lasts(now)
            yield "warn", f"{one.group}, {one.topic} {one.partitions}: {one.told}{f', for {lasts}' if lasts else ''}"


def _of_lags(lags: Sequence[GroupTopic]) -> Iterator[tuple[str, str]]:
    for row in lags:
        if row.lost:
            yield "bad", f"{row.group}: retention deleted {row.lost:,} unread records of {row.topic}"
        if row.lag_events and not row.members:
            oldest = duration(row.lag_seconds)
            yield "warn", f"{row.group}: {row.lag_events:,} wait in {row.topic} for {oldest} and nobody works on them"
