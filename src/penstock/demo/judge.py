"""Counts from outside the workers: what was lost, doubled or paid again. Used by the demo and by the crash proof.

log, simulator's ledger → [judge] → terminal, tests

It believes nobody's counters: it reads the committed log and the API's own accounts, and holds the endings against the
events that were really produced, offset by offset. The order of reading matters and makes every look sound: progress first,
then events, then endings, then the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.deadletters.letter import Letter, read_letter
from penstock.demo.findings import Findings, TaskFindings
from penstock.demo.produced import Produced
from penstock.engine.cascade import Skipped
from penstock.engine.reader import Reader
from penstock.erasure import Erasure, Reach, read_erasure
from penstock.errors import TopicMissing
from penstock.log.base import EventLog
from penstock.log.offset_map import OffsetMap
from penstock.log.state import STATE_TOPIC, read_state
from penstock.record import Partition, Position, Record
from penstock.task import Task

Ledger = Callable[[int], Awaitable[Sequence[dict[str, Any]]]]
"""The simulator's billed calls after a sequence number: `GET /simulator/calls?after=N`."""

SETTLED_AFTER_MS = 5_000
"""A call that ended so long ago and stands on no record belongs to a worker that died with it."""
READ = 2_000
MOST_BARREN = 2
"""So often the same end of a partition is read although nothing is found before it."""


@dataclass(slots=True)
class BilledCall:
    """What is left of a billed call when its recorded shares are taken off."""

    items: int = 0
    nanousd: int = 0
    ended_ms: int | None = None


class Judge:
    """Looks again and again; each look reads only what is new. `on_event` and `on_ending` see each once, as it was read.

    `start`: offsets to begin at, where everything before them is known to have ended. `settle_seconds`: an event whose
    progress is there counts as lost after so long without its ending; Kafka shows the records of an act one by one.
    """

    def __init__(
        self,
        log: EventLog,
        tasks: Sequence[Task[Any, Any]],
        ledger: Ledger | None = None,
        *,
        on_ending: Callable[[str, Record, dict[str, Any] | Letter], None] | None = None,
        on_event: Callable[[Record], None] | None = None,
        start: Mapping[Partition, int] | None = None,
        settle_seconds: float = 0.0,
    ) -> None:
        self.findings = Findings(tasks={task.name: TaskFindings() for task in tasks})
        self._log = log
        self._tasks = tasks
        self._ledger = ledger
        self._on_ending, self._on_event = on_ending, on_event
        self._at: dict[Partition, int] = dict(start or {})
        self._barren: dict[Partition, tuple[int, int]] = {}
        """Where nothing was found up to an end, and how often: markers of transactions, or one that is still open."""
        self._settle_seconds = settle_seconds
        self._missing: dict[tuple[str, Partition, int], float] = {}
        """Since when an event is done without an ending."""
        self._open: dict[tuple[str, Partition], dict[int, bool]] = {}
        self._waiting: dict[str, set[tuple[Partition, int]]] = {task.name: set() for task in tasks}
        self._early: set[tuple[str, Partition, int]] = set()
        """Endings of events that came after this look had read the events."""
        self._produced = Produced()
        self._erased = {task.name: Reach() for task in tasks}
        self._erased_parked = {task.name: Reach() for task in tasks}
        """Only what the retry topic has passed: what was parked there and is covered will not be answered."""
        self._passing: dict[str, list[tuple[Partition, int, Erasure]]] = {task.name: [] for task in tasks}
        self._erasures: set[str] = set()
        self._calls: dict[str, BilledCall] = {}
        self._row = 0
        self._newest_ms = 0

    def open_calls(self) -> dict[str, BilledCall]:
        """Billed calls that stand on no record, or not with all of their items."""
        return {call_id: call for call_id, call in self._calls.items() if call.ended_ms is not None}

    def read_to(self) -> dict[Partition, int]:
        """How far events were read at the last look."""
        topics = {task.reads for task in self._tasks}
        return {partition: at for partition, at in self._at.items() if partition.topic in topics}

    def unended(self, name: str, below: Mapping[Partition, int]) -> int:
        """Events below these offsets that have no ending yet, lost ones included."""
        return sum(
            offset < below.get(partition, 0)
            for (task, partition), unended in self._open.items()
            if task == name
            for offset in unended
        )

    async def look(self) -> Findings:
        """Read what is new and judge it."""
        progress = {task.name: await self._progress(task) for task in self._tasks}
        for topic in sorted({task.reads for task in self._tasks}):
            await self._tail(topic, self._saw_event)
        self._drop_unproduced()
        for topic in sorted({task.retry_topic for task in self._tasks}):
            await self._tail(topic, self._saw_hand_over)
        for topic in sorted({topic for task in self._tasks for topic in (task.writes, task.dead_letters)}):
            await self._tail(topic, self._saw_ending)
        await self._tail(STATE_TOPIC, self._saw_state)
        await self._read_ledger()
        missing: dict[tuple[str, Partition, int], float] = {}
        for task in self._tasks:
            await self._count_lost(task, progress[task.name], missing)
        self._missing = missing
        self._count_money()
        return self.findings

    async def _progress(self, task: Task[Any, Any]) -> dict[Partition, OffsetMap]:
        done = await self._log.committed(task.group, task.reads)
        if task.retry_topic in await self._log.topics():
            done |= await self._log.committed(task.group, task.retry_topic)
        return done

    async def _tail(self, topic: str, see: Callable[[Record], None]) -> None:
        try:
            bounds = await self._log.bounds(topic)
        except TopicMissing:
            return
        for partition, kept in bounds.items():
            self._produced.ends[partition] = kept.high
            at = max(self._at.get(partition, 0), kept.low)
            while at < kept.high and self._is_worth_reading(partition, kept.high):
                records = await self._log.read(partition, at, READ)
                for record in records:
                    see(record)
                # After each step: a look that breaks off in the middle counts nothing twice when it is repeated.
                at = self._at[partition] = records[-1].offset + 1 if records else at
                if not records:
                    self._note_barren(partition, kept.high)
                if len(records) < READ:  # that is all there is by now
                    break
            self._at.setdefault(partition, at)

    def _is_worth_reading(self, partition: Partition, end: int) -> bool:
        """Whatever ends an open transaction moves the end; a second look is for the moment between the two."""
        return self._barren.get(partition, (-1, 0)) != (end, MOST_BARREN)

    def _note_barren(self, partition: Partition, end: int) -> None:
        known, times = self._barren.get(partition, (-1, 0))
        self._barren[partition] = (end, times + 1 if known == end else 1)

    def _saw_event(self, record: Record) -> None:
        self.findings.events += 1
        if self._on_event is not None:
            self._on_event(record)
        self._produced.add(Partition(record.topic, record.partition), record.offset)
        for task in self._tasks:
            if task.reads == record.topic:
                partition = Partition(record.topic, record.partition)
                if (task.name, partition, record.offset) in self._early:
                    self._early.discard((task.name, partition, record.offset))
                else:
                    self._open.setdefault((task.name, partition), {})[record.offset] = (
                        record.value is None and record.key is None
                    )

    def _saw_hand_over(self, record: Record) -> None:
        if erasure := read_erasure(record):
            if erasure.task in self._passing:
                place = Partition(record.topic, record.partition)
                self._passing[erasure.task].append((place, record.offset, erasure))
            return
        headers = {
            name: (value or b"").decode() for name, value in record.headers if name.startswith("penstock.retry.")
        }
        task = next(task for task in self._tasks if task.retry_topic == record.topic)
        if headers:
            source = Partition(headers["penstock.retry.topic"], int(headers["penstock.retry.partition"]))
            self._waiting[task.name].add((source, int(headers["penstock.retry.offset"])))

    def _saw_erasure(self, erasure: Erasure) -> None:
        found = self.findings.tasks.get(erasure.task)
        if found is None or erasure.id in self._erasures:
            return
        self._erasures.add(erasure.id)
        partition, offset = Partition(*erasure.source[:2]), erasure.source.offset
        self._erased[erasure.task].add(partition, offset, erasure.key, erasure.subject)
        if self._end(erasure.task, partition, offset):
            found.erased += 1
            found.skipped += 1

    def _saw_ending(self, record: Record) -> None:
        if erasure := read_erasure(record):
            self._saw_erasure(erasure)
            return
        ending: dict[str, Any] | Letter
        if any(name == "penstock.errors.id" for name, _ in record.headers):
            letter = ending = read_letter(record)
            if letter.stage == "deliver":  # a sink would not take the result: its event has ended, in that result
                return
            name, source, nanousd, calls = letter.task, letter.source, letter.nanousd, letter.calls
        else:
            result = ending = orjson.loads(record.value or b"{}")
            place = result["source"]
            name, nanousd, calls = result["task"], result["nanousd"], [(c, n) for c, n in result["calls"]]
            source = Position(place["topic"], place["partition"], place["offset"])
        found = self.findings.tasks.get(name)
        if found is None:
            return
        if isinstance(ending, Letter):
            found.dead_letters += 1
            found.reasons[ending.reason] += 1
        else:
            found.results += 1
            found.simulated += bool(ending["simulated"])
        found.nanousd += nanousd
        if self._end(name, Partition(source.topic, source.partition), source.offset):
            found.ended += 1
        elif self._produced.is_gap(Partition(source.topic, source.partition), source.offset):
            found.unproduced += 1
        else:
            found.doubled += 1
        self._account(calls)
        if self._on_ending is not None:
            self._on_ending(name, record, ending)

    def _end(self, name: str, partition: Partition, offset: int) -> bool:
        """Whether this is an event's first ending."""
        self._waiting[name].discard((partition, offset))
        early = (name, partition, offset)
        if self._open.get((name, partition), {}).pop(offset, None) is not None:
            return True
        if offset >= self._at.get(partition, 0) and early not in self._early:
            self._early.add(early)
            return True
        return False

    def _drop_unproduced(self) -> None:
        """An ending is read after its event can be: one from an earlier look whose event is still not there has none."""
        for name, partition, offset in list(self._early):
            is_read = self._barren.get(partition) == (self._produced.ends.get(partition), MOST_BARREN)
            if self._produced.is_missing(partition, offset, is_read_to_its_end=is_read):
                self._early.discard((name, partition, offset))
                self.findings.tasks[name].ended -= 1
                self.findings.tasks[name].unproduced += 1

    def _saw_state(self, record: Record) -> None:
        state = read_state(record)
        if state.kind == "waste" and state.value is not None and state.task in self.findings.tasks:
            self.findings.waste_nanousd += state.value["nanousd"]
            call = self._calls.setdefault(state.value["call"], BilledCall())
            call.items -= state.value["items"]
            call.nanousd -= state.value["nanousd"]

    def _account(self, calls: Sequence[tuple[str, int]]) -> None:
        for call_id, nanousd in calls:
            call = self._calls.get(call_id)
            if call is None:
                call = self._calls[call_id] = BilledCall()
            call.items -= 1
            call.nanousd -= nanousd

    async def _read_ledger(self) -> None:
        while self._ledger is not None and (rows := await self._ledger(self._row)):
            for row in rows:
                self._row = max(self._row, row["seq"])
                self._newest_ms = max(self._newest_ms, row["ended_ms"])
                if not row["nanousd"]:
                    continue
                self.findings.billed_calls += 1
                self.findings.billed_nanousd += row["nanousd"]
                call = self._calls.setdefault(row["request_id"], BilledCall())
                call.items += row["items"]
                call.nanousd += row["nanousd"]
                call.ended_ms = row["ended_ms"]

    async def _count_lost(
        self,
        task: Task[Any, Any],
        progress: dict[Partition, OffsetMap],
        missing: dict[tuple[str, Partition, int], float],
    ) -> None:
        found = self.findings.tasks[task.name]
        found.lost = found.open = 0
        self._let_erasures_pass(task.name, progress)
        reader, now = Reader(task), time.monotonic()
        for (name, partition), unended in self._open.items():
            if name != task.name:
                continue
            done = progress.get(partition)
            for offset, is_tombstone in list(unended.items()):
                place = (name, partition, offset)
                if done is None or offset not in done:
                    found.open += not is_tombstone
                elif is_tombstone or (
                    (place not in self._missing or self._erased[name])
                    and await self._wants_no_answer(reader, name, partition, offset)
                ):
                    found.skipped += 1
                    del unended[offset]
                elif (partition, offset) not in self._waiting[name]:
                    missing[place] = self._missing.get(place, now)
                    found.lost += now - missing[place] >= self._settle_seconds

    def _let_erasures_pass(self, name: str, progress: dict[Partition, OffsetMap]) -> None:
        """Where the group has passed an erasure in its retry topic, nothing that it covers comes back from there."""
        passing, self._passing[name] = self._passing[name], []
        for place, at, erasure in passing:
            if (done := progress.get(place)) is None or at not in done:
                self._passing[name].append((place, at, erasure))
                continue
            source = erasure.source
            partition = Partition(source.topic, source.partition)
            self._erased_parked[name].add(partition, source.offset, erasure.key, erasure.subject)

    async def _wants_no_answer(self, reader: Reader, name: str, partition: Partition, offset: int) -> bool:
        """Whether the task skips this event or it was erased; asked of the few that are done and have no ending."""
        is_parked = (partition, offset) in self._waiting[name]
        reach = (self._erased_parked if is_parked else self._erased)[name]
        if is_parked and not reach:
            return False
        for record in await self._log.read(partition, offset, 1):
            item, outcome = reader.read(record, partition)
            is_erased = reach.covers(partition, offset, record.key, item.subject)
            return record.offset == offset and (is_erased or isinstance(outcome, Skipped))
        return False

    def _count_money(self) -> None:
        found = self.findings
        found.unconfirmed_nanousd = found.unaccounted_items = found.paid_again = 0
        for call_id, call in list(self._calls.items()):
            if call.ended_ms is None:
                continue
            if call.items == 0 and call.nanousd == 0:
                del self._calls[call_id]
                continue
            found.unconfirmed_nanousd += call.nanousd
            found.unaccounted_items += call.items
            if call.ended_ms < self._newest_ms - SETTLED_AFTER_MS:
                found.paid_again += call.items
