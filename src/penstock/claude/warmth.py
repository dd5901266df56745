"""Whether the API's cache holds a prompt: on a cold one the first call goes alone, or every call would pay for writing it.

prompt → [warmth] → tier
"""

from __future__ import annotations

from penstock.flow.base import Clock, Wait

_MARGIN = 0.9
_PATIENCE_SECONDS = 10.0
"""A first call that takes longer holds nobody back any more."""


class Warmth:
    """Of one prompt on one model. The cache is readable once a reply has begun, and lives on with every read."""

    __slots__ = ("_clock", "_lives_seconds", "_until", "_waits_until")

    def __init__(self, clock: Clock, *, lives_seconds: float, is_cached: bool) -> None:
        self._clock = clock
        self._lives_seconds = lives_seconds * _MARGIN
        self._until = 0.0 if is_cached else float("inf")
        self._waits_until = float("-inf")

    def check(self) -> Wait | None:
        """None where a call would read the cache, or is the one that may write it."""
        now = self._clock()
        return Wait("cold_cache") if self._until <= now < self._waits_until else None

    def begin(self) -> None:
        """A call is made."""
        now = self._clock()
        if self._until <= now:
            self._waits_until = now + _PATIENCE_SECONDS

    def end(self, *, answered: bool) -> None:
        """A call ended; unanswered, it may have written nothing: the next one goes alone again."""
        now = self._clock()
        if answered:
            self._until = max(self._until, now + self._lives_seconds)
        if answered or self._until <= now:
            self._waits_until = float("-inf")
