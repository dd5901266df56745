"""What one pipeline has done since it started, as plain numbers; metrics and progress lines read them.

engine → [counts] → status lines, metrics

Nothing here takes a lock or knows a metrics library: a call or a commit adds to a few integers, once for all its items.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.telemetry.metrics import BATCH_ITEMS, CALL_SECONDS, COMMIT_SECONDS, EVENT_AGE, Metric


class Histogram:
    """How many values fell under each bound of a metric, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, metric: Metric) -> None:
        self.bounds = metric.buckets
        self.counts = [0] * (len(metric.buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more value; a bound belongs to what it bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Many values at once."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass(slots=True)
class TierCounts:
    """What was asked of one tier of a route."""

    calls: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and, for answers, confidence; for failures and agains the reason."""
    batch_items: Histogram = field(default_factory=lambda: Histogram(BATCH_ITEMS))
    call_seconds: Histogram = field(default_factory=lambda: Histogram(CALL_SECONDS))


@dataclass(slots=True)
class Counts:
    """Counters of one task in one worker. Money is in nanodollars."""

    records: int = 0
    """Records read."""
    calls: int = 0
    """Attempts started, with any tier."""
    results: int = 0
    dead_letters: int = 0
    hand_overs: int = 0
    skipped: int = 0
    erased: int = 0
    """Deletions committed; what they took out of flight counts as skipped."""
    headers_ignored: Counter[str] = field(default_factory=Counter)
    """Headers of events that mean nothing, by name."""
    deadlines_missed: int = 0
    """Events answered or buried after their own deadline."""
    guard_nanousd: int = 0
    """Of the waste: second answers, to compare."""
    late: int = 0
    """Outcomes for partitions that were ours no longer."""
    nanousd: int = 0
    """Committed on results, dead letters and hand-overs."""
    waste_nanousd: int = 0
    commits: int = 0
    commits_retried: int = 0
    committed_at: float = 0.0
    """Unix time of the last commit."""
    failures: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    hand_over_reasons: Counter[str] = field(default_factory=Counter)
    log_errors: Counter[str] = field(default_factory=Counter)
    """By what was asked of the log: poll, commit."""
    rebalances: Counter[str] = field(default_factory=Counter)
    """Times that partitions were assigned, revoked, lost."""
    partitions_lost: int = 0
    unread_lost: int = 0
    billed_nanousd: Counter[str] = field(default_factory=Counter)
    """By model, as soon as a reply was read."""
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By model and class."""
    tiers: defaultdict[str, TierCounts] = field(default_factory=lambda: defaultdict(TierCounts))
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_SECONDS))
    event_age_seconds: Histogram = field(default_factory=lambda: Histogram(EVENT_AGE))

    @property
    def done(self) -> int:
        """Events that want nothing more."""
        return self.results + self.dead_letters + self.skipped + self.erased

    def began(self, tier: str, items: int) -> None:
        """A call was started."""
        self.calls += 1
        counts = self.tiers[tier]
        counts.calls += 1
        counts.batch_items.observe(items)
