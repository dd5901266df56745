"""What work will cost and how long it will take, told before the first call (no surprise bill).

backlog, steady → [plan] → the user's yes
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from penstock.flow.steady import Crew, Demand, Flow, StepCost, call_usd, flow


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
    start, doubling = crew.ramp.start_share, crew.ramp.doubling_seconds
    lost = 0.0
    if start < 1.0 and found.account_per_second * start < rate:  # slow start: use doubles until it is what it will be
        reach_seconds = doubling * math.log2(rate / (start * found.account_per_second))
        done = (rate - start * found.account_per_second) * doubling / math.log(2)
        lost = reach_seconds - done / rate
    return demand.events / left + lost * rate / left + found.call_seconds


def _useful(demand: Demand, found: Flow, crew: Crew) -> int:
    """So many workers reach what the account bears (or what comes in, where nothing waits); each needs a partition."""
    goal = found.account_per_second
    if not demand.events and demand.arrival_per_second:
        goal = min(goal, demand.arrival_per_second)
    if math.isinf(goal):
        return crew.partitions
    return max(1, min(crew.partitions, math.ceil(goal / found.worker_per_second - 1e-9)))
