"""What the console's overview counts: what was decided, what died and what it cost, by hour; how webhooks stand.

reading → [queries_counts] → tables

Every question is answered by an index alone, over the time that it asks for. Which tasks and kinds there are is found by
jumping through an index from one to the next, never by reading all of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Text, and_, cast, func, literal, or_, select, tuple_

from penstock.store.queries import FOR_REVIEW
from penstock.store.tables import (
    costs,
    dead_letters,
    verdicts,
    webhook_attempts,
    webhook_endpoints,
    webhook_messages,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection

HOUR = timedelta(hours=1)
DELIVER = "deliver"
MOST_TASKS = 200
MOST_KINDS = 500
MOST_COUNTED = 100_000
"""A kind of dead letter with more is told as "more than"."""
SINCE_SECONDS = 60


class What(NamedTuple):
    """A class of endings: a verdict's label (None where the task has none), or a dead letter's stage and reason."""

    label: str | None = None
    stage: str = ""
    reason: str = ""


@dataclass(slots=True)
class TaskCounts:
    """What became of one task's events."""

    task: str
    hours: dict[datetime, Counter[What]] = field(default_factory=dict)
    """By hour of the clock, the running one last; of the first one only what lies in the time that was asked for."""
    last_hour: Counter[What] = field(default_factory=Counter)
    """The last sixty minutes."""
    last_minute: int = 0
    usd: dict[datetime, float] = field(default_factory=dict)
    last_hour_usd: float = 0.0
    for_review: int = 0
    """Verdicts that a person shall see, of that time."""
    undelivered: int = 0
    """Letters of sinks, of that time: their events have a verdict, which is counted above."""

    def day(self) -> Counter[What]:
        """All hours together."""
        return sum(self.hours.values(), Counter())


@dataclass(slots=True)
class Endpoint:
    """A webhook endpoint."""

    name: str
    disabled_at: datetime | None = None
    why: str = ""
    waiting: int = 0
    oldest: datetime | None = None
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_verdict: str = ""
    last_status: int = 0
    last_detail: str = ""


@dataclass(frozen=True, slots=True)
class LetterKind:
    """Dead letters of one task that died alike."""

    task: str
    stage: str
    reason: str
    count: int
    is_more: bool
    """There are more than were counted."""
    oldest: datetime
    newest: datetime
    sample_id: str
    sample_event: str
    sample_detail: str
    last_day: int = 0


def tasks(connection: Connection) -> list[str]:
    """Every task that has a row."""
    found = {
        *_distinct(connection, verdicts.c.task, MOST_TASKS),
        *_distinct(connection, dead_letters.c.task, MOST_TASKS),
    }
    return sorted(found)


def counts(connection: Connection, names: Iterable[str], now: datetime, hours: int) -> list[TaskCounts]:
    """Of these tasks, over the last so many hours to the second: what lists of the same time show."""
    since = now.astimezone(UTC) - HOUR * hours
    first = since.replace(minute=0, second=0, microsecond=0)
    found = []
    for name in names:
        one = TaskCounts(name, {first + HOUR * n: Counter() for n in range(hours + 1)})
        _verdicts(connection, one, since, now)
        _letters(connection, one, since, now)
        of = verdicts.c
        review = select(func.count()).where(FOR_REVIEW, of.task == name, of.committed_at >= since)
        one.for_review = connection.execute(review.select_from(verdicts)).scalar_one()
        found.append(one)
    _costs(connection, {one.task: one for one in found}, since, now)
    return found


def _verdicts(connection: Connection, one: TaskCounts, since: datetime, now: datetime) -> None:
    c = verdicts.c
    hour = _hour(connection, c.committed_at)
    asked = select(hour, c.label, func.count()).where(c.task == one.task, c.committed_at >= since)
    for at, label, count in connection.execute(asked.group_by(hour, c.label)):
        one.hours.setdefault(_moment(at), Counter())[What(label)] += count
    asked = select(c.label, func.count()).where(c.task == one.task, c.committed_at >= now - HOUR)
    for label, count in connection.execute(asked.group_by(c.label)):
        one.last_hour[What(label)] += count
    lately = c.committed_at >= now - timedelta(seconds=SINCE_SECONDS)
    one.last_minute += connection.execute(
        select(func.count()).select_from(verdicts).where(c.task == one.task, lately)
    ).scalar_one()


def _letters(connection: Connection, one: TaskCounts, since: datetime, now: datetime) -> None:
    c = dead_letters.c
    hour = _hour(connection, c.committed_at)
    what = (c.stage, c.reason)
    died = (c.task == one.task, *_ends(c))
    asked = select(hour, *what, func.count()).where(*died, c.committed_at >= since)
    for at, stage, reason, count in connection.execute(asked.group_by(hour, *what)):
        one.hours.setdefault(_moment(at), Counter())[What(None, stage, reason)] += count
    asked = select(*what, func.count()).where(*died, c.committed_at >= now - HOUR)
    for stage, reason, count in connection.execute(asked.group_by(*what)):
        one.last_hour[What(None, stage, reason)] += count
    kept = select(func.count()).where(c.task == one.task, c.stage == DELIVER, c.committed_at >= since)
    one.undelivered = connection.execute(kept.select_from(dead_letters)).scalar_one()


def _ends(c: Any) -> list[ColumnElement[bool]]:
    """Whether an event's ending is this letter, as the view `events` has it: no sink's, no verdict of it, no later letter."""
    v, e = verdicts.alias("v").c, dead_letters.alias("e").c
    is_later = or_(e.committed_at > c.committed_at, and_(e.committed_at == c.committed_at, e.id > c.id))
    # As values of one row and not NOT EXISTS: PostgreSQL would join with all verdicts where an index answers for each letter.
    verdict = select(v.task).where(v.task == c.task, v.event_id == c.event_id).limit(1).scalar_subquery()
    later = select(e.task).where(e.task == c.task, e.event_id == c.event_id, e.stage != DELIVER, is_later).limit(1)
    return [c.stage != DELIVER, verdict.is_(None), later.scalar_subquery().is_(None)]


def _costs(connection: Connection, by_task: dict[str, TaskCounts], since: datetime, now: datetime) -> None:
    c = costs.c
    hour = _hour(connection, c.committed_at)
    asked = select(hour, c.task, func.sum(c.nanousd)).where(c.committed_at >= since).group_by(hour, c.task)
    for at, task, nanousd in connection.execute(asked):
        if task in by_task:
            by_task[task].usd[_moment(at)] = int(nanousd) / 1e9
    asked = select(c.task, func.sum(c.nanousd)).where(c.committed_at >= now - HOUR).group_by(c.task)
    for task, nanousd in connection.execute(asked):
        if task in by_task:
            by_task[task].last_hour_usd = int(nanousd) / 1e9


def kinds(connection: Connection, names: Iterable[str], now: datetime) -> list[LetterKind]:
    """Dead letters by task, stage and reason: how many, since when, the newest as a sample."""
    c = dead_letters.c
    found = []
    for task in names:
        for stage, reason in _pairs(connection, task):
            alike = (c.task == task, c.stage == stage, c.reason == reason)
            some = select(c.committed_at).where(*alike).limit(MOST_COUNTED + 1).subquery()
            count = connection.execute(select(func.count()).select_from(some)).scalar_one()
            newest = select(c.committed_at, c.id, c.event_id, c.detail).where(*alike).order_by(c.committed_at.desc())
            last = connection.execute(newest.limit(1)).first()
            oldest = connection.execute(select(func.min(c.committed_at)).where(*alike)).scalar()
            if last is None or oldest is None:
                continue
            lately = select(c.committed_at).where(*alike, c.committed_at >= now - timedelta(days=1))
            day = select(func.count()).select_from(lately.limit(MOST_COUNTED + 1).subquery())
            last_day = connection.execute(day).scalar_one()
            of = (min(count, MOST_COUNTED), count > MOST_COUNTED, oldest, last[0], last[1], last[2], last[3])
            found.append(LetterKind(task, stage, reason, *of, last_day=last_day))
    return sorted(found, key=lambda one: one.newest, reverse=True)


def endpoints(connection: Connection, names: Sequence[str]) -> list[Endpoint]:
    """Those of the settings and those that have rows."""
    m, a, e = webhook_messages.c, webhook_attempts.c, webhook_endpoints.c
    known = {name: Endpoint(name) for name in names}
    for name, disabled_at, why in connection.execute(select(e.name, e.disabled_at, e.why)):
        known[name] = Endpoint(name, disabled_at, why)
    for column in (m.endpoint, a.endpoint):
        known |= {name: Endpoint(name) for name in _distinct(connection, column, MOST_TASKS) if name not in known}
    for one in known.values():
        waits = select(m.next_at, m.created_at).where(m.endpoint == one.name).order_by(m.next_at).limit(MOST_COUNTED)
        some = waits.subquery()
        totals = select(func.count(), func.min(some.c.created_at), func.min(some.c.next_at)).select_from(some)
        one.waiting, one.oldest, one.next_at = connection.execute(totals).one()
        last = select(a.at, a.verdict, a.status, a.detail).where(a.endpoint == one.name).order_by(a.at.desc()).limit(1)
        row = connection.execute(last).first()
        if row is not None:
            one.last_at, one.last_verdict, one.last_status, one.last_detail = row
    return sorted(known.values(), key=lambda one: one.name)


def _distinct(connection: Connection, column: ColumnElement[Any], most: int) -> list[str]:
    """The values of an index's first column, a step each."""
    found: list[str] = []
    asked = select(func.min(column))
    value = connection.execute(asked).scalar()
    while value is not None and len(found) < most:
        found.append(value)
        value = connection.execute(asked.where(column > value)).scalar()
    return found


def _pairs(connection: Connection, task: str) -> list[tuple[str, str]]:
    """Stages and reasons of a task's dead letters, a step each."""
    c = dead_letters.c
    found: list[tuple[str, str]] = []
    asked = select(c.stage, c.reason).where(c.task == task).order_by(c.stage, c.reason).limit(1)
    row = connection.execute(asked).first()
    while row is not None and len(found) < MOST_KINDS:
        found.append((row[0], row[1]))
        behind = tuple_(c.stage, c.reason) > tuple_(literal(row[0], c.stage.type), literal(row[1], c.reason.type))
        row = connection.execute(asked.where(behind)).first()
    return found


def _hour(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The hour that a moment lies in, in UTC."""
    if connection.dialect.name == "postgresql":
        return func.date_trunc("hour", column, "UTC")
    return func.substr(cast(column, Text), 1, 13)


def _moment(hour: datetime | str) -> datetime:
    if isinstance(hour, str):
        return datetime.strptime(hour, "%Y-%m-%d %H").replace(tzinfo=UTC)
    return hour.astimezone(UTC)
