"""The words of flow control: what a call will need, what it took, and why it must wait.

[flow] → claude
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from penstock.errors import SettingsError

Clock = Callable[[], float]
"""Monotonic seconds; tests bring their own."""

Cause = Literal["requests", "input_tokens", "output_tokens", "retry_after", "concurrency", "spend", "outage", "stopped"]
"""Bounded, so that it can label metrics; the vocabulary of `Capacity.cause`."""


class Estimate(NamedTuple):
    """What one call is expected to need of its model family's limits, and what it may cost at worst."""

    family: str
    """Models of one family share one limit."""
    input_tokens: int
    """Uncached input and cache writes: cache reads do not count."""
    output_tokens: int
    worst_nanousd: int


class Usage(NamedTuple):
    """What one call took, as the API reported it."""

    input_tokens: int
    output_tokens: int
    nanousd: int


class Wait(NamedTuple):
    """Not now: why, and until when (on the gate's clock) where that is known."""

    cause: Cause
    until: float | None = None


def positive(setting: str, value: float) -> None:
    """Refuse what can't be a limit, naming the setting."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise SettingsError(f"{setting}={value!r}: write a number greater than 0")
