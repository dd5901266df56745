"""When a message that was not taken is sent again: the schedule of Standard Webhooks 1.0.0.

post → [schedule] → outbox
"""

from __future__ import annotations

import random

MINUTE, HOUR = 60.0, 3_600.0
DELAYS_SECONDS = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""After the first attempt, the second …: ten attempts within 75 hours and a half."""
JITTER = 0.1
LONGEST_WISH_SECONDS = 24 * HOUR
"""A `retry-after` beyond it is taken for this."""


def next_delay_seconds(attempts: int, wish_seconds: float | None, chance: random.Random) -> float | None:
    """How long to wait after so many attempts; None where they were the last. A receiver's `retry-after` is kept at least."""
    if attempts > len(DELAYS_SECONDS):
        return None
    planned = DELAYS_SECONDS[attempts - 1] * (1 + chance.uniform(0, JITTER))
    return max(planned, min(wish_seconds or 0.0, LONGEST_WISH_SECONDS))
