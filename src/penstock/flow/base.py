"""The words of flow control: what a call will need, what it took, and why it must wait.

[flow] → claude
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from penstock.errors import SettingsError
from penstock.flow.ceilings import AtCeiling

Clock = Callable[[], float]
"""Monotonic seconds; tests bring their own."""

Kind = Literal["requests", "input_tokens", "output_tokens"]
"""The limits of a model family. Token counting and the Message Batches lane have pools of their own: none of these."""
KINDS: tuple[Kind, ...] = ("requests", "input_tokens", "output_tokens")

Cause = Literal[
    "requests",
    "input_tokens",
    "output_tokens",
    "retry_after",
    "concurrency",
    "cold_cache",
    "claim",  # the budget has room, once it is claimed or calls in flight have cost less than their worst
    "spend",  # a ceiling of ours is reached
    "spend_cap",  # the account may spend no more
    "outage",
    "stopped",
]
"""Bounded, so that it can label metrics; the vocabulary of `Capacity.cause`."""


class Estimate(NamedTuple):
    """What one call is expected to need of its model family's limits, and what it may cost at worst."""

    family: str
    """Models of one family share one limit."""
    input_tokens: int
    """Uncached input and cache writes: cache reads do not count."""
    output_tokens: int
    worst_nanousd: int
    task: str = ""
    """Whose share of the limits it takes."""
    model: str = ""
    """Whose ceilings it counts towards, by id."""


class Usage(NamedTuple):
    """What one call took, as the API reported it."""

    input_tokens: int
    output_tokens: int
    nanousd: int


class Wait(NamedTuple):
    """Not now: why, and until when (on the gate's clock) where that is known."""

    cause: Cause
    until: float | None = None
    at_ceiling: AtCeiling | None = None
    """With `spend`: what is to happen."""


class Explanation(NamedTuple):
    """Why the calls of one family wait, for a person to read."""

    cause: Cause
    since: float
    """On the gate's clock, as `until` is."""
    until: float | None
    """By estimate; None where nobody knows."""


class TakesShares(Protocol):
    """Who is told which part of a task's work this process has."""

    def note_share(self, task: str, assigned: int, total: int) -> None:
        """So much of the task's work is ours, of so much that there is: its partitions, by weight."""
        ...


def positive(setting: str, value: float) -> None:
    """Refuse what can't be a limit, naming the setting."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise SettingsError(f"{setting}={value!r}: write a number greater than 0")
