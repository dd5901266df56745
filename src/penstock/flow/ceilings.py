"""How much may be spent, in which period, by whom, and what happens when it is: the options of the spend guard.

settings → [ceilings] → spend

Periods are those of the calendar in UTC: an hour, a day, a month. A call counts in the periods in which it begins.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from penstock.errors import SettingsError

NANOUSD = 1_000_000_000
LEAST_USD = 0.000_001
MOST_USD = 1_000_000_000.0

Period = Literal["hour", "day", "month"]
PERIODS: tuple[Period, ...] = ("hour", "day", "month")
AtCeiling = Literal["wait", "cheaper", "bury", "stop"]
Scope = Literal["all", "task", "model"]


@dataclass(frozen=True, slots=True)
class Ceilings:
    """At most so many dollars in an hour, a day and a month (UTC), over all workers."""

    hour_usd: float | None = None
    day_usd: float | None = None
    month_usd: float | None = None
    at_ceiling: AtCeiling | None = None
    """What happens there; as `spend.at_ceiling` says unless given."""


@dataclass(frozen=True, slots=True)
class SpendOptions:
    """How much all workers of a log may spend together, in US dollars. Without any, the account's own limits decide."""

    hour_usd: float | None = None
    """In an hour of the clock (UTC)."""
    day_usd: float | None = None
    """In a day (UTC)."""
    month_usd: float | None = None
    """In a month of the calendar (UTC)."""
    at_ceiling: AtCeiling = "wait"
    """`wait`: till the period ends. `cheaper`: the answer of the cheaper step stands, where there is one. `bury`: a dead
    letter (`over_budget`). `stop`: the worker ends."""
    tasks: dict[str, Ceilings] = field(default_factory=dict)
    """`[spend.tasks.NAME]`: ceilings of one task."""
    models: dict[str, Ceilings] = field(default_factory=dict)
    """`[spend.models.NAME]`: ceilings of one model, by alias or id."""

    def __post_init__(self) -> None:
        """Refuse what can't be a ceiling, naming the setting and what to write."""
        _check("spend", self)
        for table, entries in (("tasks", self.tasks), ("models", self.models)):
            for name, ceilings in entries.items():
                _check(f"spend.{table}.{name}", ceilings)

    def ceilings(self) -> Iterator[Ceiling]:
        """Every ceiling that is set."""
        yield from _ceilings("spend", "all", "", self, self.at_ceiling)
        for name, own in self.tasks.items():
            yield from _ceilings(f"spend.tasks.{name}", "task", name, own, self.at_ceiling)
        for name, own in self.models.items():
            yield from _ceilings(f"spend.models.{name}", "model", name, own, self.at_ceiling)

    def idle(self) -> list[str]:
        """Ceilings that can never be met, because a longer period's is lower: fine, but worth a word."""
        told = []
        for table, owner in self._tables():
            pairs = [("hour", "day"), ("hour", "month"), ("day", "month")]
            for short, long in pairs:
                low, high = getattr(owner, f"{long}_usd"), getattr(owner, f"{short}_usd")
                if low is not None and high is not None and low < high:
                    told.append(
                        f"{table}.{short}_usd={high:g} is more than {table}.{long}_usd={low:g}: it can never be met"
                    )
        return told

    def strangers(self, tasks: Collection[str]) -> list[str]:
        """Tables of tasks that are not among these: another worker's, or a slip of the pen that holds nobody."""
        return [
            f"spend.tasks.{name} covers none of this worker's tasks ({', '.join(sorted(tasks))}): is it spelt as the task is?"
            for name in self.tasks
            if name not in tasks
        ]

    def _tables(self) -> Iterator[tuple[str, SpendOptions | Ceilings]]:
        yield "spend", self
        yield from ((f"spend.tasks.{name}", own) for name, own in self.tasks.items())
        yield from ((f"spend.models.{name}", own) for name, own in self.models.items())


class Ceiling(NamedTuple):
    """One ceiling in force."""

    setting: str
    """As the user wrote it."""
    scope: Scope
    name: str
    """The task or the model; empty where it is for all."""
    period: Period
    nanousd: int
    at_ceiling: AtCeiling

    @property
    def usd(self) -> float:
        """For people."""
        return self.nanousd / NANOUSD

    def covers(self, task: str, model: str) -> bool:
        """Whether a call of this task with this model counts towards it."""
        return self.scope == "all" or self.name == (task if self.scope == "task" else model)


class Now(NamedTuple):
    """The periods of one moment, and when each ends."""

    labels: tuple[str, str, str]
    """Of hour, day and month: `2026-11-24T05`, `2026-11-24`, `2026-11`."""
    ends: tuple[float, float, float]
    """As Unix time."""


def periods_at(unix: float) -> Now:
    """The calendar periods (UTC) that a moment lies in."""
    now = dt.datetime.fromtimestamp(unix, dt.UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    month = day.replace(day=1)
    following = (month + dt.timedelta(days=32)).replace(day=1)
    ends = (hour + dt.timedelta(hours=1), day + dt.timedelta(days=1), following)
    return Now(
        (now.strftime("%Y-%m-%dT%H"), now.strftime("%Y-%m-%d"), now.strftime("%Y-%m")),
        (ends[0].timestamp(), ends[1].timestamp(), ends[2].timestamp()),
    )


_FORMS = {13: "%Y-%m-%dT%H", 10: "%Y-%m-%d", 7: "%Y-%m"}


@lru_cache(maxsize=1_000)
def end_of(label: str) -> float:
    """When the period of that name ends, as Unix time; raises ValueError where it names none."""
    form = _FORMS.get(len(label))
    if form is None:
        raise ValueError(f"{label!r} is no period")
    start = dt.datetime.strptime(label, form).replace(tzinfo=dt.UTC)
    return periods_at(start.timestamp()).ends[("%Y-%m-%dT%H", "%Y-%m-%d", "%Y-%m").index(form)]


def _ceilings(
    table: str, scope: Scope, name: str, owner: SpendOptions | Ceilings, at_ceiling: AtCeiling
) -> Iterator[Ceiling]:
    for period in PERIODS:
        usd = getattr(owner, f"{period}_usd")
        if usd is not None:
            nanousd = int((Decimal(str(usd)) * NANOUSD).to_integral_value(rounding=ROUND_FLOOR))
            yield Ceiling(f"{table}.{period}_usd", scope, name, period, nanousd, owner.at_ceiling or at_ceiling)


def _check(table: str, owner: SpendOptions | Ceilings) -> None:
    for period in PERIODS:
        usd = getattr(owner, f"{period}_usd")
        if usd is not None:
            _check_usd(f"{table}.{period}_usd", usd)
    if owner.at_ceiling is not None and owner.at_ceiling not in get_args(AtCeiling):
        raise SettingsError(f"{table}.at_ceiling={owner.at_ceiling!r}: write wait, cheaper, bury or stop")


def _check_usd(setting: str, usd: object) -> None:
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not math.isfinite(usd) or usd < 0:
        raise SettingsError(f"{setting}={usd!r}: write dollars, a number greater than 0")
    if usd == 0:
        raise SettingsError(
            f"{setting}=0 would hold every event for ever: write dollars, greater than 0, or leave it out for no "
            "ceiling; to spend nothing, stop the workers"
        )
    if not LEAST_USD <= usd <= MOST_USD:
        raise SettingsError(f"{setting}={usd!r}: write dollars, from {LEAST_USD:f} to {MOST_USD:,.0f}")
