"""One value of a declared metric, as sources give it when they are asked.

readings → [sample] → exposition
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from penstock.telemetry.counts import Histogram
from penstock.telemetry.metrics import Metric


class Sample(NamedTuple):
    """The labels' values stand in the order in which the metric declares its labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram


Source = Callable[[], Iterable[Sample]]
