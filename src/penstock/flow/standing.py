"""How a ceiling stands, and the warnings on the way to it.

spend, claims → [standing] → log, metrics, status, alarms
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from penstock.flow.ceilings import PERIODS, Ceiling, periods_at

if TYPE_CHECKING:
    from penstock.flow.claims import Claims

logger = logging.getLogger("penstock.spend")
WARN_AT = (0.5, 0.8, 0.95)
"""Parts of a ceiling that are worth a word."""


class Standing(NamedTuple):
    """One ceiling in its period, over all workers, in nanodollars."""

    ceiling: Ceiling
    label: str
    """The period: `2026-11-24T05`, `2026-11-24`, `2026-11`."""
    spent: int
    unconfirmed: int
    """The worst of calls whose reply was never read."""
    margin: int
    """Claimed by workers alive and not spent: calls in flight at their worst, and room for the next."""
    reserve: int
    """Claimed and not spent by workers that are silent: they may have spent it before they died."""

    @property
    def firm(self) -> int:
        """What does not come back before the period ends."""
        return self.spent + self.unconfirmed + self.reserve

    @property
    def part(self) -> float:
        """Of the ceiling."""
        return self.firm / self.ceiling.nanousd

    def __str__(self) -> str:
        ceiling = self.ceiling
        held = [
            f"${amount / 1e9:,.4g} {what}"
            for amount, what in (
                (self.margin, "held for calls in flight"),
                (self.unconfirmed, "unconfirmed"),
                (self.reserve, "reserved for workers that died"),
            )
            if amount > 0
        ]
        more = f" ({', '.join(held)})" if held else ""
        return f"{ceiling.setting}: ${self.spent / 1e9:,.4g} of ${ceiling.usd:,.4g} spent in {self.label} UTC{more}"


def standings_of(claims: Claims, ceilings: Iterable[Ceiling], unix: float) -> Iterator[Standing]:
    """Every ceiling in its period of that moment, as the claims of all workers have it: for who looks from outside."""
    labels = periods_at(unix).labels
    for ceiling in ceilings:
        label = labels[PERIODS.index(ceiling.period)]
        account = (ceiling.scope, ceiling.name, label)
        total, reserve = claims.sum(account), claims.reserve(account)
        margin = max(0, total.claimed - total.spent - total.unconfirmed - reserve)
        yield Standing(ceiling, label, total.spent, total.unconfirmed, margin, reserve)


class Warnings:
    """One line for each part of each ceiling in each period."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, float]] = {}
        self.counts: Counter[tuple[Ceiling, float]] = Counter()

    def look(self, standings: Iterable[Standing]) -> None:
        """What was passed since the last look is told; of several parts the highest."""
        for standing in standings:
            passed = [part for part in WARN_AT if standing.part >= part]
            label, told = self._told.get(standing.ceiling.setting, ("", 0.0))
            if label != standing.label:
                told = 0.0
            if passed and passed[-1] > told:
                self._told[standing.ceiling.setting] = (standing.label, passed[-1])
                for part in passed:
                    self.counts[standing.ceiling, part] += part > told
                logger.warning("%.0f %% of a ceiling: %s", standing.part * 100, standing)
