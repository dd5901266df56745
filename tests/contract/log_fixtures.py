"""Workers and topics for the log's contract suite; knows the contract only, never which log stands behind it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from penstock.log.base import Assignment, Consumer, EventLog, PartProgress, Progress, TopicSpec
from penstock.log.losses import Loss
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition, Record

OpenLog = Callable[[], EventLog]
PATIENCE_SECONDS = 60.0
WORK_SECONDS = 3 * PATIENCE_SECONDS


def unique(name: str) -> str:
    """Logs are shared by tests (a broker is dear): every test has names of its own."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


async def made_topic(log: EventLog, partitions: int = 3, **settings) -> str:
    """A new topic of its own."""
    name = unique("events")
    assert await log.create_topics([TopicSpec(name, partitions, **settings)]) == [name]
    return name


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for it without fixed sleeps; says what did not happen."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < end, f"never happened: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Worker:
    """A member of a group that remembers what it was told and what it read."""

    consumer: Consumer = field(init=False)
    owned: dict[Partition, Assignment] = field(default_factory=dict)
    assigned_ever: list[Partition] = field(default_factory=list)
    revoked_ever: list[Partition] = field(default_factory=list)
    lost_ever: list[Partition] = field(default_factory=list)
    passed_ever: list[Loss] = field(default_factory=list)
    read: list[Record] = field(default_factory=list)
    on_assigned: Callable[[Sequence[Assignment]], Awaitable[None]] | None = None
    on_revoked: Callable[[Sequence[Partition]], Awaitable[None]] | None = None

    @classmethod
    async def joined(
        cls, log: EventLog, group: str, *topics: str, start_from="earliest", slot: str = "", **hooks
    ) -> Worker:
        worker = cls(**hooks)
        worker.consumer = await log.join(group, topics, worker, start_from=start_from, slot=slot)
        return worker

    async def assigned(self, assignments: Sequence[Assignment]) -> None:
        if self.on_assigned is not None:
            await self.on_assigned(assignments)
        for assignment in assignments:
            assert assignment.partition not in self.owned, "assigned twice without a revoke between"
            self.owned[assignment.partition] = assignment
            self.assigned_ever.append(assignment.partition)

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        assert deadline > time.monotonic(), "the deadline has passed before the work"
        if self.on_revoked is not None:
            await self.on_revoked(partitions)
        self.revoked_ever += partitions
        for partition in partitions:
            del self.owned[partition]

    async def passed(self, losses: Sequence[Loss]) -> None:
        self.passed_ever += losses

    async def lost(self, partitions: Sequence[Partition]) -> None:
        self.lost_ever += partitions
        for partition in partitions:
            self.owned.pop(partition, None)

    async def poll(self, max_records: int = 500, timeout_seconds: float = 0.05) -> list[Record]:
        """One poll; checks that only what is owned is handed out."""
        records = await self.consumer.poll(max_records, timeout_seconds)
        assert len(records) <= max_records
        strangers = {(r.topic, r.partition) for r in records} - set(self.owned)
        assert not strangers, f"records of partitions that are not owned: {strangers}"
        self.read += records
        return records

    async def read_count(self, count: int) -> list[Record]:
        """Poll until so many records were read in all."""
        end = time.monotonic() + PATIENCE_SECONDS
        while len(self.read) < count:
            assert time.monotonic() < end, f"read {len(self.read)} of {count} records"
            await self.poll()
        return self.read

    async def owns(self, count: int) -> None:
        """Poll nothing until so many partitions are owned."""
        await polled_until(lambda: len(self.owned) == count, f"a worker owns {count} partitions", self, max_records=0)

    def at(self, partition: Partition) -> int:
        """The next offset behind what was read of a partition."""
        offsets = [r.offset for r in self.read if (r.topic, r.partition) == partition]
        return max(offsets, default=self.owned[partition].done.base - 1 if partition in self.owned else -1) + 1

    def progress(self, *appends: NewRecord, only: Sequence[Partition] | None = None) -> Progress:
        """Everything that was read is done; the appends go with the first partition."""
        partitions = sorted(self.owned if only is None else only)
        parts = [PartProgress(partition, OffsetMap(self.at(partition))) for partition in partitions]
        if parts:
            parts[0] = PartProgress(parts[0].partition, parts[0].done, tuple(appends))
        return Progress(tuple(parts), () if parts else tuple(appends))


async def polled_until(condition: Callable[[], bool], what: str, *workers: Worker, max_records: int = 500) -> None:
    """Poll all workers side by side until it is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}; owned: {[sorted(w.owned) for w in workers]}"
        await asyncio.gather(*(worker.poll(max_records) for worker in workers))


async def all_records(log: EventLog, topic: str) -> list[Record]:
    """Everything committed in a topic, partition by partition."""
    found: list[Record] = []
    for partition, (low, high) in sorted((await log.bounds(topic)).items()):
        offset = low
        while offset < high:
            records = await log.read(partition, offset, 500)
            if not records:
                break
            found += records
            offset = records[-1].offset + 1
    return found


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def numbered(topic: str, count: int, partition: int = 0, first: int = 0) -> list[NewRecord]:
    return [NewRecord(topic, None, b"%d" % n, partition=partition) for n in range(first, first + count)]


class Echo(Worker):
    """Answers every record with one result and commits in time, also while it gives partitions back."""

    __hash__ = object.__hash__

    def __init__(self, results: str) -> None:
        super().__init__(on_assigned=self._begin, on_revoked=self._finish)
        self._results = results
        self._base: dict[Partition, int] = {}
        self._committing = asyncio.Lock()

    async def work(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + WORK_SECONDS
        while not until():
            assert time.monotonic() < end, f"still not over: read {len(self.read)}, owns {sorted(self.owned)}"
            await self.poll(50)
            await self._commit(set(self.owned))

    async def _begin(self, assignments: Sequence[Assignment]) -> None:
        for assignment in assignments:
            self._base[assignment.partition] = assignment.done.base

    async def _finish(self, partitions: Sequence[Partition]) -> None:
        await self._commit(set(partitions))

    async def _commit(self, partitions: set[Partition]) -> None:
        async with self._committing:  # `revoked` does not return before the commit under way has
            await self._commit_fresh(partitions)

    async def _commit_fresh(self, partitions: set[Partition]) -> None:
        parts = []
        for partition in sorted(partitions):
            fresh = [r for r in self.read if r[:2] == partition and r.offset >= self._base[partition]]
            if fresh:
                self._base[partition] = fresh[-1].offset + 1
                appends = tuple(NewRecord(self._results, r.key, r.value) for r in fresh)
                parts.append(PartProgress(partition, OffsetMap(fresh[-1].offset + 1), appends))
        if parts:
            await self.consumer.commit(Progress(tuple(parts)))
