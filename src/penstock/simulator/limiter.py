"""The account's limits: a token bucket per model family for requests, input and output, a ramp, and spend caps.

validation → [limiter] → replies
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.simulator.failures import ApiError

if TYPE_CHECKING:
    from penstock.simulator.clock import Clock

RAMP_SLOT_SECONDS = 6.0
RAMP_SLOTS = 10
HeaderLines = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Rates:
    """A family's limits per minute."""

    requests: int
    input_tokens: int
    output_tokens: int


UNLIMITED = Rates(100_000_000, 100_000_000_000, 100_000_000_000)
CLASSES: dict[str, tuple[Rates, Rates, int]] = {
    "start": (Rates(1_000, 2_000_000, 400_000), Rates(1_000, 500_000, 100_000), 2_000),
    "build": (Rates(5_000, 5_000_000, 1_000_000), Rates(2_000, 1_500_000, 300_000), 4_000),
    "scale": (Rates(10_000, 10_000_000, 2_000_000), Rates(4_000, 4_000_000, 800_000), 8_000),
    "unlimited": (UNLIMITED, UNLIMITED, UNLIMITED.requests),
}
"""Usage tiers: limits of most families, of Fable and Mythos, and of count_tokens (requests)."""


class Bucket:
    """Refills continuously; may be overdrawn by the one call that finds it not empty."""

    __slots__ = ("_at", "_capacity", "_level", "limit")

    def __init__(self, limit: int, burst_seconds: float, now: float) -> None:
        self.limit = limit
        self._capacity = max(limit * burst_seconds / 60.0, 1.0)
        self._level = self._capacity
        self._at = now

    def level(self, now: float) -> float:
        """What is left now."""
        self._level = min(self._capacity, self._level + (now - self._at) * self.limit / 60.0)
        self._at = now
        return self._level

    def wait_seconds(self, amount: float, now: float) -> float:
        """How long until so much may be taken; what is more than the bucket holds waits until it is full."""
        short = min(amount, self._capacity) - self.level(now)
        return 0.0 if short <= 1e-9 else short * 60.0 / self.limit

    def take(self, amount: float, now: float) -> None:
        """Take it, below zero if need be."""
        self._level = self.level(now) - amount

    def used(self, now: float) -> float:
        """Share in use: 0 when full, above 1 when overdrawn."""
        return 1.0 - self.level(now) / self._capacity

    def full_seconds(self, now: float) -> float:
        """How long until it is full again."""
        return (self._capacity - self.level(now)) * 60.0 / self.limit


class Ramp:
    """Usage of a minute may be a multiple of that of the minute before, or a floor below which growth is free."""

    def __init__(self, floor_requests: int, growth: float) -> None:
        self._floor = floor_requests
        self._growth = growth
        self._slots: dict[int, int] = {}

    def admit(self, now: float) -> bool:
        """Count a request if it is within the ramp."""
        slot = int(now / RAMP_SLOT_SECONDS)
        recent = before = 0
        for at in [*self._slots]:
            age = slot - at
            if age < RAMP_SLOTS:
                recent += self._slots[at]
            elif age < 2 * RAMP_SLOTS:
                before += self._slots[at]
            else:
                del self._slots[at]
        if recent + 1 > max(self._floor, self._growth * before):
            return False
        self._slots[slot] = self._slots.get(slot, 0) + 1
        return True


class Pool:
    """The limits that a family of models shares."""

    def __init__(self, name: str, rates: Rates, burst_seconds: float, ramp: Ramp | None, clock: Clock) -> None:
        now = clock.monotonic()
        self.name = name
        self.rates = rates
        self._clock = clock
        self._ramp = ramp
        self._requests = Bucket(rates.requests, burst_seconds, now)
        self._input = Bucket(rates.input_tokens, burst_seconds, now)
        self._output = Bucket(rates.output_tokens, burst_seconds, now)
        self.rejected = 0

    def admit(self, input_tokens: int) -> None:
        """Take a request and its uncached input, or raise the 429 that says when to come again."""
        now = self._clock.monotonic()
        for bucket, amount, what in (
            (self._requests, 1, "requests"),
            (self._input, input_tokens, "input tokens"),
            (self._output, 1, "output tokens"),
        ):
            wait = bucket.wait_seconds(amount, now)
            if wait > 0:
                self.rejected += 1
                raise rate_limited(f"{bucket.limit:,} {what} per minute", wait)
        if self._ramp is not None and not self._ramp.admit(now):
            self.rejected += 1
            raise ramp_limited(RAMP_SLOT_SECONDS)
        self._requests.take(1, now)
        self._input.take(input_tokens, now)

    def produce(self, output_tokens: int) -> None:
        """Output counts when it is produced; `max_tokens` never does."""
        self._output.take(output_tokens, self._clock.monotonic())

    def headers(self) -> bytes:
        """The `anthropic-ratelimit-*` lines as they go on the wire."""
        now, unix = self._clock.monotonic(), self._clock.unix()
        requests, inputs, outputs = self._requests, self._input, self._output
        left_in, left_out = _rounded(inputs.level(now)), _rounded(outputs.level(now))
        reset_in, reset_out = inputs.full_seconds(now), outputs.full_seconds(now)
        return (
            _lines("requests", requests.limit, max(int(requests.level(now)), 0), unix + requests.full_seconds(now))
            + _lines("input-tokens", inputs.limit, left_in, unix + reset_in)
            + _lines("output-tokens", outputs.limit, left_out, unix + reset_out)
            + _lines("tokens", inputs.limit + outputs.limit, left_in + left_out, unix + max(reset_in, reset_out))
        ).encode("ascii")

    def used(self) -> dict[str, float]:
        """Shares of the buckets in use now, 0 to 1 and beyond where overdrawn."""
        now = self._clock.monotonic()
        buckets = {"requests": self._requests, "input_tokens": self._input, "output_tokens": self._output}
        return {name: round(bucket.used(now), 4) for name, bucket in buckets.items()}


def _rounded(tokens: float) -> int:
    return max(round(tokens / 1000) * 1000, 0)


def _lines(kind: str, limit: int, remaining: int, reset_unix: float) -> str:
    name = f"anthropic-ratelimit-{kind}"
    return f"{name}-limit: {limit}\r\n{name}-remaining: {remaining}\r\n{name}-reset: {rfc3339(reset_unix)}\r\n"


_stamps: dict[int, str] = {}


def rfc3339(unix_seconds: float) -> str:
    """UTC to the second, rounded up; kept, because replies of one second share it."""
    second = math.ceil(unix_seconds)
    stamp = _stamps.get(second)
    if stamp is None:
        if len(_stamps) > 1000:
            _stamps.clear()
        stamp = _stamps[second] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
    return stamp


def rate_limited(limit: str, wait_seconds: float) -> ApiError:
    """429 of a bucket, with whole seconds to wait."""
    return ApiError(
        429,
        f"This request would exceed your organization's rate limit of {limit}. Please retry after the time in the retry-after header.",
        headers=(("retry-after", str(max(math.ceil(wait_seconds), 1))),),
    )


def ramp_limited(wait_seconds: float) -> ApiError:
    """429 of usage that grows too fast."""
    return ApiError(
        429,
        "Your organization's usage is growing too fast. Retry after the time in the retry-after header.",
        code="ramp_limit_exceeded",
        headers=(("retry-after", str(max(math.ceil(wait_seconds), 1))),),
    )


class CountPool:
    """count_tokens has requests of its own."""

    def __init__(self, requests: int, burst_seconds: float, clock: Clock) -> None:
        self._clock = clock
        self._bucket = Bucket(requests, burst_seconds, clock.monotonic())

    def admit(self) -> None:
        """Take one request or raise the 429."""
        now = self._clock.monotonic()
        wait = self._bucket.wait_seconds(1, now)
        if wait > 0:
            raise rate_limited(f"{self._bucket.limit:,} token counting requests per minute", wait)
        self._bucket.take(1, now)

    def headers(self) -> bytes:
        """The lines of the requests limit."""
        now = self._clock.monotonic()
        reset = self._clock.unix() + self._bucket.full_seconds(now)
        return _lines("requests", self._bucket.limit, max(int(self._bucket.level(now)), 0), reset).encode("ascii")
