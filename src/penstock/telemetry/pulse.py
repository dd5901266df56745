"""Signs of life of a loop, and trouble that lasts: what health checks look at.

engine → [pulse] → health
"""

from __future__ import annotations

import time
from math import inf


class Pulse:
    """A loop says by when it will show itself again; a loop that is overdue hangs."""

    __slots__ = ("due", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.due = inf

    def expect(self, within_seconds: float) -> None:
        """The loop is at work and will be back here within this time."""
        self.due = time.monotonic() + within_seconds

    def rest(self) -> None:
        """The loop waits for something to do, which may never come."""
        self.due = inf

    def overdue_seconds(self) -> float:
        """How long it should have shown itself; 0 where all is well."""
        return max(0.0, time.monotonic() - self.due)


class Trouble:
    """Something that does not work now: why, and since when."""

    __slots__ = ("since", "why")

    def __init__(self) -> None:
        self.why = ""
        self.since = 0.0

    def begin(self, why: str) -> None:
        """It failed (again)."""
        if not self.why:
            self.since = time.time()
        self.why = why

    def end(self) -> None:
        """It works."""
        self.why = ""
