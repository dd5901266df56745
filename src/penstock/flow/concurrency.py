"""How many calls may be in flight: found out per model family, within a ceiling for the process.

claude → [concurrency] → gate
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from penstock.flow.base import Wait, positive

_SHRINK = 0.7


@dataclass(frozen=True, slots=True)
class ConcurrencyOptions:
    """With a known rate, calls in flight = rate x latency: these only bound it."""

    max_calls: int = 128
    """Of all families together: what a crash can lose."""
    start_calls: int = 8
    """Of one family after a start or an outage; from there it grows with every answer."""

    def __post_init__(self) -> None:
        """With no call in flight nothing would ever run."""
        for option in fields(self):
            positive(f"concurrency.{option.name}", getattr(self, option.name))


class FamilyConcurrency:
    """Grows with answers while it is used, shrinks with overload only: a rate limit says nothing about it."""

    __slots__ = ("_begun", "_most", "_shrunk_at", "_start", "_steady", "in_flight", "limit")

    def __init__(self, options: ConcurrencyOptions) -> None:
        self._most = float(max(1, options.max_calls))
        self._start = min(float(max(1, options.start_calls)), self._most)
        self._steady = self._most
        """Below it growth is fast: it was borne before, or nothing is known against it."""
        self._begun = 0
        self._shrunk_at = 0
        self.limit = self._start
        self.in_flight = 0

    def begin(self) -> int:
        """One more; its number."""
        self.in_flight += 1
        self._begun += 1
        return self._begun

    def end(self, number: int, *, overloaded: bool | None) -> None:
        """One less. `None`: the end says nothing about the API's load."""
        was_used = 2 * self.in_flight >= self.limit
        self.in_flight -= 1
        if overloaded is None:
            return
        if overloaded:
            # Calls that were in flight together meet one overload together: it counts once.
            if number > self._shrunk_at:
                self._shrunk_at = self._begun
                self.limit = self._steady = max(1.0, self.limit * _SHRINK)
        elif was_used:
            self.limit = min(self._most, self.limit + (1.0 if self.limit < self._steady else 1.0 / self.limit))

    def begin_slowly(self) -> None:
        """An outage is over: from the start again, quickly up to half of what was borne, then with care."""
        self._steady = max(self.limit / 2.0, self._start)
        self.limit = min(self.limit, self._start)


class Concurrency:
    """Counts calls in flight, by family and together."""

    __slots__ = ("_families", "_options", "in_flight")

    def __init__(self, options: ConcurrencyOptions) -> None:
        self._options = options
        self._families: dict[str, FamilyConcurrency] = {}
        self.in_flight = 0

    def check(self, family: str) -> Wait | None:
        """None where one more call fits."""
        found = self.family(family)
        is_full = self.in_flight >= self._options.max_calls or found.in_flight >= int(found.limit)
        return Wait("concurrency") if is_full else None

    def begin(self, family: str) -> int:
        """One more; its number within the family."""
        self.in_flight += 1
        return self.family(family).begin()

    def end(self, family: str, number: int, *, overloaded: bool | None) -> None:
        """One less."""
        self.in_flight -= 1
        self.family(family).end(number, overloaded=overloaded)

    def family(self, name: str) -> FamilyConcurrency:
        """Of one family."""
        found = self._families.get(name)
        if found is None:
            found = self._families[name] = FamilyConcurrency(self._options)
        return found

    def families(self) -> dict[str, FamilyConcurrency]:
        """All that were asked so far."""
        return dict(self._families)
