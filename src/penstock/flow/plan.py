"""What work will cost and how long it will take, told before the first call (no surprise bill).

backlog, steady → [plan] → the user's yes
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from penstock.flow.fleet import kept_seconds, spent_in_seconds
from penstock.flow.steady import Crew, Demand, Flow, StepCost, call_usd, flow

_STEP_SECONDS = 0.1
_LITTLE = 0.05
"""Seconds of the limit that make no difference any more."""
_LONGEST_BEGIN_SECONDS = 900.0


class Cap(NamedTuple):
    """A ceiling in dollars."""

    name: str
    usd: float
    period_seconds: float | None = None
    """None: for the whole run."""


class Case(NamedTuple):
    """What becomes of a backlog."""

    usd: float
    seconds: float
    """Until the last answer; infinite where more comes in than goes out, or where a budget ends before the events do."""
    flow: Flow
    flow_seconds: float = 0.0
    """The same without budgets."""
    cap: Cap | None = None
    """The budget that ends first, if one does."""
    paid_events: int | None = None
    """How many events it pays."""


class Plan(NamedTuple):
    """Three cases: as expected, the first model answers all, and every event goes to the end of the route."""

    expected: Case
    best: Case
    worst: Case
    steady: Flow | None
    """At the rate at which events come, where that is given."""
    useful_workers: int
    """More of them change nothing."""


def plan(demand: Demand, steps: Sequence[StepCost], crew: Crew, caps: Sequence[Cap] = ()) -> Plan:
    """Everything that can be said before the first call."""
    expected = _case(demand, steps, crew, caps)
    best = _case(demand, with_answers(steps, 1.0), crew, caps)
    worst = _case(demand, with_answers(steps, 0.0), crew, caps)
    steady = None
    if demand.arrival_per_second > 0:
        steady = flow(demand, steps, crew, at_most=demand.arrival_per_second)
    return Plan(expected, best, worst, steady, _useful(demand, expected.flow, crew))


def with_answers(steps: Sequence[StepCost], answers: float) -> list[StepCost]:
    """The same route where the first model answers this part of what comes to it; rules of your own stay as they are."""
    return [replace(step, answers=answers) if step.family else step for step in steps]


def _case(demand: Demand, steps: Sequence[StepCost], crew: Crew, caps: Sequence[Cap]) -> Case:
    if demand.events:  # no call holds more than there is; where nothing waits, speed and price are those of full calls
        steps = [replace(step, most_items=min(step.most_items, float(demand.events))) for step in steps]
    found = flow(demand, steps, crew)
    # A worker's first call of each step writes the prompt into the cache, if nobody's is there.
    first = sum(call_usd(s, 1.0, 1.0) - call_usd(s, 1.0, 0.0) for s in steps if s.family and s.cache_seconds)
    usd = demand.events * found.usd_per_event + (first if demand.events else 0.0)
    seconds = _seconds(demand, found, crew) if demand.events else 0.0
    for cap in sorted(caps, key=lambda cap: cap.usd):
        if cap.usd >= usd:
            continue
        paid = int(cap.usd / found.usd_per_event + 1e-6)
        if cap.period_seconds is None:
            return Case(usd, math.inf, found, seconds, cap, paid)
        periods = math.ceil(usd / cap.usd) - 1
        return Case(usd, max(seconds, periods * cap.period_seconds), found, seconds, cap, paid)
    return Case(usd, seconds, found, seconds)


def _seconds(demand: Demand, found: Flow, crew: Crew) -> float:
    """From the start of the workers to the last answer; what comes meanwhile is answered too."""
    rate = found.events_per_second
    left = rate - demand.arrival_per_second
    if left <= 0:
        return math.inf
    if math.isinf(found.account_per_second):
        return demand.events / left + found.call_seconds
    seconds, events = _begin(demand, found, crew)
    return seconds + events / left + found.call_seconds


def _begin(demand: Demand, found: Flow, crew: Crew) -> tuple[float, float]:
    """Until the pace is steady: use doubles (slow start), and what the account has saved up is spent. Seconds, and what is left."""
    account, ours = found.account_per_second, found.worker_per_second * crew.busy
    saved = full = max(0.0, crew.holds_seconds - kept_seconds(crew.holds_seconds, found.call_seconds))
    spent_in = spent_in_seconds(found.call_seconds)
    growth = 2.0 ** (_STEP_SECONDS / crew.ramp.doubling_seconds)
    seconds, events, factor = 0.0, float(demand.events), min(1.0, crew.ramp.start_share)
    while events > 0.0 and seconds < _LONGEST_BEGIN_SECONDS:
        if account * factor >= found.events_per_second and (saved < _LITTLE or ours <= account):
            break
        middle = min(1.0, factor * math.sqrt(growth))
        pace = min(account * middle * (1.0 + middle * saved / spent_in), ours)
        saved = min(full, saved - (pace / account - 1.0) * _STEP_SECONDS)
        factor = min(1.0, factor * growth)
        step = (
            _STEP_SECONDS
            if pace <= demand.arrival_per_second
            else min(_STEP_SECONDS, events / (pace - demand.arrival_per_second))
        )
        events -= (pace - demand.arrival_per_second) * step
        seconds += step
    return seconds, max(events, 0.0)


def _useful(demand: Demand, found: Flow, crew: Crew) -> int:
    """So many workers reach what the account bears (or what comes in, where nothing waits); each needs a partition."""
    goal = found.account_per_second
    if not demand.events and demand.arrival_per_second:
        goal = min(goal, demand.arrival_per_second)
    if math.isinf(goal):
        return crew.partitions
    return max(1, min(crew.partitions, math.ceil(goal / found.worker_per_second - 1e-9)))
