"""The account's rate limits, and this worker's granted share of them: three token buckets per model family and task.

claude → [limits] → gate
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from penstock.errors import SettingsError
from penstock.flow.account import Tank
from penstock.flow.base import KINDS, Clock, Estimate, Kind, Usage, Wait, positive
from penstock.flow.bucket import Bucket
from penstock.flow.fleet import FleetOptions, Shares, Stretch
from penstock.flow.headers import Seen
from penstock.flow.lanes import Family, Lane
from penstock.flow.ramp import Ramp, RampOptions

_MAX_BLOCK_SECONDS = 3600.0
_LOOK_SECONDS = 0.1
_CALL_SECONDS = 20.0
"""One call may take what a share brings in this time: larger calls save more, and make the next ones wait for longer."""


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What the account grants each model family, until replies tell better; the defaults are the smallest paid tier's."""

    requests_per_minute: int = 1_000
    input_tokens_per_minute: int = 2_000_000
    """Cache reads do not count."""
    output_tokens_per_minute: int = 400_000
    burst_seconds: float = 5.0
    """How much of a share may be used at once after a rest. The API refills continuously, not by the minute."""
    is_ceiling: bool = False
    """Never more than these numbers, even where the account grants more."""

    def __post_init__(self) -> None:
        """No limit may be zero: nothing would ever run."""
        for option in fields(self):
            if option.name != "is_ceiling":
                positive(f"limits.{option.name}", getattr(self, option.name))
        if not isinstance(self.is_ceiling, bool):
            raise SettingsError(f"limits.is_ceiling={self.is_ceiling!r}: write true or false")

    def per_minute(self, kind: Kind) -> float:
        """One of the three."""
        return float(getattr(self, f"{kind}_per_minute"))


class Grant(NamedTuple):
    """What one task may take of one limit at this moment, for people and metrics."""

    family: str
    task: str
    kind: Kind
    limit: float
    """Of the whole account, per minute."""
    level: float | None
    """How full the account's bucket was shown to be, 0 to 1."""
    base: float
    """Shares are parts of the limit."""
    granted: float
    """Base, borrowed and part of what the account has saved up; below the base where others take more than theirs."""
    borrowed: float
    """Beyond the base share; below 0 where some of it is given up."""
    taken: float
    """Since the start, what is in flight by its estimate."""
    used: float
    """Since the start, as replies told."""


class Limits:
    """Buckets by model family and task. Nothing is taken by asking; what was estimated is corrected by what was used."""

    def __init__(
        self,
        options: LimitOptions,
        clock: Clock,
        by_family: Mapping[str, LimitOptions] | None = None,
        *,
        ramp: RampOptions | None = None,
        fleet: FleetOptions | None = None,
        shares: Shares | None = None,
    ) -> None:
        self._options = options
        self._by_family = dict(by_family or {})
        self._clock = clock
        self._ramp = ramp or RampOptions()
        self._fleet = fleet or FleetOptions()
        self.shares = shares or Shares()
        self._families: dict[str, Family] = {}

    def check(self, estimate: Estimate) -> Wait | None:
        """None where the call may be made now; else the bucket that is last to fill, and when."""
        family, now = self._family(estimate.family), self._clock()
        if family.blocked_until > now:
            return Wait("retry_after", family.blocked_until)
        lane = self._lane(family, estimate.task)
        longest, cause = 0.0, KINDS[0]
        for kind, amount in zip(KINDS, (1, estimate.input_tokens, estimate.output_tokens), strict=True):
            bucket = lane.buckets[kind]
            bucket.refill(now)
            seconds = bucket.seconds_until(amount)
            if seconds > 0.0:
                lane.binding[kind] = now
                if seconds > longest:
                    longest, cause = seconds, kind
        return Wait(cause, now + longest) if longest else None

    def take(self, estimate: Estimate) -> None:
        """Debit the estimate of a call that is about to be made."""
        buckets = self._lane(self._family(estimate.family), estimate.task).buckets
        for kind, amount in zip(KINDS, (1, estimate.input_tokens, estimate.output_tokens), strict=True):
            buckets[kind].take(amount)

    def correct(self, estimate: Estimate, usage: Usage) -> None:
        """Replace a call's estimate by what it used."""
        lane = self._lane(self._family(estimate.family), estimate.task)
        buckets, used = lane.buckets, lane.used
        used["requests"] += 1
        used["input_tokens"] += usage.input_tokens
        used["output_tokens"] += usage.output_tokens
        buckets["input_tokens"].give_back(estimate.input_tokens - usage.input_tokens)
        buckets["output_tokens"].give_back(estimate.output_tokens - usage.output_tokens)

    def give_back(self, estimate: Estimate) -> None:
        """The API turned the call away before reading it: its tokens were not used, the request was."""
        self.correct(estimate, Usage(0, 0, 0))

    def block(self, family: str, seconds: float) -> None:
        """The API said when to come back: earlier calls of this family would fail, and later ones come without a burst."""
        until = self._clock() + min(max(seconds, 0.0), _MAX_BLOCK_SECONDS)
        entry = self._family(family)
        entry.blocked_until = max(entry.blocked_until, until)
        for lane in entry.lanes.values():
            for bucket in lane.buckets.values():
                bucket.stand_still(entry.blocked_until)

    def refused(self, family: str, *, grows_too_fast: bool) -> None:
        """A 429: of a limit, every share shrinks; of growth, use grows more slowly from now on."""
        entry, now = self._family(family), self._clock()
        entry.refused["ramp" if grows_too_fast else "rate"] += 1
        for lane in entry.lanes.values():
            if grows_too_fast:
                lane.ramp.slow_down()
                continue
            for stretch in lane.stretches.values():
                stretch.refused(now, entry.news_seconds)

    def hear(self, family: str, seen: Mapping[Kind, Seen]) -> None:
        """A reply of this family came with these limits."""
        entry, now = self._family(family), self._clock()
        for kind, one in seen.items():
            entry.tanks[kind].hear(one, now)

    def note_call(self, family: str, seconds: float) -> None:
        """A call took so long: so old is what its headers say."""
        self._family(family).note_call(seconds, self._clock())

    def start_slowly(self, family: str) -> None:
        """An outage is over: everybody comes back at once, so nobody must come with all he has."""
        entry = self._family(family)
        for lane in entry.lanes.values():
            lane.ramp.begin()
            for bucket in lane.buckets.values():
                bucket.level = min(bucket.level, 1.0)

    def note_share(self, task: str, assigned: int, total: int) -> None:
        """So many of the task's partitions are ours: its base share changes; a larger one is grown into."""
        self.shares.note(task, assigned, total)
        base = self.shares.base(task)
        for entry in self._families.values():
            lane = entry.lanes.get(task)
            if lane is not None:
                lane.ramp.widen(base / lane.base)
                lane.base, lane.looked_at = base, float("-inf")

    def capacity(self, family: str, task: str = "") -> tuple[float, float]:
        """The most input and output tokens that one call should take: what a share brings in some seconds."""
        entry = self._family(family)
        lane = self._lane(entry, task)
        most = (
            tank.limit / 60.0 * min(entry.burst_seconds, max(lane.base, lane.part(kind)) * _CALL_SECONDS)
            for kind, tank in entry.tanks.items()
            if kind != "requests"
        )
        inputs, outputs = most
        return max(1.0, inputs), max(1.0, outputs)

    def is_starting(self, family: str, task: str) -> bool:
        """Whether a slow start still keeps this task from taking all that is granted."""
        return self._lane(self._family(family), task).ramp.now() < 1.0

    def grants(self) -> Iterator[Grant]:
        """Every share as it is now."""
        now = self._clock()
        for name, family in self._families.items():
            for task, lane in family.lanes.items():
                family.look(lane, now)
                for kind, tank in family.tanks.items():
                    bucket = lane.buckets[kind]
                    part = bucket.rate * 60.0 / tank.limit
                    borrowed = lane.part(kind) - lane.base
                    yield Grant(
                        name,
                        task,
                        kind,
                        tank.limit,
                        tank.level(now),
                        lane.base,
                        part,
                        borrowed,
                        bucket.taken,
                        lane.used[kind],
                    )

    def refusals(self) -> Iterator[tuple[str, str, int]]:
        """429s so far, by family and kind."""
        for name, family in self._families.items():
            for kind in ("rate", "ramp"):
                yield name, kind, family.refused[kind]

    def _lane(self, family: Family, task: str) -> Lane:
        lane, now = family.lanes.get(task), self._clock()
        if lane is None:
            lane = family.lanes[task] = self._new_lane(family, task, now)
        if now - lane.looked_at >= _LOOK_SECONDS:
            family.look(lane, now)
        return lane

    def _new_lane(self, family: Family, task: str, now: float) -> Lane:
        base, ramp = self.shares.base(task), Ramp(self._ramp, self._clock)
        part = base * ramp.factor
        buckets = {kind: Bucket(tank.limit * part, family.burst_seconds, now) for kind, tank in family.tanks.items()}
        return Lane(buckets, {kind: Stretch(self._fleet, now) for kind in KINDS}, ramp, base)

    def _family(self, name: str) -> Family:
        family = self._families.get(name)
        if family is None:
            options = self._by_family.get(name, self._options)
            tanks = {kind: Tank(options.per_minute(kind), is_ceiling=options.is_ceiling) for kind in KINDS}
            family = self._families[name] = Family(tanks, options.burst_seconds, self._clock())
        return family
