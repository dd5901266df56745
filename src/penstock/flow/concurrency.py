"""How many calls may be in flight.

claude → [concurrency] → gate
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.flow.base import Wait, positive


@dataclass(frozen=True, slots=True)
class ConcurrencyOptions:
    """A safety cap: with a known rate, calls in flight = rate x latency."""

    max_calls: int = 128

    def __post_init__(self) -> None:
        """With no call in flight nothing would ever run."""
        positive("concurrency.max_calls", self.max_calls)


class Concurrency:
    """Counts calls in flight."""

    __slots__ = ("_options", "in_flight")

    def __init__(self, options: ConcurrencyOptions) -> None:
        self._options = options
        self.in_flight = 0

    def check(self) -> Wait | None:
        """None where one more call fits."""
        return Wait("concurrency") if self.in_flight >= self._options.max_calls else None

    def begin(self) -> None:
        """One more."""
        self.in_flight += 1

    def end(self) -> None:
        """One less."""
        self.in_flight -= 1
