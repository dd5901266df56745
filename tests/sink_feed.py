"""Writes results, dead letters and erasures as a worker does, for tests of sinks; and runs a sink's loop over them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fakes import Label, Note
from penstock import Answer, Charge, Deferred, Delivery, NewRecord, Refused, Responder, Sink, SinkOptions, Task
from penstock.engine.cascade import Ending, Erased
from penstock.engine.publish import Publisher
from penstock.log.base import EventLog, TopicSpec
from penstock.log.topics import state_spec
from penstock.outcome import Failure
from penstock.record import Partition, Record
from penstock.sinks.delivery import DeliveryLoop
from penstock.sinks.options import DeliveryOptions
from penstock.sinks.reading import Feed, feeds_of, read_delivery
from penstock.tier import Item

TASK: Task[Note, Label] = Task(
    "labeler",
    reads="notes",
    writes="labels",
    dead_letters="labels-dlq",
    input=Note,
    output=Label,
    instructions="Label.",
)
QUICK = DeliveryOptions(first_wait_seconds=0.01, max_wait_seconds=0.05, look_seconds=0.05, drain_seconds=5.0)
PATIENCE_SECONDS = 60.0


class Feeder:
    """Makes what a worker would write. Time goes on by a second with every record."""

    def __init__(self, task: Task[Any, Any] = TASK, start_ms: int | None = None) -> None:
        self.task = task
        self._publisher = Publisher(task, 1_000_000)
        # An hour ago: what is older than a topic's retention is gone before it is read.
        self.now_ms = start_ms or time.time_ns() // 1_000_000_000 * 1_000 - 3_600_000
        self._offset = 0

    def item(self, event_id: str, *, subject: str = "", key: bytes | None = None, offset: int | None = None) -> Item:
        if offset is None:
            offset, self._offset = self._offset, self._offset + 1
        partition = Partition(self.task.reads, 0)
        record = Record(*partition, offset, key or event_id.encode(), b'{"text":"x"}', (), self.now_ms)
        item = Item(record, partition, event_id, None, "", 1)
        item.subject = subject or event_id
        item.attempts = 1
        return item

    def result(
        self,
        event_id: str,
        label: str = "good",
        *,
        simulated: bool = False,
        lane: str = "",
        echo: str = "",
        **of_item: Any,
    ) -> NewRecord:
        item = self.item(event_id, **of_item)
        self.now_ms += 1000
        item.charges = [Charge(f"call-{event_id}-{item.record.offset}", "model-1", 70, 10, 0, 0, 3)]
        by = Responder("haiku", "model-1", "prompt-1", simulated)
        answer = Answer(Label(label=label, echo=echo), "sure", by)
        outcome: Any = Deferred(answer, lane) if lane else answer
        return self._encoded(Ending(item, outcome))

    def letter(self, event_id: str, reason: Any = "refused", **of_item: Any) -> NewRecord:
        item = self.item(event_id, **of_item)
        self.now_ms += 1000
        item.charges = [Charge(f"call-{event_id}", "model-1", 50, 10, 0, 0, 3)]
        return self._encoded(Ending(item, Failure(reason, "nobody would")))

    def erasure(self, event_id: str, subject: str | None, **of_item: Any) -> list[NewRecord]:
        self.now_ms += 1000
        ending = Ending(self.item(event_id, **of_item), Erased("withdrawn", subject))
        topics = {self.task.writes, self.task.dead_letters}
        return [record for record in self._publisher.encode_all([ending], self.now_ms) if record.topic in topics]

    def _encoded(self, ending: Ending) -> NewRecord:
        record = self._publisher.encode(ending, self.now_ms)
        assert record is not None
        return record


def deliveries(records: Sequence[NewRecord], first: int = 0) -> list[Delivery]:
    """As a sink is handed them, in one partition of each topic."""
    return [
        read_delivery(Record(one.topic, 0, first + at, one.key, one.value, one.headers, one.timestamp_ms or 0))
        for at, one in enumerate(records)
    ]


class Remembering(Sink):
    """Takes everything; what it shall do instead a test says with `script`."""

    def __init__(
        self, name: str = "memory", script: Callable[[Sequence[Delivery]], Any] | None = None, **options: Any
    ) -> None:
        self.name = name
        self.options = SinkOptions(**options)
        self.script = script
        self.batches: list[list[Delivery]] = []
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def deliver(self, batch: Sequence[Delivery]) -> list[Refused] | None:
        said = self.script(batch) if self.script is not None else None
        if isinstance(said, Awaitable):
            said = await said
        refused = {one.delivery.position for one in said or ()}
        self.batches.append([one for one in batch if one.position not in refused])
        return said

    async def close(self) -> None:
        self.closed += 1

    @property
    def taken(self) -> list[Delivery]:
        return [one for batch in self.batches for one in batch]

    def ids(self) -> list[str]:
        return [one.content.event_id for one in self.taken]


async def made_topics(log: EventLog, task: Task[Any, Any] = TASK, partitions: int = 1) -> None:
    await log.create_topics(
        [TopicSpec(task.writes, partitions), TopicSpec(task.dead_letters, partitions), state_spec()]
    )


@asynccontextmanager
async def delivering(
    sink: Sink, log: EventLog, options: DeliveryOptions = QUICK, feeds: Sequence[Feed] | None = None
) -> AsyncIterator[DeliveryLoop]:
    """The sink's loop at work, stopped at the end; what stopped it before is raised."""
    loop = DeliveryLoop(sink, feeds or feeds_of([TASK]), log, options)
    stop = asyncio.Event()
    run = asyncio.create_task(loop.run(stop))
    try:
        yield loop
    finally:
        stop.set()
        done, _ = await asyncio.wait([run], timeout=PATIENCE_SECONDS)
        assert done, f"the loop of {sink.name} did not end within {PATIENCE_SECONDS:.0f} s of being told"
        await run


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for it without fixed sleeps."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        await asyncio.sleep(0.005)


async def letters_in(log: EventLog, topic: str = TASK.dead_letters) -> list[Record]:
    """All dead letters there are."""
    found: list[Record] = []
    for partition, (low, high) in sorted((await log.bounds(topic)).items()):
        offset = low
        while offset < high and (records := await log.read(partition, offset, 500)):
            found += records
            offset = records[-1].offset + 1
    return found
