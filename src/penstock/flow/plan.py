"""What a backlog will cost and how long it will take, told before the first call (no surprise bill).

log → [plan] → the user's yes
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from penstock.log.base import Bounds, EventLog
    from penstock.record import Partition, Record
    from penstock.task import Task

SPOTS = 4
"""Places of a partition where the sample is taken: a backlog's head may look unlike its end."""


class Backlog(NamedTuple):
    """Events that a group has still to answer, and what a sample of them looks like."""

    events: int
    sampled: int = 0
    mean_tokens: float = 0.0
    """Estimated input tokens of one event."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """How one tier is asked, what it charges and what the account grants it."""

    name: str
    call_usd: Callable[[int, int, int], float]
    """Price of one call by its tokens: input, input read from the prompt cache, output."""
    prompt_tokens: int
    """Instructions and reply schema, sent with every call."""
    reply_tokens_per_event: float
    requests_per_minute: float
    input_tokens_per_minute: float
    output_tokens_per_minute: float
    is_cached: bool = True
    """Whether the instructions are long enough for the prompt cache."""
    reply_tokens_per_call: float = 0.0
    """What a reply costs beside its entries, such as thinking."""


class StepPlan(NamedTuple):
    """All events asked of one tier."""

    name: str
    calls: int
    usd: float
    seconds: float
    bound_by: str
    """requests, input_tokens or output_tokens."""


class Plan(NamedTuple):
    """From the cheapest case (the first tier answers all) to the dearest (every event goes through every tier)."""

    events: int
    usd_low: float
    usd_high: float
    seconds_low: float
    seconds_high: float
    steps: tuple[StepPlan, ...]


async def measure(
    log: EventLog, task: Task[Any, Any], tokens_of: Callable[[Record], int], *, sample: int = 400
) -> Backlog:
    """Count what the task's group has before it and look at a sample. Nothing is claimed or moved."""
    bounds = await log.bounds(task.reads)
    done = await log.committed(task.group, task.reads)
    events = 0
    spans: list[tuple[Partition, int, int]] = []
    for partition, kept in bounds.items():
        known = done.get(partition)
        start = max(kept.low, known.base) if known else await _start(log, task, partition, kept)
        spans.append((partition, start, kept.high))
        events += max(0, kept.high - start - (known.count_above() if known else 0))
    records = await _sample(log, spans, sample)
    tokens = [tokens_of(record) for record in records]
    return Backlog(events, len(tokens), sum(tokens) / len(tokens) if tokens else 0.0)


async def _start(log: EventLog, task: Task[Any, Any], partition: Partition, kept: Bounds) -> int:
    match task.start_from:
        case "latest":
            return kept.high
        case "earliest":
            return kept.low
        case datetime() as moment:
            return await log.offset_at(partition, int(moment.timestamp() * 1000))


async def _sample(log: EventLog, spans: Sequence[tuple[Partition, int, int]], sample: int) -> list[Record]:
    whole = sum(max(0, high - start) for _, start, high in spans)
    records: list[Record] = []
    for partition, start, high in spans:
        length = high - start
        if length <= 0:
            continue
        spots = min(SPOTS, length)
        each = math.ceil(sample * length / whole / spots)
        for spot in range(spots):
            records += await log.read(partition, start + spot * length // spots, each)
    return records


def plan(
    backlog: Backlog, steps: Sequence[StepCost], *, items_per_call: float, tokens_beside_event: float = 12.0
) -> Plan:
    """What it costs if the first tier answers all, and if every event goes through all of them."""
    plans = tuple(_step(backlog, step, items_per_call, tokens_beside_event) for step in steps)
    usd = [step.usd for step in plans]
    seconds = [step.seconds for step in plans]
    return Plan(
        backlog.events,
        usd_low=usd[0] if usd else 0.0,
        usd_high=sum(usd),
        seconds_low=seconds[0] if seconds else 0.0,
        # Tiers have limits of their own and work side by side: the slowest one decides.
        seconds_high=max(seconds, default=0.0),
        steps=plans,
    )


def _step(backlog: Backlog, cost: StepCost, items_per_call: float, tokens_beside_event: float) -> StepPlan:
    if not backlog.events:
        return StepPlan(cost.name, 0, 0.0, 0.0, "requests")
    items = min(max(1.0, items_per_call), backlog.events)
    calls = math.ceil(backlog.events / items)
    per_call = backlog.events / calls
    events = per_call * (backlog.mean_tokens + tokens_beside_event)
    fresh, cached = (events, cost.prompt_tokens) if cost.is_cached else (events + cost.prompt_tokens, 0)
    reply = per_call * cost.reply_tokens_per_event + cost.reply_tokens_per_call
    minutes = {
        "requests": calls / cost.requests_per_minute,
        "input_tokens": calls * fresh / cost.input_tokens_per_minute,
        "output_tokens": calls * reply / cost.output_tokens_per_minute,
    }
    bound_by = max(minutes, key=lambda name: minutes[name])
    usd = calls * cost.call_usd(round(fresh), round(cached), round(reply))
    return StepPlan(cost.name, calls, usd, minutes[bound_by] * 60, bound_by)
