"""What one pipeline has done since it started, as plain numbers; metrics and progress lines read them.

engine → [counts] → status lines, metrics
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


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
    late: int = 0
    """Outcomes for partitions that were ours no longer."""
    nanousd: int = 0
    """Committed on results, dead letters and hand-overs."""
    waste_nanousd: int = 0
    commits: int = 0
    commits_retried: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
