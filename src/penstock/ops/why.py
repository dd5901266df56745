"""Why each partition of a worker waits, since when and for how long: one page for `penstock status`, one metric for dashboards.

readings → [why] → server, exposition
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock import __version__
from penstock.engine.explain import PartitionWait, Reason
from penstock.telemetry import metrics as m
from penstock.telemetry.sample import Sample

if TYPE_CHECKING:
    from penstock.engine.pipeline import Pipeline
    from penstock.engine.readings import Reading
    from penstock.ops.lag import Lag
    from penstock.record import Partition

FORMAT = 1
"""Of the page: fields are added to it, never renamed or taken away."""
NOT_WAITING = frozenset({"asked", "nothing_to_read", "company"})


class Why:
    """Of one worker. Remembers since when it saw causes that note no time of their own."""

    def __init__(self, pipelines: Sequence[Pipeline], lags: Mapping[str, Lag], log: str) -> None:
        self._pipelines = pipelines
        self._lags = lags
        self._log = log
        self._seen: dict[tuple[str, Partition], tuple[str, float]] = {}

    def look(self) -> dict[str, list[PartitionWait]]:
        """By task, the partitions that are ours now."""
        now = time.time()
        found = {p.task.name: self._of(p.task.name, p.reading(), now) for p in self._pipelines}
        ours = {(task, wait.partition) for task, waits in found.items() for wait in waits}
        self._seen = {place: seen for place, seen in self._seen.items() if place in ours}
        return found

    def page(self) -> bytes:
        """One JSON object."""
        found = self.look()
        tasks = [self._task(pipeline, found[pipeline.task.name]) for pipeline in self._pipelines]
        return status_page(self._log, tasks=tasks)

    def samples(self) -> Iterator[Sample]:
        """One series per partition that waits."""
        now = time.time()
        for task, waits in self.look().items():
            for wait in waits:
                reason = wait.reasons[0]
                if reason.cause not in NOT_WAITING:
                    labels = (task, wait.partition.topic, str(wait.partition.number), reason.cause)
                    yield Sample(m.PARTITION_WAITING, labels, max(0.0, now - (reason.since or now)))

    def _of(self, task: str, reading: Reading, now: float) -> list[PartitionWait]:
        whole = _of_all(reading)
        waits = []
        for wait in reading.explain():
            reasons = (whole, *wait.reasons) if whole is not None else wait.reasons
            first = reasons[0]
            cause, since = self._seen.get((task, wait.partition), ("", now))
            if cause != first.cause:
                since = now
            self._seen[task, wait.partition] = (first.cause, since)
            if first.since is None:
                reasons = (first._replace(since=since), *reasons[1:])
            waits.append(wait._replace(reasons=reasons))
        return waits

    def _task(self, pipeline: Pipeline, waits: list[PartitionWait]) -> dict[str, Any]:
        task = pipeline.task
        lag = self._lags.get(task.name)
        by_partition = lag.by_partition if lag is not None and lag.seen_at else {}
        return {
            "task": task.name,
            "group": task.group,
            "reads": task.reads,
            "has_joined": pipeline.reading().has_joined,
            "skipped": pipeline.counts.skipped,
            "partitions": [
                {
                    "topic": wait.partition.topic,
                    "partition": wait.partition.number,
                    "waits": wait.reasons[0].cause not in NOT_WAITING,
                    **wait.reasons[0]._asdict(),
                    "in_flight": wait.in_flight,
                    "oldest_since": wait.oldest_since,
                    "lag": by_partition.get(wait.partition),
                    "also": [reason._asdict() for reason in wait.reasons[1:]],
                }
                for wait in waits
            ],
        }


def status_page(log: str, **told: Any) -> bytes:
    """`/status` of a process that works on this log: one JSON object."""
    worker = {"host": socket.gethostname(), "pid": os.getpid(), "version": __version__, "log": log}
    return json.dumps({"format": FORMAT, "worker": worker, "now": time.time(), **told}).encode()


def _of_all(reading: Reading) -> Reason | None:
    """What holds every partition of a task, whatever its items wait for."""
    if reading.fault:
        return Reason("stopped")
    if reading.commit_trouble.why:
        return Reason("log", since=reading.commit_trouble.since)
    if reading.is_draining:
        return Reason("draining")
    if reading.poll_trouble.why:
        return Reason("log", since=reading.poll_trouble.since)
    return Reason("schema") if reading.is_fetching else None
