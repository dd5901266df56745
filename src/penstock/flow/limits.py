"""The account's rate limits, mirrored: one token bucket per model family for requests, input and output tokens.

claude → [limits] → gate
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from penstock.flow.base import Cause, Clock, Estimate, Usage, Wait, positive

_ROUNDING = 1e-6
_MAX_BLOCK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What the account grants each model family, as its limits page says; the defaults are the smallest paid tier's."""

    requests_per_minute: int = 1_000
    input_tokens_per_minute: int = 2_000_000
    """Cache reads do not count."""
    output_tokens_per_minute: int = 400_000
    burst_seconds: float = 5.0
    """How much of a limit may be used at once after a rest. The API refills continuously, not by the minute."""

    def __post_init__(self) -> None:
        """No limit may be zero: nothing would ever run."""
        for option in fields(self):
            positive(f"limits.{option.name}", getattr(self, option.name))


class Bucket:
    """A token bucket: in any span of time it gives at most its capacity plus what refilled in that span.

    A request for more than the capacity waits for a full bucket and leaves it in debt.
    """

    __slots__ = ("_at", "capacity", "level", "rate")

    def __init__(self, per_minute: float, burst_seconds: float, now: float) -> None:
        self.rate = per_minute / 60.0
        self.capacity = max(1.0, self.rate * burst_seconds)
        self.level = self.capacity
        self._at = now

    def refill(self, now: float) -> None:
        """Bring the level up to now."""
        if now > self._at:
            self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
            self._at = now

    def seconds_until(self, amount: float) -> float:
        """How long until `amount` may be taken; 0 where it may be now."""
        short = min(amount, self.capacity) - self.level
        return 0.0 if short <= _ROUNDING else short / self.rate

    def take(self, amount: float) -> None:
        """Take, even into debt: what was used was used."""
        self.level -= amount

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used (or, negative, take what was used beyond it)."""
        self.level = min(self.capacity, self.level + amount)


class _Family:
    __slots__ = ("blocked_until", "input_tokens", "output_tokens", "requests")

    def __init__(self, options: LimitOptions, now: float) -> None:
        self.requests = Bucket(options.requests_per_minute, options.burst_seconds, now)
        self.input_tokens = Bucket(options.input_tokens_per_minute, options.burst_seconds, now)
        self.output_tokens = Bucket(options.output_tokens_per_minute, options.burst_seconds, now)
        self.blocked_until = now


class Limits:
    """Buckets by model family. Nothing is taken by asking; what was estimated is corrected by what was used."""

    def __init__(
        self, options: LimitOptions, clock: Clock, by_family: Mapping[str, LimitOptions] | None = None
    ) -> None:
        self._options = options
        self._by_family = dict(by_family or {})
        self._clock = clock
        self._families: dict[str, _Family] = {}

    def check(self, estimate: Estimate) -> Wait | None:
        """None where the call may be made now; else the bucket that is last to fill, and when."""
        family, now = self._family(estimate.family), self._clock()
        if family.blocked_until > now:
            return Wait("retry_after", family.blocked_until)
        longest = 0.0
        cause: Cause = "requests"
        needs: tuple[tuple[Cause, Bucket, int], ...] = (
            ("requests", family.requests, 1),
            ("input_tokens", family.input_tokens, estimate.input_tokens),
            ("output_tokens", family.output_tokens, estimate.output_tokens),
        )
        for name, bucket, amount in needs:
            bucket.refill(now)
            seconds = bucket.seconds_until(amount)
            if seconds > longest:
                longest, cause = seconds, name
        return Wait(cause, now + longest) if longest else None

    def take(self, estimate: Estimate) -> None:
        """Debit the estimate of a call that is about to be made."""
        family = self._family(estimate.family)
        family.requests.take(1)
        family.input_tokens.take(estimate.input_tokens)
        family.output_tokens.take(estimate.output_tokens)

    def correct(self, estimate: Estimate, usage: Usage) -> None:
        """Replace a call's estimate by what it used."""
        family = self._family(estimate.family)
        family.input_tokens.give_back(estimate.input_tokens - usage.input_tokens)
        family.output_tokens.give_back(estimate.output_tokens - usage.output_tokens)

    def give_back(self, estimate: Estimate) -> None:
        """The API turned the call away before reading it: its tokens were not used, the request was."""
        self.correct(estimate, Usage(0, 0, 0))

    def block(self, family: str, seconds: float) -> None:
        """The API said when to come back: earlier calls of this family would fail."""
        until = self._clock() + min(max(seconds, 0.0), _MAX_BLOCK_SECONDS)
        entry = self._family(family)
        entry.blocked_until = max(entry.blocked_until, until)

    def capacity(self, family: str) -> tuple[float, float]:
        """The most input and output tokens that one call can take without leaving a bucket in debt."""
        entry = self._family(family)
        return entry.input_tokens.capacity, entry.output_tokens.capacity

    def _family(self, name: str) -> _Family:
        family = self._families.get(name)
        if family is None:
            family = _Family(self._by_family.get(name, self._options), self._clock())
            self._families[name] = family
        return family
