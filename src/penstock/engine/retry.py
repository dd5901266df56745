"""When an item or a tier is asked again, and when it is enough.

cascade → [retry] → batcher
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from penstock.flow.base import positive


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Exponential back-off with jitter. Weather holds the whole tier, an item's own trouble only the item."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    tries_per_step: int = 2
    """Invalid answers of one tier before the item goes on to the next one, where the route has one."""
    hand_over_after_seconds: float = 60.0
    """An item (not a tier) that must wait longer goes to the task's retry topic and frees its place."""
    budget_share: float = 0.1
    """Of a tier's calls in a minute, at most so many are repeated because the API failed; fresh events go on meanwhile."""
    budget_least_per_minute: float = 10.0
    """Where there are few calls, so many may be repeated all the same."""

    def __post_init__(self) -> None:
        """A budget of nothing would keep what failed once for ever."""
        positive("retry.budget_share", self.budget_share)
        positive("retry.budget_least_per_minute", self.budget_least_per_minute)


def backoff_seconds(options: RetryOptions, tries: int, asked_for_seconds: float = 0.0) -> float:
    """How long to wait after `tries` failures in a row; never less than what was asked for.

    Jitter only ever adds, and stays below the next step: waits of many workers spread, none comes early.
    """
    step = options.first_seconds * 2.0 ** min(max(tries, 1) - 1, 30)
    spread = random.uniform(1.0, 1.5)
    return max(asked_for_seconds * random.uniform(1.0, 1.1), min(step, options.most_seconds) * spread)
