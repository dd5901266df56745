"""What a group has still to answer, and a sample of it from all over: nothing is claimed or moved.

log → [backlog] → plan
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from penstock.log.base import Bounds, EventLog
    from penstock.record import Partition, Record
    from penstock.task import Task

SPOTS = 16
"""Places of a partition where the sample is taken: a backlog's head may look unlike its end."""


class Backlog(NamedTuple):
    """Events that a group has still to answer, and records of them."""

    events: int
    partitions: int
    sample: list[Record]
    is_past: bool = False
    """Nothing waits: the sample is of what was there before."""


async def measure(
    log: EventLog, task: Task[Any, Any], *, topic: str = "", sample: int = 400, takes_past: bool = False
) -> Backlog:
    """Count what the task's group has before it and look at a sample.

    `topic`: another one of the same events, counted whole. `takes_past`: where nothing waits, sample what the topic keeps.
    """
    bounds = await log.bounds(topic or task.reads)
    done = {} if topic else await log.committed(task.group, task.reads)
    events = 0
    spans: list[tuple[Partition, int, int]] = []
    for partition, kept in bounds.items():
        known = done.get(partition)
        if known is not None:
            start = max(kept.low, known.base)
        else:
            start = kept.low if topic else await _start(log, task, partition, kept)
        spans.append((partition, start, kept.high))
        events += max(0, kept.high - start - (known.count_above() if known else 0))
    is_past = takes_past and events <= 0
    if is_past:
        spans = [(partition, kept.low, kept.high) for partition, kept in bounds.items()]
    return Backlog(events, len(bounds), await _sample(log, spans, sample), is_past)


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
        wanted = math.ceil(sample * length / whole)
        spots = min(SPOTS, length, wanted)
        starts = [start + spot * length // spots for spot in range(spots)]
        for first, following in zip(starts, [*starts[1:], high], strict=True):
            records += await log.read(partition, first, min(math.ceil(wanted / spots), following - first))
    return records
