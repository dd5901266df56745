"""Why each partition waits: read off the stages when somebody asks, never kept.

intake, cascade, checkpoint → [explain] → ops
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.engine.stage import SPELL_GAP_SECONDS
from penstock.tier import Explains

if TYPE_CHECKING:
    from penstock.engine.cascade import Cascade, Ending
    from penstock.engine.checkpoint import Checkpoint
    from penstock.engine.intake import Intake
    from penstock.engine.stage import Stage
    from penstock.record import Partition
    from penstock.task import Task
    from penstock.tier import Item

STOPS_READING = ("offset_map", "key_order", "worker_full")
"""What keeps a partition from being read on, whatever else its items wait for."""
_OWN_WORDS = {"spend": "budget", "spend_cap": "account_stop", "busy": "concurrency", "rate_limited": "retry_after"}
_TRIED_AGAIN = frozenset({"outage", "overloaded", "unreachable", "server_error", "timed_out", "account_stop"})
"""When these end nobody knows; only when it is tried again."""


class Reason(NamedTuple):
    """One thing that some items of a partition, or its reading, wait for. Times are Unix time."""

    cause: str
    """Bounded: see `docs/how-to/why-is-it-waiting.md`."""
    items: int = 0
    tier: str = ""
    family: str = ""
    """Whose limit it is."""
    since: float | None = None
    """None: nobody noted it."""
    until: float | None = None
    """By estimate; None where nobody knows."""
    next_try: float | None = None
    offset: int | None = None
    """The one that holds up others."""


class PartitionWait(NamedTuple):
    """A partition of ours, and everything it waits for: what keeps most of it first."""

    partition: Partition
    reasons: tuple[Reason, ...]
    in_flight: int
    oldest_since: float | None
    """When the oldest of its items in flight was read."""


class Explainer:
    """Of one pipeline, at one moment."""

    def __init__(self, task: Task[Any, Any], intake: Intake, cascade: Cascade, checkpoint: Checkpoint[Ending]) -> None:
        self._task = task
        self._intake = intake
        self._cascade = cascade
        self._checkpoint = checkpoint
        self._now, self._unix = time.monotonic(), time.time()
        self._waiting = [self._of_stage(stage) for stage in cascade.stages]

    def explain(self, calls: Mapping[Any, Iterable[Item]]) -> list[PartitionWait]:
        """One entry per partition of ours."""
        found: dict[Partition, dict[Reason, int]] = {p: {} for p in self._checkpoint.partitions()}
        first: dict[Partition, dict[int, tuple[Item, str]]] = {p: {} for p in found}
        for item, reason in self._items(calls):
            if item.partition in found:
                counts = found[item.partition]
                counts[reason] = counts.get(reason, 0) + 1
                first[item.partition][item.offset] = (item, reason.tier)
        full = self._intake.full(len(self._cascade))
        return [self._partition(p, found[p], first[p], full=full) for p in sorted(found)]

    def _items(self, calls: Mapping[Any, Iterable[Item]]) -> Iterable[tuple[Item, Reason]]:
        for stage, reason in zip(self._cascade.stages, self._waiting, strict=True):
            later = {id(item): due for due, item in stage.batcher.later()}
            for item in stage.batcher:
                due = later.get(id(item))
                yield item, reason if due is None else self._later(stage, due)
            for item in stage.repeating:
                yield item, reason if reason.cause != "company" else reason._replace(cause="retry_budget")
        asked = [Reason("asked", tier=stage.step.name) for stage in self._cascade.stages]
        for items in calls.values():
            for item in items:
                yield item, asked[item.step]

    def _later(self, stage: Stage, due: float) -> Reason:
        """To the second, so that items which come back together are one reason."""
        return Reason("retry_later", tier=stage.step.name, until=float(round(self._to_unix(due))))

    def _of_stage(self, stage: Stage) -> Reason:
        """What items that wait for this tier wait for."""
        name = stage.step.name
        is_waiting = bool(stage.cause) or self._now - stage.spell_until < SPELL_GAP_SECONDS
        if not stage.spell_cause or not is_waiting or not (len(stage.batcher) or len(stage.repeating)):
            return Reason("company", tier=name)
        told = stage.spell_cause
        since = self._to_unix(stage.spell_since)
        held = stage.tier.explain(self._task) if isinstance(stage.tier, Explains) else None
        if held is not None and told != "retry_budget":
            return Reason(
                held.cause,
                tier=name,
                family=held.family,
                since=min(since, self._to_unix(held.since)) if _same(held.cause, told) else self._to_unix(held.since),
                until=None if held.until is None else self._to_unix(held.until),
                next_try=None if held.next_try is None else self._to_unix(held.next_try),
            )
        cause = _OWN_WORDS.get(told, told)
        tried = self._to_unix(stage.hold_until) if stage.hold_until > self._now else None
        if cause in _TRIED_AGAIN:
            return Reason(cause, tier=name, since=since, next_try=tried)
        is_told = cause in ("budget", "retry_after")
        return Reason(cause, tier=name, since=since, until=tried if is_told else None)

    def _partition(
        self, partition: Partition, counts: dict[Reason, int], first: dict[int, tuple[Item, str]], *, full: bool
    ) -> PartitionWait:
        in_flight = self._checkpoint.in_flight([partition])
        reasons = [reason._replace(items=count) for reason, count in counts.items()]
        reasons.sort(key=lambda reason: (reason.cause == "asked", -reason.items))
        stops = self._stops(partition, first, full=full)
        oldest = min((item.taken_ms for item, _ in first.values()), default=0)
        if not reasons and not stops:
            reasons = [Reason("nothing_to_read" if not in_flight else "commit", items=in_flight)]
        return PartitionWait(partition, (*stops, *reasons), in_flight, oldest / 1000 if oldest else None)

    def _stops(self, partition: Partition, first: dict[int, tuple[Item, str]], *, full: bool) -> list[Reason]:
        why, since = self._intake.paused.get(partition), self._intake.paused_since.get(partition)
        if why == "offset_map":
            return [self._held_by("offset_map", self._checkpoint.first_open(partition), first, since)]
        held = self._checkpoint.held(partition)
        if (why == "key_order" or held) and self._checkpoint.has_key_of(partition, 1):
            blocker = self._checkpoint.first_of_longest_key(partition)
            return [self._held_by("key_order", blocker, first, since)._replace(items=held)]
        return [Reason("worker_full")] if full and not first else []

    def _held_by(self, cause: str, offset: int, first: dict[int, tuple[Item, str]], since: float | None) -> Reason:
        item, tier = first.get(offset, (None, ""))
        if since is None and item is not None:
            since = item.taken_ms / 1000
        return Reason(cause, tier=tier, since=since, offset=offset)

    def _to_unix(self, monotonic: float) -> float:
        return self._unix + monotonic - self._now


def _same(held: str, told: str) -> bool:
    """Whether the gate's cause is what the stage waited for all the time."""
    return _OWN_WORDS.get(told, told) == held
