"""How fast a route can go, what binds it and what an event costs at that pace.

limits, prices → [steady] → plan

A route is a chain of queues. Where one binds, its batches are full; where none waits, a batch holds what comes in the time
that an item waits for company. Everything else is counting: tokens and requests of an event against what the account
grants, calls in flight and CPU against what the workers have.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.flow.base import KINDS, Kind
from penstock.flow.limits import LimitOptions
from penstock.flow.ramp import RampOptions

_ROUNDS = 25
"""Batches follow from the rate and the rate from the batches: so often both are worked out again."""


class CallTokens(NamedTuple):
    """What one call takes on average, by price class."""

    fresh: float
    written: float
    read: float
    output: float


@dataclass(frozen=True, slots=True)
class StepCost:
    """How one tier of a route is asked, what it charges, what the account grants it, and how often it has the last word."""

    name: str
    answers: float
    """Of the items that come to it, the part that it ends; the last step ends all."""
    family: str = ""
    """Steps of one family share its limits; empty where no model is asked: that is free and unlimited."""
    item_tokens: float = 0.0
    prompt_tokens: float = 0.0
    """Instructions and reply schema, sent with every call."""
    reply_tokens: float = 0.0
    """Of one item."""
    limits: LimitOptions = field(default_factory=LimitOptions)
    most_items: float = 1.0
    """Of one call, where more wait."""
    usd: Callable[[CallTokens], float] = lambda _: 0.0
    call_seconds: Callable[[float], float] = lambda _: 0.0
    """By items."""
    cache_seconds: float = 300.0
    """So long the prompt stays in the cache after a call; 0: it is too short for the cache."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The events: those that wait, and those that come."""

    events: int
    alone: float = 0.0
    """Part of them that is asked alone, because they address the model."""
    arrival_per_second: float = 0.0
    wait_seconds: float = 0.2
    """How long an item waits for company."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers, and what each can do."""

    workers: int = 1
    partitions: int = 1
    max_calls: int = 128
    max_items: int = 30_000
    item_cpu_seconds: float = 40e-6
    call_cpu_seconds: float = 1e-3
    """Both as benchmarked: `docs/reference/benchmarks.md`."""
    account_share: float = 1.0
    """Part of the account's limits that this work gets."""
    ramp: RampOptions = field(default_factory=RampOptions)
    holds_seconds: float = 0.0
    """So much of each limit the account has saved up at the start, as time of the limit."""

    @property
    def busy(self) -> int:
        """Workers that get partitions."""
        return max(1, min(self.workers, self.partitions))


class Bound(NamedTuple):
    """What keeps it from going faster."""

    what: str
    """requests, input_tokens, output_tokens, calls, cpu, or arrival (nothing but what comes in)."""
    family: str = ""


class StepPlan(NamedTuple):
    """One tier's part."""

    name: str
    asked: float
    """Part of all events that come to it."""
    answered: float
    """Part of all events that it ends."""
    items_per_call: float
    calls_per_event: float
    usd_per_event: float
    used: Mapping[Kind, float]
    """By kind of limit, the part of its family's limit in use (all steps of the family together)."""


class Flow(NamedTuple):
    """Events at a steady pace."""

    events_per_second: float
    usd_per_event: float
    bound: Bound
    steps: tuple[StepPlan, ...]
    call_seconds: float
    """Of one event's calls, one after the other, as far as the average event goes."""
    account_per_second: float
    """What the account's limits would bear; infinite where nothing of it is needed."""
    worker_per_second: float
    """What one worker could do if the account bore it."""


def flow(demand: Demand, steps: Sequence[StepCost], crew: Crew, *, at_most: float = math.inf) -> Flow:
    """The fastest steady pace, or the one at which events come where that is slower."""
    asked = _asked(steps)
    full = [step.most_items for step in steps]
    account, bound = _account_rate(demand, steps, asked, crew)
    batches, rate, worker = full, min(account, at_most), math.inf
    for _ in range(_ROUNDS):
        worker, worker_bound = _worker_rate(demand, steps, asked, batches, crew)
        ours = worker * crew.busy
        rate = min(account, ours, at_most)
        what = Bound("arrival") if at_most <= min(account, ours) else bound if account <= ours else worker_bound
        batches = [
            _items(demand, step, part, rate, crew, is_first=index == 0, bound=what)
            for index, (step, part) in enumerate(zip(steps, asked, strict=True))
        ]
    batches = _fitting(demand, steps, asked, batches, rate, crew)
    made = _step_plans(demand, steps, asked, batches, rate, crew)
    seconds = sum(part * step.call_seconds(items) for step, part, items in zip(steps, asked, batches, strict=True))
    return Flow(rate, sum(step.usd_per_event for step in made), what, made, seconds, account, worker)


def _asked(steps: Sequence[StepCost]) -> list[float]:
    parts, left = [], 1.0
    for step in steps:
        parts.append(left)
        left *= 1.0 - step.answers
    return parts


def _items(
    demand: Demand, step: StepCost, asked: float, rate: float, crew: Crew, *, is_first: bool, bound: Bound
) -> float:
    """Items of a call: all that fit where items queue up, else those that come while one waits for company."""
    queues = bound.what != "arrival" and (step.family == bound.family if bound.family else is_first)
    if queues or not step.family:
        return step.most_items
    arrive = rate * asked * (1.0 - demand.alone) / crew.busy
    if arrive * step.call_seconds(1.0) <= 1.0:  # hardly ever a call in flight: nobody waits
        return 1.0
    return min(step.most_items, 1.0 + arrive * demand.wait_seconds)


def _calls_per_event(demand: Demand, asked: float, items: float) -> float:
    return asked * ((1.0 - demand.alone) / items + demand.alone)


def _needs(demand: Demand, step: StepCost, asked: float, items: float, rate: float) -> dict[Kind, float]:
    """Of an event, what is counted against the family's limits."""
    calls = _calls_per_event(demand, asked, items)
    fresh = step.prompt_tokens * _cold(step, calls * rate) * calls
    return {
        "requests": calls,
        "input_tokens": asked * step.item_tokens + fresh,
        "output_tokens": asked * step.reply_tokens,
    }


def _cold(step: StepCost, calls_per_second: float) -> float:
    """Part of the calls that find the prompt gone from the cache."""
    if not step.cache_seconds:
        return 1.0
    return math.exp(-min(calls_per_second * step.cache_seconds, 700.0))


def _account_rate(demand: Demand, steps: Sequence[StepCost], asked: Sequence[float], crew: Crew) -> tuple[float, Bound]:
    """What the account bears with full batches: where a limit binds they fill up by themselves."""
    needs: dict[str, dict[Kind, float]] = defaultdict(lambda: dict.fromkeys(KINDS, 0.0))
    limits: dict[str, LimitOptions] = {}
    for step, part in zip(steps, asked, strict=True):
        if step.family and part > 0:
            limits[step.family] = step.limits
            for kind, amount in _needs(demand, step, part, step.most_items, math.inf).items():
                needs[step.family][kind] += amount
    rates = {
        Bound(kind, family): crew.account_share * limits[family].per_minute(kind) / 60.0 / needs[family][kind]
        for family in needs
        for kind in KINDS
        if needs[family][kind] > 0
    }
    if not rates:
        return math.inf, Bound("cpu")
    scarcest = min(rates, key=lambda bound: rates[bound])
    return rates[scarcest], scarcest


def _worker_rate(
    demand: Demand, steps: Sequence[StepCost], asked: Sequence[float], batches: Sequence[float], crew: Crew
) -> tuple[float, Bound]:
    """What one worker bears: calls in flight, items in flight, CPU."""
    in_flight = cpu = items_in_flight = 0.0
    for step, part, items in zip(steps, asked, batches, strict=True):
        together, alone = part * (1.0 - demand.alone) / items, part * demand.alone
        seconds, alone_seconds = step.call_seconds(items), step.call_seconds(1.0)
        in_flight += together * seconds + alone * alone_seconds
        items_in_flight += part * ((1.0 - demand.alone) * seconds + demand.alone * alone_seconds)
        cpu += part * crew.item_cpu_seconds + (together + alone) * (crew.call_cpu_seconds if step.family else 0.0)
    rates = {
        Bound("cpu"): 1.0 / max(cpu, 1e-9),
        Bound("calls"): min(
            crew.max_calls / in_flight if in_flight else math.inf,
            crew.max_items / items_in_flight if items_in_flight else math.inf,
        ),
    }
    scarcest = min(rates, key=lambda bound: rates[bound])
    return rates[scarcest], scarcest


def _fitting(
    demand: Demand,
    steps: Sequence[StepCost],
    asked: Sequence[float],
    batches: Sequence[float],
    rate: float,
    crew: Crew,
) -> list[float]:
    """Calls that the account does not bear wait, and what waits fills them."""
    made = _step_plans(demand, steps, asked, batches, rate, crew)
    return [
        step.most_items if max(found.used.values(), default=0.0) > 1.0 else items
        for step, found, items in zip(steps, made, batches, strict=True)
    ]


def _step_plans(
    demand: Demand,
    steps: Sequence[StepCost],
    asked: Sequence[float],
    batches: Sequence[float],
    rate: float,
    crew: Crew,
) -> tuple[StepPlan, ...]:
    used: dict[str, dict[Kind, float]] = defaultdict(lambda: dict.fromkeys(KINDS, 0.0))
    for step, part, items in zip(steps, asked, batches, strict=True):
        for kind, amount in _needs(demand, step, part, items, rate).items() if step.family else ():
            limit = step.limits.per_minute(kind) * crew.account_share / 60.0
            used[step.family][kind] += amount * rate / limit
    return tuple(
        StepPlan(
            step.name,
            part,
            part * step.answers if step is not steps[-1] else part,
            items,
            _calls_per_event(demand, part, items),
            _usd(demand, step, part, items, rate),
            used[step.family] if step.family else {},
        )
        for step, part, items in zip(steps, asked, batches, strict=True)
    )


def _usd(demand: Demand, step: StepCost, asked: float, items: float, rate: float) -> float:
    """Of an average event."""
    cold = _cold(step, _calls_per_event(demand, asked, items) * rate)
    together, alone = asked * (1.0 - demand.alone) / items, asked * demand.alone
    return together * call_usd(step, items, cold) + alone * call_usd(step, 1.0, cold)


def call_usd(step: StepCost, items: float, cold: float) -> float:
    fresh, output = items * step.item_tokens, items * step.reply_tokens
    if not step.cache_seconds:
        return step.usd(CallTokens(fresh + step.prompt_tokens, 0.0, 0.0, output))
    written = step.usd(CallTokens(fresh, step.prompt_tokens, 0.0, output)) if cold > 0 else 0.0
    return cold * written + (1.0 - cold) * step.usd(CallTokens(fresh, 0.0, step.prompt_tokens, output))
