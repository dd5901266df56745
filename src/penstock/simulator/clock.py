"""Time as the simulator sees it, so that limits and cache lifetimes can be tested in milliseconds.

[clock] → limiter | cache
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the simulator reads the time."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    def unix(self) -> float:
        """Seconds since 1970."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

    def unix(self) -> float:
        """Seconds since 1970."""
        return time.time()


class VirtualClock:
    """Stands still until it is told to move."""

    def __init__(self, unix_seconds: float = 1_795_000_000.0) -> None:
        self._unix = unix_seconds
        self._monotonic = 0.0

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return self._monotonic

    def unix(self) -> float:
        """Seconds since 1970."""
        return self._unix

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._unix += seconds
        self._monotonic += seconds
