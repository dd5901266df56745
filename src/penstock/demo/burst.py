"""The burst of a demo's day: an evening that comes all at once, and how many events the account can bear.

samples → [burst] → producer, pressure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from penstock.demo.options import DAY_EVENTS, DAY_SECONDS
from penstock.simulator.limiter import CLASSES, UNLIMITED, Rates
from review_moderation.samples import DAY_MS

if TYPE_CHECKING:
    from penstock.simulator.options import SimulatorOptions
    from review_moderation.samples import SampleEvent

_HOUR_MS = 3_600_000
FIRST_MS, LAST_MS = 16 * _HOUR_MS + _HOUR_MS // 2, 21 * _HOUR_MS
SHARE = 0.05
"""Of the stream's time: a third of the day's events in a twentieth of it comes ten times as fast as the others."""
USAGE_TIER = "start"


@dataclass(frozen=True, slots=True)
class Burst:
    """When a stream of so many seconds sends its events."""

    stream_seconds: float
    events: int = 0
    times: float = 1.0
    """So many times as many a second as at other hours."""

    @property
    def first_seconds(self) -> float:
        """Its begin in the stream."""
        return FIRST_MS / (DAY_MS - LAST_MS + FIRST_MS) * self.stream_seconds * (1 - SHARE)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stream_seconds * SHARE

    def due_seconds(self, at_ms: int) -> float:
        """When an event of this time of the day is sent: quiet nights and busy noons are kept, the evening is pressed."""
        pressed = min(max(at_ms - FIRST_MS, 0), LAST_MS - FIRST_MS)
        rest = (at_ms - pressed) / (DAY_MS - LAST_MS + FIRST_MS)
        return (rest * (1 - SHARE) + pressed / (LAST_MS - FIRST_MS) * SHARE) * self.stream_seconds

    def day_ms(self, due_seconds: float) -> float:
        """The time of the day that a moment of the stream stands for."""
        if not self.stream_seconds:
            return float(DAY_MS)
        pressed = min(max(due_seconds - self.first_seconds, 0.0), self.seconds)
        rest = (due_seconds - pressed) / (self.stream_seconds * (1 - SHARE)) * (DAY_MS - LAST_MS + FIRST_MS)
        return rest + pressed / self.seconds * (LAST_MS - FIRST_MS)


def burst_of(planted: Sequence[SampleEvent], stream_seconds: float) -> Burst:
    """Of a day: how many of its events come in the burst, and how much faster."""
    events = sum(FIRST_MS <= event.at_ms < LAST_MS for event in planted)
    others = len(planted) - events
    times = events / SHARE / (others / (1 - SHARE)) if others else 1.0
    return Burst(stream_seconds, events, times)


def account_of(events: int, stream_seconds: float, like: SimulatorOptions) -> SimulatorOptions:
    """An account that bears the day and not its burst: one of the Start class; a larger one for a denser day."""
    usual = DAY_EVENTS / DAY_SECONDS
    if not stream_seconds:
        return like
    scale = max(1.0, events / stream_seconds / usual)
    rates = CLASSES[USAGE_TIER][0]
    return replace(
        like,
        requests_per_minute=round(rates.requests * scale),
        input_tokens_per_minute=round(rates.input_tokens * scale),
        output_tokens_per_minute=round(rates.output_tokens * scale),
    )


def rates_of(account: SimulatorOptions) -> Rates:
    """What an account grants a minute."""
    return Rates(
        account.requests_per_minute or UNLIMITED.requests,
        account.input_tokens_per_minute or UNLIMITED.input_tokens,
        account.output_tokens_per_minute or UNLIMITED.output_tokens,
    )
