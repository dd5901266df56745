"""Run a task over some events, with neither log nor key: for the tests of whoever writes tasks.

    from penstock.testing import run

    outcome = run(triage, [{"id": "t1", "body": "I was charged twice"}], answers=lambda ticket: {"team": "billing", "urgency": "now"})
    assert outcome["t1"].output.team == "billing"

events → [testing] → wiring → worker, on a throw-away log
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from penstock.codecs.registry import RegistryCodec
from penstock.deadletters.letter import Letter, read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.erasure import Erasure, read_erasure
from penstock.errors import TierStopped, UserError
from penstock.log.base import EventLog
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.topics import topic_specs
from penstock.outcome import Answer, Confidence, Outcome, Responder
from penstock.record import NewRecord, Record
from penstock.settings import load_settings
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.server import serve
from penstock.task import Route, Task
from penstock.tier import Capacity, Item, Tier
from penstock.wiring import Claude, with_codec

Event = BaseModel | Mapping[str, Any] | bytes | NewRecord
Answers = Callable[[Any], Any]
"""Input model instance → output (instance or dict), or (output, confidence)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one event ended."""

    event_id: str
    output: Any = None
    """An instance of the task's output model; None for a dead letter."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The whole result as it stands in the log."""
    letter: Letter | None = None

    @property
    def reason(self) -> str:
        """Why it became a dead letter; empty where it did not."""
        return self.letter.reason if self.letter else ""


class Run:
    """All endings that no erasure covers, in the order of their commits; by event id with `run["id"]`."""

    def __init__(self, ended: Sequence[Ended], erased: Sequence[Erasure] = ()) -> None:
        self.ended = ended
        self.erased = erased
        """What tombstones and `Erase` deleted."""
        self._by_id = {one.event_id: one for one in ended}

    def __getitem__(self, event_id: str) -> Ended:
        return self._by_id[event_id]

    def __len__(self) -> int:
        return len(self.ended)

    @property
    def outputs(self) -> dict[str, Any]:
        """Outputs by event id, dead letters left out."""
        return {one.event_id: one.output for one in self.ended if one.letter is None}

    @property
    def dead_letters(self) -> list[Letter]:
        """What could not be answered."""
        return [one.letter for one in self.ended if one.letter is not None]

    @property
    def nanousd(self) -> int:
        """What it cost (at the simulator's prices, which are the API's)."""
        return sum(one.letter.nanousd if one.letter else one.result["nanousd"] for one in self.ended)


def run(
    task: Task[Any, Any], events: Iterable[Event], *, answers: Answers | None = None, timeout_seconds: float = 60.0
) -> Run:
    """Put events through the real engine on a throw-away log; every one ends in an output or a dead letter.

    With `answers` no model is asked at all: it stands in for every step of the route, and the task's hooks hold as
    ever. Without it the offline simulator answers, by plain word lists: enough to see the flow, no measure of Claude.
    """
    task = with_codec(load_settings().settings, task) if isinstance(task.decode, RegistryCodec) else task
    records = [_record(task, event) for event in events]
    # A thread of its own has no event loop yet: callable from anywhere, a notebook too.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _run(task, records, answers, timeout_seconds)).result()


class AnswerTier:
    """Answers by a function; the engine puts its answers through the task's hooks as it does with any tier's."""

    def __init__(self, name: str, answers: Answers) -> None:
        self.name = name
        self._answers = answers

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        """An answer per item; a hook that refuses it is the test's to see."""
        return [self._answer_one(task, item) for item in items]

    def capacity(self, task: Task[Any, Any]) -> Capacity:
        """No limit."""
        return Capacity(task.max_batch_items)

    async def close(self) -> None:
        """Nothing to give back."""

    def _answer_one(self, task: Task[Any, Any], item: Item) -> Outcome:
        confidence: Confidence = "sure"
        try:
            given = self._answers(item.input)
            if isinstance(given, tuple):
                given, confidence = given
            output = given if isinstance(given, BaseModel) else task.output.model_validate(given)
        except Exception as error:
            raise TierStopped(f"answers= for event {item.event_id!r}: {error}") from error
        return Answer(output, confidence, Responder(self.name))


async def _run(task: Task[Any, Any], records: Sequence[NewRecord], answers: Answers | None, seconds: float) -> Run:
    with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
        log = SqliteLog(Path(directory) / "events.db", options=SqliteOptions(synchronous="normal"))
        try:
            specs = {spec.name: replace(spec, partitions=1) for spec in topic_specs(task)}
            await log.create_topics(list(specs.values()))
            positions = await log.append(records)
            return await _answered(task, log, len(positions), answers, seconds)
        finally:
            await log.close()


async def _answered(task: Task[Any, Any], log: EventLog, events: int, answers: Answers | None, seconds: float) -> Run:
    task = replace(task, start_from="earliest")
    options = PipelineOptions(commit_interval_seconds=0.01, drain_seconds=1.0, batch=BatchLimits(max_wait_seconds=0.02))
    simulator = await serve(SimulatorOptions()) if answers is None else None
    claude: Claude | None = None
    try:
        tiers: Sequence[Tier]
        if simulator is not None:
            given = [f"claude.base_url={simulator.url}", "claude.api_key=offline"]
            claude = Claude(load_settings(assignments=given).settings)
            tiers = claude.tiers(task)
        else:
            assert answers is not None
            task = replace(task, route=Route(*(replace(s, tier=AnswerTier(s.name, answers)) for s in task.route.steps)))
            tiers = [step.tier for step in task.route.steps if not isinstance(step.tier, str)]
        await _until_ended(Pipeline(task, tiers, log, options), events, seconds)
    finally:
        if claude is not None:
            await claude.close()
        if simulator is not None:
            await simulator.close()
    return Run(*await _endings(task, log))


async def _until_ended(pipeline: Pipeline, events: int, seconds: float) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(pipeline.run(stop))
    counts = pipeline.counts
    try:
        async with asyncio.timeout(seconds):
            while counts.done < events and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise TimeoutError(
            f"{counts.done} of {events} events ended within {seconds:.0f} s; timeout_seconds= allows more"
        ) from None
    finally:
        stop.set()
        await running


async def _endings(task: Task[Any, Any], log: EventLog) -> tuple[list[Ended], list[Erasure]]:
    """As someone sees them who keeps what comes and deletes what he is told to."""
    ended: list[Ended] = []
    erased: dict[str, Erasure] = {}
    for topic in (task.writes, task.dead_letters):
        kept: list[tuple[bytes | None, str, Ended]] = []
        for record in await _everything(log, topic):
            if erasure := read_erasure(record):
                erased[erasure.id] = erasure
                kept = [one for one in kept if not erasure.covers(one[0], one[1])]
            elif topic == task.writes:
                result = orjson.loads(record.value or b"{}")
                output = task.output.model_validate(result["output"])
                kept.append((record.key, result["subject"], Ended(result["event_id"], output, result)))
            else:
                letter = read_letter(record)
                kept.append((record.key, letter.subject, Ended(letter.event_id, letter=letter)))
        ended += [one for _, _, one in kept]
    return ended, [*erased.values()]


async def _everything(log: EventLog, topic: str) -> list[Record]:
    found: list[Record] = []
    for partition, bounds in (await log.bounds(topic)).items():
        at = bounds.low
        while records := await log.read(partition, at, 1_000):
            found += records
            at = records[-1].offset + 1
    return found


def _record(task: Task[Any, Any], event: Event) -> NewRecord:
    if isinstance(event, NewRecord):
        return event._replace(topic=task.reads)
    if isinstance(event, bytes):
        return NewRecord(task.reads, None, event)
    if isinstance(event, BaseModel):
        return NewRecord(task.reads, None, event.model_dump_json().encode())
    if isinstance(event, Mapping):
        return NewRecord(task.reads, None, json.dumps(event).encode())
    raise UserError(f"an event is a mapping, a model, bytes or a NewRecord, got {type(event).__name__}")
