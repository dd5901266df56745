"""Slow start: after a start, an outage or with new partitions, use grows step by step up to what is granted.

limits → [ramp] → bucket
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from penstock.flow.base import Clock, positive

_LEAST = 1.0 / 64.0
_SLOWEST_DOUBLING_SECONDS = 120.0
_CONVALESCENCE_SECONDS = 60.0
"""So long after an outage use stays within what comes in, whatever was saved up meanwhile."""


@dataclass(frozen=True, slots=True)
class RampOptions:
    """How fast use may grow. The API turns away use that grows too sharply, even below the limits."""

    start_share: float = 0.125
    """Of what is granted, right after a start or an outage; 1 begins with all of it."""
    doubling_seconds: float = 4.0
    """Doubles in this time; longer after each `ramp_limit_exceeded` of the API."""

    def __post_init__(self) -> None:
        """With a share of nothing there would be nothing to double."""
        for option in fields(self):
            positive(f"ramp.{option.name}", getattr(self, option.name))


class Ramp:
    """`factor` is the part of what is granted that may be used now, up to 1."""

    __slots__ = ("_at", "_clock", "_doubling_seconds", "_options", "_well_at", "factor")

    def __init__(self, options: RampOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._doubling_seconds = options.doubling_seconds
        self._at = clock()
        self._well_at = self._at
        self.factor = min(1.0, options.start_share)

    def begin(self) -> None:
        """From the bottom again: an outage is over."""
        self._advance()
        self.factor = min(self.factor, self._options.start_share)
        self._well_at = self._at + _CONVALESCENCE_SECONDS

    def widen(self, times: float) -> None:
        """So many times as much is granted now: go on from what was used, not from what is allowed."""
        self._advance()
        if times > 1.0:
            self.factor = max(self.factor / times, min(self.factor, self._options.start_share))

    def slow_down(self) -> None:
        """The API says that use grows too fast: back to half, and from now on half as fast."""
        self._advance()
        self.factor = max(self.factor / 2.0, _LEAST)
        self._doubling_seconds = min(self._doubling_seconds * 2.0, _SLOWEST_DOUBLING_SECONDS)

    def now(self) -> float:
        """The factor at this moment."""
        if self.factor < 1.0:
            self._advance()
        return self.factor

    def trust(self) -> float:
        """The part of what the account has saved up that may be spent: none after an outage, or where growth was turned away."""
        if self._doubling_seconds > self._options.doubling_seconds or self._clock() < self._well_at:
            return 0.0
        return self.now()

    def _advance(self) -> None:
        now = self._clock()
        if now > self._at:
            self.factor = min(1.0, self.factor * 2.0 ** min((now - self._at) / self._doubling_seconds, 64.0))
            self._at = now
