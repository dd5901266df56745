"""A token bucket whose rate may change at any moment.

[bucket] → limits
"""

from __future__ import annotations

_ROUNDING = 1e-6


class Bucket:
    """In any span of time it gives at most its capacity plus what refilled in that span.

    A request for more than the capacity waits for a full bucket and leaves it in debt.
    """

    __slots__ = ("_at", "capacity", "level", "rate", "taken")

    def __init__(self, per_minute: float, burst_seconds: float, now: float) -> None:
        self.rate = per_minute / 60.0
        self.capacity = max(1.0, self.rate * burst_seconds)
        self.level = self.capacity
        self._at = now
        self.taken = 0.0
        """Everything since the start, what was given back left out."""

    def refill(self, now: float) -> None:
        """Bring the level up to now."""
        if now > self._at:
            self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
            self._at = now

    def grant(self, per_minute: float, burst_seconds: float, now: float) -> None:
        """From now on it fills at this rate; what is in it stays, as far as there is room."""
        self.refill(now)
        self.rate = per_minute / 60.0
        self.capacity = max(1.0, self.rate * burst_seconds)
        self.level = min(self.level, self.capacity)

    def stand_still(self, until: float) -> None:
        """Empty it and refill nothing before then: who comes back from a pause must not come with a burst."""
        self.level = min(self.level, 0.0)
        self._at = max(self._at, until)

    def seconds_until(self, amount: float) -> float:
        """How long until `amount` may be taken; 0 where it may be now."""
        short = min(amount, self.capacity) - self.level
        return 0.0 if short <= _ROUNDING else short / self.rate

    def take(self, amount: float) -> None:
        """Take, even into debt: what was used was used."""
        self.level -= amount
        self.taken += amount

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used (or, negative, take what was used beyond it)."""
        self.level = min(self.capacity, self.level + amount)
        self.taken -= amount
