"""How long a call of so many items takes, learned from the last ones; and what a task's latency target makes of that.

cascade → [pace] → batcher
"""

from __future__ import annotations

import math

_KEPT = 0.98
"""What a call weighs after the next one: the last fifty or so count."""
_FIRST_CALLS = ((1, 1.0), (50, 4.0))
"""Items and seconds: what is believed before the first reply."""
_SAFETY = 3.0
"""Mean deviations that a call may be slower than expected and still be in time."""
_OVERHEAD_SECONDS = 0.25
"""From a reply to its commit."""


class Pace:
    """A straight line through items and seconds of the last calls, and how far they strayed from it."""

    def __init__(self, target_seconds: float | None) -> None:
        self._target_seconds = target_seconds
        self._weight = self._items = self._seconds = self._squares = self._products = 0.0
        self._deviation = 0.0
        for items, seconds in _FIRST_CALLS:
            self._add(items, seconds)

    @property
    def has_target(self) -> bool:
        """Whether the task says how soon an answer is wanted."""
        return self._target_seconds is not None

    def learn(self, items: int, seconds: float) -> None:
        """A call was answered."""
        self._deviation += (1 - _KEPT) * 2 * (abs(seconds - self.mean_seconds(items)) - self._deviation)
        self._add(items, seconds)

    def seconds(self, items: int) -> float:
        """A call of so many items is committed within this time, nearly always."""
        return self.mean_seconds(items) + _SAFETY * self._deviation + _OVERHEAD_SECONDS

    def most_items(self, age_seconds: float, most: int) -> int:
        """How many items a call may hold: as many as half of the target lasts for, the other half is for waiting.

        Where those that wait are of such an age that they miss it anyway, small calls help nobody: the largest drain fastest.
        """
        target = self._target_seconds
        if target is None:
            return most
        first, slope = self._line(most)
        room = target / 2 - first - _SAFETY * self._deviation - _OVERHEAD_SECONDS
        items = max(1, min(most, math.floor(room / slope))) if slope > 0 else most
        return most if age_seconds + self.seconds(items) > target else items

    def company_seconds(self, items: int, lag_seconds: float, without_target: float) -> float:
        """How long an item may wait for company, where so many wait: what lag and call leave of the target."""
        target = self._target_seconds
        if target is None or lag_seconds + self.seconds(1) > target:
            return without_target
        return max(0.0, target - lag_seconds - self.seconds(items))

    def mean_seconds(self, items: float) -> float:
        """A call of so many items takes this long on average."""
        first, slope = self._line(items)
        return first + slope * items

    def _line(self, items: float) -> tuple[float, float]:
        """What a call takes whatever it holds, and what each item adds."""
        mean_items, mean_seconds = self._items / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - mean_items**2
        if spread < 0.25:  # all of one size: larger ones are taken to be slower in proportion, until one is seen
            return (0.0, mean_seconds / mean_items) if items > mean_items else (mean_seconds, 0.0)
        slope = (self._products / self._weight - mean_items * mean_seconds) / spread
        slope = min(max(slope, 0.0), mean_seconds / mean_items)
        return mean_seconds - slope * mean_items, slope

    def _add(self, items: int, seconds: float) -> None:
        self._weight = self._weight * _KEPT + 1.0
        self._items = self._items * _KEPT + items
        self._seconds = self._seconds * _KEPT + seconds
        self._squares = self._squares * _KEPT + items * items
        self._products = self._products * _KEPT + items * seconds
