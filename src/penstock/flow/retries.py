"""How many calls may be repeated because the API failed: a small part of all calls, so that a brown-out never becomes a storm.

[retries] → engine
"""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 60.0
_SLOT_SECONDS = 5.0


class RetryBudget:
    """In any minute at most `share` of the calls, and `least` where there are few, are repetitions."""

    __slots__ = ("_calls", "_least", "_retries", "_share")

    def __init__(self, share: float, least: float) -> None:
        self._share = share
        self._least = least
        self._calls: deque[tuple[float, int]] = deque()
        """Beginning of a slot, and calls in it."""
        self._retries: deque[float] = deque()

    def note_call(self, now: float) -> None:
        """A call is made, repeated or not."""
        if self._calls and now - self._calls[-1][0] < _SLOT_SECONDS:
            begun, count = self._calls[-1]
            self._calls[-1] = (begun, count + 1)
        else:
            self._calls.append((now, 1))
        self._forget(now)

    def take(self, now: float) -> bool:
        """Whether one more call may be repeated now; if so, it is counted."""
        self._forget(now)
        if len(self._retries) >= self._allowed():
            return False
        self._retries.append(now)
        return True

    def due_at(self, now: float) -> float:
        """When another repetition is allowed for sure, even if nothing else is called until then."""
        self._forget(now)
        over = len(self._retries) - int(self._allowed())
        return self._retries[over] + WINDOW_SECONDS if 0 <= over < len(self._retries) else now

    def _allowed(self) -> float:
        return max(1.0, self._least, self._share * sum(count for _, count in self._calls))

    def _forget(self, now: float) -> None:
        while self._calls and now - self._calls[0][0] >= WINDOW_SECONDS:
            self._calls.popleft()
        while self._retries and now - self._retries[0] >= WINDOW_SECONDS:
            self._retries.popleft()
