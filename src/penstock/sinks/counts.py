"""What one delivery loop has done since it started, as plain numbers; metrics and health read them.

delivery → [counts] → ops
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from penstock.telemetry.counts import Histogram
from penstock.telemetry.metrics import SINK_BATCH_SECONDS, SINK_DELAY


@dataclass(slots=True)
class DeliveryCounts:
    """Counters of one sink in one process."""

    delivered: Counter[str] = field(default_factory=Counter)
    """By kind: result, letter, erasure."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason: what the sink said, `simulated`, `undecodable`, `sink_failed`."""
    letters: int = 0
    """Dead letters committed."""
    troubles: Counter[str] = field(default_factory=Counter)
    """Batches that were not taken: `away` or `fault`."""
    log_errors: Counter[str] = field(default_factory=Counter)
    batch_seconds: Histogram = field(default_factory=lambda: Histogram(SINK_BATCH_SECONDS))
    delay_seconds: Histogram = field(default_factory=lambda: Histogram(SINK_DELAY))
    """From the commit of a result to its delivery."""
