"""One account, many workers, nobody between them: how much of each limit is ours at this moment.

account → [fleet] → limits

The account's own bucket is the notice board: every reply shows every worker how full it stands. Each worker answers the
same level with the same stretch of its base share, so shares stay in proportion whoever came first. A full bucket means
that others leave something: stretch grows, step by step. An emptying one means that together we take too much: it
shrinks, several times as fast. A 429 shrinks it at once. See `docs/explanation/flow-control.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.errors import SettingsError
from penstock.flow.account import Tank
from penstock.flow.base import positive

STEADY_LEVEL = 0.35
"""At this level of the account's bucket everybody takes exactly the base share."""
_SPARE_LEVEL = 0.3
_NEAR, _FAR = 4.0, 9.0
"""Gentle about the steady level, steep far from it: a level of 1 lends up to 150 times the base share, one of 0 leaves a sixth."""
_OVERDRIVE = 1.05
"""A single worker may take a little more than the limit while the bucket is fuller than steady: idle seconds are made up for."""
_FULL = 0.9
_KEPT_LEVEL = 0.1
_KEPT_NEWS = 4.0
"""Of what the account has saved up so much above the steady level, and so many times the age of the news, is left alone."""
_SPENT_IN_SECONDS = 6.0
_SPENT_IN_NEWS = 4.0
"""The rest is spent in this time, or in so many times the age of the news where that is longer."""
_DRAINING = 0.25
"""While together we take so much more than the limit, nobody borrows more."""
_CALM_NEWS = 15.0
"""An account whose bucket holds less than so many times the age of the news is answered the more gently, the less it holds."""
_WARNED = 0.2
"""After a 429 a low level is answered at least so firmly."""
_SETTLING_SECONDS = 4.0
_FALLS_TIMES_FASTER = 4.0
_LEAST_STRETCH = math.log(0.05)
_LEAST_BLIND = math.log(0.5)
"""As far as a level that may be misread shrinks a share without any 429."""
_REFUSED = 0.3
_REMEMBERED_SECONDS = 60.0
_MOST_WEIGHT = 100_000.0
_LEAST_SHARE = 0.01
"""Of a worker that owns nothing now: what is in flight still comes to its end."""


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """How workers share one account."""

    rise_per_second: float = 0.1
    """So fast a share may grow while others leave something unused (0.1: by a tenth each second)."""
    weight_of_others: float = 0.0
    """Weights, added up, of tasks that share the account and run in other deployments: this one's base shares leave room for them."""

    def __post_init__(self) -> None:
        """A share that cannot grow would never use what others leave."""
        positive("fleet.rise_per_second", self.rise_per_second)
        others = self.weight_of_others
        if isinstance(others, bool) or not isinstance(others, int | float) or not 0 <= others <= _MOST_WEIGHT:
            raise SettingsError(f"fleet.weight_of_others={others!r}: a number from 0 to {_MOST_WEIGHT:,.0f}")


Need = Literal["binding", "beside", "none"]
"""Calls wait for this limit; for another one of the family; for none."""


class Stretch:
    """Of one task's share of one limit: 0 is the base share, above it is borrowed, below it given up. A logarithm."""

    __slots__ = ("_at", "_refused_at", "_rise", "value")

    def __init__(self, options: FleetOptions, now: float) -> None:
        self._rise = options.rise_per_second
        self._at = now
        self._refused_at = -math.inf
        self.value = 0.0

    def move(self, tank: Tank, base: float, now: float, *, need: Need, news_seconds: float) -> float:
        """Follow the account's level; the share of the whole limit that is granted now."""
        elapsed, self._at = min(now - self._at, 5.0), max(now, self._at)
        # The account's bucket says nothing of a ceiling below its limit: that is divided by base shares, and nobody borrows of it.
        most = math.log(min(_OVERDRIVE / base, tank.headroom))
        # What waits for nothing borrows nothing; what waits for another limit keeps what it has of this one.
        bound = {"binding": most, "beside": self.value, "none": 0.0}[need]
        goal = min(self._goal(tank, now, news_seconds), bound, most)
        step = (goal - self.value) * min(1.0, elapsed / _SETTLING_SECONDS)
        # In the time that news take no more may go wrong than the account's bucket can bear.
        rise = min(self._rise, 0.25 / news_seconds) * min(1.0, tank.holds_seconds / 15.0)
        fall = min(1.0, _FALLS_TIMES_FASTER * rise)
        if self.value < 0.0 and not self._is_warned(
            now
        ):  # the way back to base shares, which add up to the limit, is safe
            rise = fall
        elif tank.trend * tank.holds_seconds < -_DRAINING:
            rise = 0.0
        self.value = min(self.value + min(max(step, -fall * elapsed), rise * elapsed), most)
        return base * math.exp(self.value)

    def savings(self, tank: Tank, now: float, news_seconds: float) -> float:
        """How many times the base share may be used on top, of what the account has saved up; 0 where nobody can tell."""
        level = tank.level(now)
        if level is None or not tank.is_sized or self._is_warned(now):
            return 0.0
        seen_seconds = min(level, level + tank.trend * news_seconds) * tank.holds_seconds
        saved = max(seen_seconds - kept_seconds(tank.holds_seconds, news_seconds), 0.0) / spent_in_seconds(news_seconds)
        return min(saved, max(tank.headroom - math.exp(self.value), 0.0))

    def refused(self, now: float, news_seconds: float) -> None:
        """A 429. Calls that were on their way together are turned away together: they count once."""
        if now - self._refused_at >= max(2.0, news_seconds):
            self._refused_at = now
            self.value = max(self.value - _REFUSED, _LEAST_STRETCH)

    def _goal(self, tank: Tank, now: float, news_seconds: float) -> float:
        level = tank.level(now)
        if level is None:  # nothing known: the base share, neither more nor less
            return 0.0
        # Where the level will be when this answer has come through, and what is in flight is counted.
        ahead = level + tank.trend * (2.0 * news_seconds + _SETTLING_SECONDS)
        off = min(max(ahead, 0.0), 1.0) - _steady(tank.holds_seconds)
        calm = min(1.0, tank.holds_seconds / (_CALM_NEWS * news_seconds))
        if off < 0.0 and self._is_warned(now):
            calm = max(calm, _WARNED)
        goal = (_NEAR * off + _FAR * off**3) * calm
        if min(level, ahead) > _FULL:  # whatever its size: more comes in than all of us take
            goal = max(goal, self.value + 1.0)
        least = _LEAST_STRETCH if tank.is_sized or self._is_warned(now) else _LEAST_BLIND
        return max(goal, least)

    def _is_warned(self, now: float) -> bool:
        return now - self._refused_at < _REMEMBERED_SECONDS


def kept_seconds(holds_seconds: float, news_seconds: float) -> float:
    """How much of what the account's bucket holds is left alone, as time of the limit: the spare for news that come late."""
    return max((_steady(holds_seconds) + _KEPT_LEVEL) * holds_seconds, _KEPT_NEWS * news_seconds)


def spent_in_seconds(news_seconds: float) -> float:
    """In so long what is saved up beyond that would be spent, at the pace at which it begins."""
    return max(_SPENT_IN_SECONDS, _SPENT_IN_NEWS * news_seconds)


def _steady(holds_seconds: float) -> float:
    """The level at which everybody takes the base share. A small bucket empties before anyone can answer: more is kept in it."""
    return STEADY_LEVEL + (1.0 - min(1.0, holds_seconds / 30.0)) * _SPARE_LEVEL


class Shares:
    """The base shares of this process's tasks: its part of each task's partitions times the task's part of all weights."""

    __slots__ = ("_parts", "_weight_of_all", "_weights")

    def __init__(self, weights: Mapping[str, float] | None = None, weight_of_others: float = 0.0) -> None:
        self._weights = dict(weights or {})
        self._weight_of_all = sum(self._weights.values()) + weight_of_others
        self._parts: dict[str, float] = {}

    def note(self, task: str, assigned: int, total: int) -> None:
        """So many of the task's partitions are ours."""
        self._parts[task] = min(max(assigned / total, 0.0), 1.0) if total > 0 else 1.0

    def base(self, task: str) -> float:
        """The task's part of the account in this process; of a task that nobody declared, all of it."""
        part = self._parts.get(task, 1.0)
        weight = self._weights.get(task)
        if weight is not None:
            part *= weight / self._weight_of_all
        return max(part, _LEAST_SHARE)
