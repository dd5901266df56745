"""May this call be made now, and if not, why and until when: limits, dollars, concurrency and outages together.

batcher → claude → [gate]
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from penstock.flow.base import Cause, Clock, Estimate, Explanation, Usage, Wait
from penstock.flow.breaker import Breaker, BreakerOptions
from penstock.flow.ceilings import SpendOptions
from penstock.flow.concurrency import Concurrency, ConcurrencyOptions
from penstock.flow.fleet import FleetOptions, Shares
from penstock.flow.headers import read_limits
from penstock.flow.limits import LimitOptions, Limits
from penstock.flow.ramp import RampOptions
from penstock.flow.spend import Spend

_UNTOLD_SECONDS = 1.0
"""A rate limit that does not say when to come back."""


class Permit:
    """The right to make one call. It must be closed exactly once, by what the call's end says about the API."""

    __slots__ = ("_gate", "_hold", "_money_trial", "_number", "_started", "_trial", "closed", "estimate")

    def __init__(self, gate: Gate, estimate: Estimate, number: int, *, trial: bool, money_trial: bool) -> None:
        self._gate = gate
        self._hold = gate.spend.reserve(estimate.task, estimate.model, estimate.worst_nanousd)
        self._number = number
        self._trial = trial
        self._money_trial = money_trial
        self._started = gate.clock()
        self.estimate = estimate
        self.closed = False

    def hear(self, headers: Mapping[str, str]) -> None:
        """What came back names the account's limits: every reply does, those that turn a call away too."""
        if headers:
            self._gate.limits.hear(self.estimate.family, read_limits(headers))

    def succeeded(self, usage: Usage) -> None:
        """Answered: the estimate gives way to what was used and billed."""
        self._close(failed=False)
        self._gate.limits.correct(self.estimate, usage)
        self._gate.limits.note_call(self.estimate.family, self._gate.clock() - self._started)
        self._gate.spend.settle(self._hold, self.estimate.worst_nanousd, usage.nanousd)

    def refused(self, retry_after_seconds: float | None = None, *, grows_too_fast: bool = False) -> None:
        """Turned away by a rate limit, not billed: the whole family waits, in every task of this process."""
        self._close(failed=None)
        limits, family = self._gate.limits, self.estimate.family
        limits.give_back(self.estimate)
        limits.refused(family, grows_too_fast=grows_too_fast)
        limits.block(family, _UNTOLD_SECONDS if retry_after_seconds is None else retry_after_seconds)
        self._gate.spend.settle(self._hold, self.estimate.worst_nanousd, 0)

    def dropped(self, retry_after_seconds: float | None = None) -> None:
        """Turned away by overload, not billed: a sign of an outage. With `retry_after_seconds` the family waits as told."""
        self._close(failed=True)
        self._gate.limits.give_back(self.estimate)
        self._gate.spend.settle(self._hold, self.estimate.worst_nanousd, 0)
        if retry_after_seconds is not None:
            self._gate.limits.block(self.estimate.family, retry_after_seconds)

    def ignored(self, *, outage: bool = False) -> None:
        """Not billed; what it took of the limits is not known and stays taken. `outage`: the API failed, not the request."""
        self._close(failed=True if outage else None)
        self._gate.spend.settle(self._hold, self.estimate.worst_nanousd, 0)

    def unconfirmed(self, *, outage: bool = False) -> None:
        """No reply was read: it may have been billed and counted. `outage`: the API is to blame, not we."""
        self._close(failed=True if outage else None)
        self._gate.spend.leave_unconfirmed(self._hold, self.estimate.worst_nanousd)

    def _close(self, *, failed: bool | None) -> None:
        if self.closed:
            raise RuntimeError("a permit was closed twice")
        self.closed = True
        gate, family = self._gate, self.estimate.family
        gate.concurrency.end(family, self._number, overloaded=failed)
        if gate.breaker(family).end(trial=self._trial, failed=failed):
            gate.start_slowly(family)
        gate.money.end(trial=self._money_trial, failed=None if failed else failed)


class Gate:
    """One per process: all its tiers and tasks share the account's limits."""

    def __init__(
        self,
        limits: LimitOptions | None = None,
        spend: SpendOptions | Spend | None = None,
        concurrency: ConcurrencyOptions | None = None,
        *,
        breaker: BreakerOptions | None = None,
        ramp: RampOptions | None = None,
        fleet: FleetOptions | None = None,
        by_family: Mapping[str, LimitOptions] | None = None,
        weights: Mapping[str, float] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.clock = clock
        shares = Shares(weights, fleet.weight_of_others if fleet else 0.0)
        self.limits = Limits(limits or LimitOptions(), clock, by_family, ramp=ramp, fleet=fleet, shares=shares)
        self.spend = spend if isinstance(spend, Spend) else Spend(spend or SpendOptions(), clock)
        self.concurrency = Concurrency(concurrency or ConcurrencyOptions())
        self._breaker_options = breaker or BreakerOptions()
        self._breakers: dict[str, Breaker] = {}
        self.money = Breaker(self._breaker_options, clock, "spend_cap")
        """Of the account itself: see `pause`."""
        self._held: dict[tuple[str, str], Explanation] = {}
        self.waits: Counter[tuple[str, Cause]] = Counter()
        """How often a family began to wait, by cause."""

    def admit(self, estimate: Estimate) -> Permit | Wait:
        """A permit, with everything debited; or why not."""
        wait = self.check(estimate)
        if wait is not None:
            return wait
        self.limits.take(estimate)
        number = self.concurrency.begin(estimate.family)
        trial = self.breaker(estimate.family).begin()
        return Permit(self, estimate, number, trial=trial, money_trial=self.money.begin())

    def check(self, estimate: Estimate) -> Wait | None:
        """Like `admit`, taking nothing. What lasts longest is named first."""
        wait = (
            self.money.check()
            or self.spend.check(estimate.task, estimate.model, estimate.worst_nanousd)
            or self.breaker(estimate.family).check()
            or self.limits.check(estimate)
            or self.concurrency.check(estimate.family)
        )
        self._remember(estimate, wait)
        return wait

    def explain(self, family: str, task: str = "") -> Explanation | None:
        """Why a task's calls of this family wait, since when and until when; None where they did not when last asked."""
        return self._held.get((family, task))

    def pause(self, seconds: float) -> None:
        """The account's own money ran out: nothing is sent, of any family, until it is worth a trial."""
        self.money.hold(seconds)

    def note_share(self, task: str, assigned: int, total: int) -> None:
        """So many of the task's partitions are ours, of so many that there are: so much of the account is."""
        self.limits.note_share(task, assigned, total)

    def start_slowly(self, family: str) -> None:
        """An outage is over: nobody comes back with all he has."""
        self.limits.start_slowly(family)
        self.concurrency.family(family).begin_slowly()

    def breaker(self, family: str) -> Breaker:
        """What holds one model family back in an outage."""
        breaker = self._breakers.get(family)
        if breaker is None:
            breaker = self._breakers[family] = Breaker(self._breaker_options, self.clock)
        return breaker

    def breakers(self) -> dict[str, Breaker]:
        """Of all families that were asked so far."""
        return dict(self._breakers)

    def _remember(self, estimate: Estimate, wait: Wait | None) -> None:
        key = (estimate.family, estimate.task)
        if wait is None:
            self._held.pop(key, None)
            return
        held = self._held.get(key)
        if held is None or held.cause != wait.cause:
            self.waits[estimate.family, wait.cause] += 1
        since = held.since if held is not None and held.cause == wait.cause else self.clock()
        if wait.cause == "outage":  # trials go through and say nothing until one succeeds
            since = self.breaker(estimate.family).since
        self._held[key] = Explanation(wait.cause, since, wait.until)
