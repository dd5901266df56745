"""Which of the account's limits binds, and what became of the burst: counted in the API's accounts, not told by workers.

offline, watch → [pressure] → board, plain lines, summary
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.demo.burst import Burst
    from penstock.simulator.limiter import Rates

SPAN_SECONDS = 3.0
BINDING_SHARE = 0.85
"""Of a limit, while events wait: less than all of it, because a call is counted when it ends."""
FEW_EVENTS = 20
"""So many wait at any time: they are in calls, or in company."""
DRAINED_SHARE = 0.05

Limit = tuple[str, str]
"""A family of models, and requests, input tokens or output tokens."""


class Use(NamedTuple):
    """The limit that was used most."""

    family: str
    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind} of {self.family}"


@dataclass(slots=True)
class Absorbed:
    """The burst, as it is told at the end."""

    events: int
    seconds: float
    times: float
    most_waiting: int = 0
    drained_seconds: float | None = None
    """After its begin; None where it was not seen to end."""
    use: Use | None = None
    """While it was drained."""
    calls: int = 0
    turned_away: int = 0
    """Answered 429 meanwhile."""


class Pressure:
    """Sees every call that the account has seen, and at each look how many events wait."""

    def __init__(self, rates: Rates, burst: Burst | None) -> None:
        self.turned_away = 0
        """Answered 429 since the start."""
        self._per_second = {
            "requests": rates.requests / 60,
            "input tokens": rates.input_tokens / 60,
            "output tokens": rates.output_tokens / 60,
        }
        self._burst = burst
        self._recent: deque[tuple[float, Limit, int]] = deque()
        self._use: Use | None = None
        self._is_short = False
        self._before = FEW_EVENTS
        self._began: float | None = None
        self._taken: Counter[Limit] = Counter()
        self._absorbed: Absorbed | None = None

    def see(self, rows: Iterable[dict[str, Any]]) -> None:
        """Calls that have ended, answered or not."""
        for row in rows:
            moment, is_refused = row["ended_ms"] / 1000, row["status"] == 429
            self.turned_away += is_refused
            is_counted = self._is_open and moment >= (self._began or 0.0)
            if self._absorbed is not None and is_counted:
                self._absorbed.calls += 1
                self._absorbed.turned_away += is_refused
            for kind, amount in _taken(row) if row["status"] == 200 else ():
                limit = (_family(row["model"]), kind)
                self._recent.append((moment, limit, amount))
                if is_counted:
                    self._taken[limit] += amount

    def look(self, now: float, stream_seconds: float, waiting: int) -> None:
        """So many events wait (`now`: seconds since 1970); the stream is so far."""
        while self._recent and now - self._recent[0][0] > SPAN_SECONDS:
            self._recent.popleft()
        taken: Counter[Limit] = Counter()
        for _, limit, amount in self._recent:
            taken[limit] += amount
        self._use = self._most(taken, SPAN_SECONDS)
        self._is_short = waiting > 2 * self._before
        self._follow(now, stream_seconds, waiting)

    @property
    def line(self) -> str:
        """The moment in words; empty before the first answer."""
        if self._use is None:
            return ""
        binds = " bind" if self._is_short and self._use.share >= BINDING_SHARE else ""
        return f"{self._use}{binds}: {self._use.share:.0%} used, {self.turned_away:,} answered 429"

    @property
    def absorbed(self) -> Absorbed | None:
        """The burst until now; None before it."""
        return self._absorbed

    @property
    def _is_open(self) -> bool:
        return self._absorbed is not None and self._absorbed.drained_seconds is None

    def _most(self, taken: Counter[Limit], seconds: float) -> Use | None:
        uses = (Use(family, kind, n / seconds / self._per_second[kind]) for (family, kind), n in taken.items())
        return max(uses, key=lambda use: use.share, default=None)

    def _follow(self, now: float, stream_seconds: float, waiting: int) -> None:
        burst = self._burst
        if burst is None or not burst.seconds or stream_seconds < burst.first_seconds:
            self._before = max(self._before, min(waiting, 3 * FEW_EVENTS))
            return
        if self._absorbed is None:
            self._began = now
            self._absorbed = Absorbed(burst.events, burst.seconds, burst.times)
        found = self._absorbed
        if not self._is_open or self._began is None:
            return
        found.most_waiting = max(found.most_waiting, waiting)
        elapsed = now - self._began
        if self._taken and elapsed > 0:
            found.use = self._most(self._taken, elapsed)
        is_sent = stream_seconds >= burst.first_seconds + burst.seconds
        if is_sent and waiting <= max(self._before, found.most_waiting * DRAINED_SHARE):
            found.drained_seconds = elapsed


def _taken(row: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Cache reads do not count."""
    fresh = row["input_tokens"] + row["cache_write_tokens"]
    return (("requests", 1), ("input tokens", fresh), ("output tokens", row["output_tokens"]))


def _family(model: str) -> str:
    """`claude-haiku-5-5` → `haiku`."""
    return model.split("-")[1] if model.startswith("claude-") else model
