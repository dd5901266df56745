"""What a worker keeps of one model family: the account's tanks, and for each task a lane of buckets.

account, fleet, ramp → [lanes] → limits
"""

from __future__ import annotations

import math
from collections import Counter

from penstock.flow.account import Tank
from penstock.flow.base import KINDS, Kind
from penstock.flow.bucket import Bucket
from penstock.flow.fleet import Need, Stretch
from penstock.flow.ramp import Ramp

_BINDING_SECONDS = 5.0
_BURST_PART = 0.25
"""Of what the account's bucket holds, at most so much may be used at once."""
_LEARNING = 0.05
_LEARNING_GAPS = 0.2
_LONGEST_GAP_SECONDS = 10.0
"""After so long without a call it is rest, not news."""


class Lane:
    """One task's buckets in one family."""

    __slots__ = ("base", "binding", "buckets", "looked_at", "ramp", "stretches", "used")

    def __init__(self, buckets: dict[Kind, Bucket], stretches: dict[Kind, Stretch], ramp: Ramp, base: float) -> None:
        self.buckets = buckets
        self.stretches = stretches
        self.ramp = ramp
        self.base = base
        self.binding = dict.fromkeys(KINDS, float("-inf"))
        """When a call last waited for this limit."""
        self.looked_at = float("-inf")
        self.used = dict.fromkeys(KINDS, 0.0)

    def part(self, kind: Kind) -> float:
        """Its part of the whole limit, base and borrowed, without a slow start."""
        return self.base * math.exp(self.stretches[kind].value)


class Family:
    """One model family, as this worker knows and uses it."""

    __slots__ = (
        "blocked_until",
        "burst_seconds",
        "call_seconds",
        "calls",
        "gap_seconds",
        "heard_at",
        "lanes",
        "refused",
        "tanks",
    )

    def __init__(self, tanks: dict[Kind, Tank], burst_seconds: float, now: float) -> None:
        self.tanks = tanks
        self.burst_seconds = burst_seconds
        self.lanes: dict[str, Lane] = {}
        self.blocked_until = now
        self.calls = 0
        self.call_seconds = 1.0
        self.gap_seconds = 0.0
        self.heard_at = 0.0
        self.refused: Counter[str] = Counter()
        """429s, by `rate` and `ramp`."""

    @property
    def news_seconds(self) -> float:
        """How old what we know of the account is, by and large: the length of a call and the time between two."""
        return max(self.call_seconds + self.gap_seconds, 0.5)

    def note_call(self, seconds: float, now: float) -> None:
        """A call took so long."""
        self.calls += 1
        learning = max(_LEARNING, 1.0 / self.calls)  # the first ones say most
        self.call_seconds += (seconds - self.call_seconds) * learning
        if self.heard_at:
            gap = min(now - self.heard_at, _LONGEST_GAP_SECONDS)
            self.gap_seconds += (gap - self.gap_seconds) * max(_LEARNING_GAPS, learning)
        self.heard_at = now

    def look(self, lane: Lane, now: float) -> None:
        """Follow the account: new rates for a lane's buckets, for the next moments."""
        lane.looked_at = now
        factor, since = lane.ramp.now(), now - max(_BINDING_SECONDS, self.news_seconds)
        is_short = max(lane.binding.values()) >= since
        for kind, tank in self.tanks.items():
            need: Need = "binding" if lane.binding[kind] >= since else "beside" if is_short else "none"
            part = lane.stretches[kind].move(tank, lane.base, now, need=need, news_seconds=self.news_seconds)
            burst = min(self.burst_seconds, tank.holds_seconds * _BURST_PART)
            # What is saved up is everybody's by base share. It makes the bucket fill faster, not hold more.
            saved = lane.base * lane.stretches[kind].savings(tank, now, self.news_seconds) * lane.ramp.trust()
            lane.buckets[kind].grant(tank.limit * (part + saved) * factor, burst * part / (part + saved), now)
