"""May this call be made now, and if not, why and until when: limits, dollars, concurrency and outages together.

batcher → claude → [gate]
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from penstock.flow.base import Clock, Estimate, Usage, Wait
from penstock.flow.breaker import Breaker, BreakerOptions
from penstock.flow.concurrency import Concurrency, ConcurrencyOptions
from penstock.flow.limits import LimitOptions, Limits
from penstock.flow.spend import Spend, SpendOptions


class Permit:
    """The right to make one call. It must be closed exactly once, by what the call's end says about the API."""

    __slots__ = ("_gate", "_money_trial", "_trial", "closed", "estimate")

    def __init__(self, gate: Gate, estimate: Estimate, *, trial: bool, money_trial: bool) -> None:
        self._gate = gate
        self._trial = trial
        self._money_trial = money_trial
        self.estimate = estimate
        self.closed = False

    def succeeded(self, usage: Usage) -> None:
        """Answered: the estimate gives way to what was used and billed."""
        self._close(failed=False)
        self._gate.limits.correct(self.estimate, usage)
        self._gate.spend.settle(self.estimate.worst_nanousd, usage.nanousd)

    def dropped(self, retry_after_seconds: float | None = None) -> None:
        """Turned away, not billed. With `retry_after_seconds` the whole family waits; without, it is a sign of an outage."""
        self._close(failed=True if retry_after_seconds is None else None)
        self._gate.limits.give_back(self.estimate)
        self._gate.spend.settle(self.estimate.worst_nanousd, 0)
        if retry_after_seconds is not None:
            self._gate.limits.block(self.estimate.family, retry_after_seconds)

    def ignored(self, *, outage: bool = False) -> None:
        """Not billed; what it took of the limits is not known and stays taken. `outage`: the API failed, not the request."""
        self._close(failed=True if outage else None)
        self._gate.spend.settle(self.estimate.worst_nanousd, 0)

    def unconfirmed(self, *, outage: bool = False) -> None:
        """No reply was read: it may have been billed and counted. `outage`: the API is to blame, not we."""
        self._close(failed=True if outage else None)
        self._gate.spend.leave_unconfirmed(self.estimate.worst_nanousd)

    def _close(self, *, failed: bool | None) -> None:
        if self.closed:
            raise RuntimeError("a permit was closed twice")
        self.closed = True
        self._gate.concurrency.end()
        self._gate.breaker(self.estimate.family).end(trial=self._trial, failed=failed)
        self._gate.money.end(trial=self._money_trial, failed=None if failed else failed)


class Gate:
    """One per process: all its tiers and tasks share the account's limits."""

    def __init__(
        self,
        limits: LimitOptions | None = None,
        spend: SpendOptions | None = None,
        concurrency: ConcurrencyOptions | None = None,
        *,
        breaker: BreakerOptions | None = None,
        by_family: Mapping[str, LimitOptions] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.clock = clock
        self.limits = Limits(limits or LimitOptions(), clock, by_family)
        self.spend = Spend(spend or SpendOptions())
        self.concurrency = Concurrency(concurrency or ConcurrencyOptions())
        self._breaker_options = breaker or BreakerOptions()
        self._breakers: dict[str, Breaker] = {}
        self.money = Breaker(self._breaker_options, clock, "spend")
        """Of the account itself: see `pause`."""

    def admit(self, estimate: Estimate) -> Permit | Wait:
        """A permit, with everything debited; or why not."""
        wait = self.check(estimate)
        if wait is not None:
            return wait
        self.limits.take(estimate)
        self.spend.reserve(estimate.worst_nanousd)
        self.concurrency.begin()
        trial = self.breaker(estimate.family).begin()
        return Permit(self, estimate, trial=trial, money_trial=self.money.begin())

    def check(self, estimate: Estimate) -> Wait | None:
        """Like `admit`, taking nothing. What lasts longest is named first."""
        return (
            self.money.check()
            or self.spend.check(estimate.worst_nanousd)
            or self.breaker(estimate.family).check()
            or self.limits.check(estimate)
            or self.concurrency.check()
        )

    def pause(self, seconds: float) -> None:
        """The account's own money ran out: nothing is sent, of any family, until it is worth a trial."""
        self.money.hold(seconds)

    def breaker(self, family: str) -> Breaker:
        """What holds one model family back in an outage."""
        breaker = self._breakers.get(family)
        if breaker is None:
            breaker = self._breakers[family] = Breaker(self._breaker_options, self.clock)
        return breaker
