"""When the API fails again and again, or money ran out, hold back: one trial call at a time until one succeeds.

claude → [breaker] → gate
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from penstock.flow.base import Cause, Clock, Wait, positive


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When to hold back and for how long; every failed trial doubles the wait."""

    failures_in_a_row: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Zero failures would hold back for ever."""
        for option in fields(self):
            positive(f"breaker.{option.name}", getattr(self, option.name))


class Breaker:
    """A single fault among successes changes nothing; an outage costs one trial call per wait."""

    __slots__ = ("_cause", "_clock", "_failures", "_options", "_trial_in_flight", "_until", "_waits", "since")

    def __init__(self, options: BreakerOptions, clock: Clock, cause: Cause = "outage") -> None:
        self._cause = cause
        self._options = options
        self._clock = clock
        self._failures = 0
        self._waits = 0
        self._until = 0.0
        self._trial_in_flight = False
        self.since = 0.0
        """When it began to hold back; meaningless while calls flow."""

    @property
    def is_holding(self) -> bool:
        """Whether calls are held back, but for trials."""
        return self._waits > 0

    def check(self) -> Wait | None:
        """None where calls flow, or where a trial is due."""
        if not self._waits:
            return None
        if self._until > self._clock():
            return Wait(self._cause, self._until)
        return Wait(self._cause) if self._trial_in_flight else None

    def begin(self) -> bool:
        """A call is about to be made. True: it is the trial, whose end decides."""
        if self._waits:
            self._trial_in_flight = True
        return bool(self._waits)

    def end(self, *, trial: bool, failed: bool | None) -> bool:
        """A call ended; `failed=None` says nothing about the API (cancelled, turned away by a rate limit).

        True: this ended the outage.
        """
        if trial:
            self._trial_in_flight = False
        if failed is None:
            return False
        if not failed:
            self._failures = 0
            is_over = trial and self._waits > 0
            if is_over:  # a call from before the outage proves nothing
                self._waits = 0
            return is_over
        self._failures += 1
        if trial or (not self._waits and self._failures >= self._options.failures_in_a_row):
            longest = self._options.longest_wait_seconds
            seconds = min(self._options.first_wait_seconds * 2.0 ** min(self._waits, 16), longest)
            self.hold(seconds * random.uniform(0.75, 1.0))
        return False

    def hold(self, seconds: float) -> None:
        """Let nothing through for so long, then a trial."""
        if not self._waits:
            self.since = self._clock()
        self._until = self._clock() + seconds
        self._waits += 1
