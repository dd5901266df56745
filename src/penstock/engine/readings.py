"""How a pipeline stands at this moment, and its numbers as samples of the declared metrics.

pipeline → [readings] → exposition, health
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, get_args

from penstock.engine.urgency import DEADLINE, PRIORITY
from penstock.outcome import FailureReason
from penstock.telemetry import metrics as m
from penstock.telemetry.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from penstock.engine.explain import PartitionWait
    from penstock.engine.stage import Stage
    from penstock.telemetry.counts import Counts
    from penstock.telemetry.pulse import Trouble
    from penstock.tier import Item

NANO = 1e-9


class StageReading(NamedTuple):
    """One step of the route."""

    tier: str
    waiting: int
    calls: int
    escalated: int
    cause: str
    waited_seconds: Mapping[str, float]
    """By cause, the wait that lasts included."""
    guard: tuple[int, int, int]
    """Second answers, those of them that differed, and the largest batch that it allows."""

    @classmethod
    def of(cls, stage: Stage, now: float) -> StageReading:
        """As it is now (`time.monotonic()`)."""
        waited = dict(stage.waited_seconds)
        if stage.cause:
            waited[stage.cause] = waited.get(stage.cause, 0.0) + now - stage.waits_since
        of = stage.guard
        guard = (of.asked, of.flipped, of.ceiling) if of else (0, 0, stage.batcher.max_items)
        return cls(stage.step.name, len(stage.batcher), stage.calls, stage.escalated, stage.cause, waited, guard)


@dataclass(frozen=True, slots=True)
class Reading:
    """One pipeline."""

    items_in_flight: int
    oldest_seconds: Callable[[], float]
    """Since the item was read that is in flight for longest. It looks at all of them: only who shows it asks."""
    bytes_in_flight: int
    items_held: int
    partitions: int
    paused: Mapping[str, int]
    """Partitions by cause."""
    explain: Callable[[], list[PartitionWait]]
    """Why each partition waits. It looks at all items in flight: only who shows it asks."""
    stages: Sequence[StageReading]
    has_joined: bool
    """It is a member of its group; partitions come later, or never where there are more workers."""
    is_draining: bool
    is_fetching: bool
    """What was read waits for its codec."""
    fault: str
    """The kind of what stopped it; its text may hold what an API said about an event."""
    died: Sequence[str]
    """Loops that ended by an exception."""
    overdue: Mapping[str, float]
    """Loops that should have shown themselves so many seconds ago."""
    poll_trouble: Trouble
    commit_trouble: Trouble


def oldest_seconds(in_flight: Iterable[Item]) -> float:
    """Since the item was read that is in flight for longest; 0 where none is."""
    first_ms = min((item.taken_ms for item in in_flight), default=0)
    return max(0.0, time.time() - first_ms / 1000) if first_ms else 0.0


def samples(task: str, counts: Counts, reading: Reading) -> Iterator[Sample]:
    """Everything that is known of one task in this process."""
    yield from _ended(task, counts)
    yield from _asked(task, counts, reading)
    yield from _in_flight(task, reading)
    yield from _paid(task, counts)
    yield from _written(task, counts)


def _ended(task: str, counts: Counts) -> Iterator[Sample]:
    yield Sample(m.RECORDS_READ, (task,), counts.records)
    yield Sample(m.RESULTS, (task,), counts.results)
    for reason in get_args(FailureReason):  # those that never happened too: a rate needs a beginning
        yield Sample(m.DEAD_LETTERS, (task, reason), counts.failures[reason])
    for reason, count in counts.hand_over_reasons.items():
        yield Sample(m.HAND_OVERS, (task, reason), count)
    yield Sample(m.SKIPPED, (task,), counts.skipped)
    yield Sample(m.ERASED, (task,), counts.erased)
    yield Sample(m.DEADLINES_MISSED, (task,), counts.deadlines_missed)
    for header in (PRIORITY, DEADLINE):
        yield Sample(m.HEADERS_IGNORED, (task, header), counts.headers_ignored[header])
    yield Sample(m.LATE, (task,), counts.late)
    yield Sample(m.EVENT_AGE, (task,), counts.event_age_seconds)


def _asked(task: str, counts: Counts, reading: Reading) -> Iterator[Sample]:
    for stage in reading.stages:
        labels, found = (task, stage.tier), counts.tiers[stage.tier]
        yield Sample(m.CALLS, labels, found.calls)
        yield Sample(m.CALLS_IN_FLIGHT, labels, stage.calls)
        yield Sample(m.CALL_SECONDS, labels, found.call_seconds)
        yield Sample(m.BATCH_ITEMS, labels, found.batch_items)
        yield Sample(m.ESCALATIONS, labels, stage.escalated)
        yield Sample(m.ITEMS_WAITING, labels, stage.waiting)
        for (kind, detail), count in found.outcomes.items():
            if kind == "answer":
                yield Sample(m.ANSWERS, (*labels, detail), count)
            else:
                yield Sample(m.OUTCOMES, (*labels, kind, detail), count)
        answers = sum(count for (kind, _), count in found.outcomes.items() if kind == "answer")
        yield Sample(m.OUTCOMES, (*labels, "answer", ""), answers)
        for cause, seconds in stage.waited_seconds.items():
            yield Sample(m.TIER_HELD, (*labels, cause), int(cause == stage.cause))
            yield Sample(m.TIER_WAIT_SECONDS, (*labels, cause), seconds)
        for metric, value in zip((m.GUARD_ASKED, m.GUARD_FLIPPED, m.GUARD_CEILING), stage.guard, strict=True):
            yield Sample(metric, labels, value)


def _in_flight(task: str, reading: Reading) -> Iterator[Sample]:
    yield Sample(m.ITEMS_IN_FLIGHT, (task,), reading.items_in_flight)
    yield Sample(m.OLDEST_IN_FLIGHT, (task,), reading.oldest_seconds())
    yield Sample(m.BYTES_IN_FLIGHT, (task,), reading.bytes_in_flight)
    yield Sample(m.ITEMS_HELD, (task,), reading.items_held)
    yield Sample(m.PARTITIONS_OWNED, (task,), reading.partitions)
    for cause in ("offset_map", "key_order"):
        yield Sample(m.PARTITIONS_PAUSED, (task, cause), reading.paused.get(cause, 0))


def _paid(task: str, counts: Counts) -> Iterator[Sample]:
    for (model, name), tokens in counts.tokens.items():
        yield Sample(m.TOKENS, (task, model, name), tokens)
    for model, nanousd in counts.billed_nanousd.items():
        yield Sample(m.SPEND, (task, model), nanousd * NANO)
    yield Sample(m.COMMITTED, (task,), counts.nanousd * NANO)
    yield Sample(m.WASTE, (task,), counts.waste_nanousd * NANO)
    yield Sample(m.GUARD_SPEND, (task,), counts.guard_nanousd * NANO)


def _written(task: str, counts: Counts) -> Iterator[Sample]:
    yield Sample(m.COMMIT_SECONDS, (task,), counts.commit_seconds)
    yield Sample(m.COMMIT_RETRIES, (task,), counts.commits_retried)
    if counts.committed_at:
        yield Sample(m.COMMITTED_AT, (task,), counts.committed_at)
    for operation in ("poll", "commit"):
        yield Sample(m.LOG_ERRORS, (task, operation), counts.log_errors[operation])
    for change in ("assigned", "revoked", "lost"):
        yield Sample(m.REBALANCES, (task, change), counts.rebalances[change])
    yield Sample(m.UNREAD_LOST, (task,), counts.unread_lost)
    yield Sample(m.PARTITIONS_LOST, (task,), counts.partitions_lost)
