"""The account as its replies show it: per model family and limit how high it is and how full its bucket stands.

headers → [account] → fleet → limits
"""

from __future__ import annotations

import math

from penstock.flow.headers import Seen

STALE_SECONDS = 15.0
_SMOOTHING_SECONDS = 1.0
_MINUTE = 60.0
_LEARNING = 0.1
_FORGET_SECONDS = 120.0
_TREND_SECONDS = 3.0


class Tank:
    """One limit of one family. `limit` is per minute; the bucket behind it may hold a minute of it or only a second."""

    __slots__ = (
        "_at",
        "_before",
        "_ceiling",
        "_level",
        "_most_seconds",
        "_next_limit",
        "_sized",
        "_told",
        "_whole_seconds",
        "limit",
        "trend",
    )

    def __init__(self, limit: float, *, is_ceiling: bool = False) -> None:
        self.limit = float(limit)
        self._ceiling = self.limit if is_ceiling else None
        self._told = int(limit)
        self._next_limit = 0
        self._level: float | None = None
        self._whole_seconds = _MINUTE
        self._sized = 0
        """Replies that told how large it is."""
        self._most_seconds = 0.0
        self._at = 0.0
        self._before = (0.0, 0.0)
        self.trend = 0.0
        """How fast the level moves, per second."""

    def hear(self, seen: Seen, now: float) -> None:
        """A reply came. Another limit is believed once two replies in a row name it."""
        if seen.limit != self._told:
            if seen.limit != self._next_limit:
                self._next_limit = seen.limit
                return
            self._told = seen.limit
            self._level, self._sized, self._whole_seconds, self._most_seconds = None, 0, _MINUTE, 0.0
            self.limit = float(seen.limit) if self._ceiling is None else min(float(seen.limit), self._ceiling)
        self._next_limit = 0
        if seen.remaining is not None:
            self._fill(seen.remaining * _MINUTE / self._told, seen.full_in_seconds, now)

    def level(self, now: float) -> float | None:
        """How full the account's bucket is, 0 to 1; None where nothing fresh is known."""
        return self._level if self._level is not None and now - self._at <= STALE_SECONDS else None

    @property
    def headroom(self) -> float:
        """So many times the limit all of us together may take for a while: where the user set a ceiling, no more than that."""
        return math.inf if self._ceiling is None else self._ceiling / self.limit

    @property
    def holds_seconds(self) -> float:
        """How much of the limit the account's bucket holds, as time: so long it lasts with nothing coming in."""
        return min(max(self._whole_seconds, self._most_seconds, 0.5), _MINUTE)

    @property
    def is_sized(self) -> bool:
        """Whether replies tell how large the bucket is; else a level is only a guess."""
        return self._sized > 0

    def _fill(self, left_seconds: float, full_in_seconds: float | None, now: float) -> None:
        # What is left and what is still to come is what it holds; where that is not told, a minute's worth.
        if full_in_seconds is not None:
            self._sized += 1
            whole = min(left_seconds + full_in_seconds, _MINUTE)
            self._whole_seconds += (whole - self._whole_seconds) * max(_LEARNING, 1.0 / self._sized)
        elapsed = max(now - self._at, 0.02)
        self._most_seconds = max(left_seconds, self._most_seconds * (1.0 - min(elapsed / _FORGET_SECONDS, 1.0)))
        level = min(left_seconds / self.holds_seconds, 1.0)
        if self._level is None or elapsed > STALE_SECONDS:
            self._level, self.trend, self._before = level, 0.0, (now, level)
        else:
            self._level += (level - self._level) * min(1.0, elapsed / _SMOOTHING_SECONDS)
        self._at = now
        at, before = self._before
        if now - at >= _TREND_SECONDS:
            self.trend += ((self._level - before) / (now - at) - self.trend) * 0.5
            self._before = (now, self._level)
