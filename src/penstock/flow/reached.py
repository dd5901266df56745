"""When a ceiling counts as reached for a call, and how long what others hold is waited for before it does.

ceilings → [reached] → book → spend
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import NamedTuple

from penstock.flow.ceilings import Ceiling


class Reached(NamedTuple):
    """A ceiling under which a call does not fit, whatever the calls in flight cost."""

    ceiling: Ceiling
    firm_nanousd: int
    worst_nanousd: int
    ends: float

    def __str__(self) -> str:
        setting = f"{self.ceiling.setting}={self.ceiling.usd:g}"
        if self.worst_nanousd > self.ceiling.nanousd:
            return (
                f"{setting} is less than a single call may cost (${self.worst_nanousd / 1e9:,.6g}): it can be made only "
                "with a higher ceiling"
            )
        end = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.ends))
        return (
            f"{setting} is reached: ${self.firm_nanousd / 1e9:,.6g} is spent or may be, "
            f"and the next call may cost ${self.worst_nanousd / 1e9:,.6g}. It goes on at {end} UTC, or with a higher ceiling"
        )


class Patience:
    """Of a call that is held back by what others hold: a call of theirs in flight gives back most of it when it ends."""

    __slots__ = ("_seen", "since")

    def __init__(self) -> None:
        self.since = 0.0
        self._seen: Hashable = None

    def begin(self, now: float) -> None:
        """From now on it is waited for: a call went out, or another one is held back."""
        self.since = now

    def look(self, others: Hashable, now: float) -> None:
        """What others spent and hold. It changed: who spends may give back, so the waiting begins anew."""
        if others != self._seen:
            self._seen, self.since = others, now
