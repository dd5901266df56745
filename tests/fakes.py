"""Small real implementations of our contracts for tests: a tier that answers by script, a task to run it with."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import BaseModel

from penstock import Again, Answer, Capacity, Charge, Item, NewRecord, Outcome, Responder, Route, Step, Task
from penstock.engine.pipeline import Pipeline

STOP_SECONDS = 60.0


class Note(BaseModel):
    """An input of no particular application."""

    text: str
    id: str = ""


class Label(BaseModel):
    """An output of no particular application."""

    label: Literal["good", "bad"] = "good"
    echo: str = ""


class ScriptedTier:
    """Answers each call by a function of its items; remembers what it was asked and bills like an API would."""

    def __init__(
        self,
        name: str = "scripted",
        script: Callable[[ScriptedTier, list[Item]], Sequence[Outcome]] | None = None,
        *,
        seconds: float = 0.0,
        max_calls: int = 1_000,
        nanousd_per_item: int = 7,
    ) -> None:
        self.name = name
        self.calls: list[list[str]] = []
        self.finished = 0
        self.billed_nanousd = 0
        self.closed = False
        self._script = script or (lambda tier, items: [tier.answer_of(item) for item in items])
        self._seconds = seconds
        self._free = max_calls
        self._nanousd = nanousd_per_item
        self._ids = itertools.count(1)

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        """One attempt, after a while."""
        self.calls.append([item.event_id for item in items])
        self._free -= 1
        try:
            if self._seconds:
                await asyncio.sleep(self._seconds)
            self.call_id = f"{self.name}-{next(self._ids)}"
            outcomes = list(self._script(self, list(items)))
        finally:
            self._free += 1
        self.finished += 1
        self.billed_nanousd += sum(o.charge.nanousd for o in outcomes if o.charge)
        return outcomes

    def charge(self) -> Charge:
        """One item's share of the call under way."""
        return Charge(self.call_id, "model", self._nanousd, 10, 0, 0, 3)

    def answer_of(self, item: Item, confidence: Any = "sure", **output: Any) -> Answer:
        """A billed answer to one item."""
        return Answer(
            Label(**{"echo": item.input.text} | output), confidence, Responder(self.name, "model"), self.charge()
        )

    def again(self, reason: Any, **options: Any) -> Again:
        """A billed attempt without an answer."""
        return Again(reason, charge=self.charge(), **options)

    def capacity(self, task: Task[Any, Any]) -> Capacity:
        """As many calls as it was made for."""
        return Capacity(1_000 if self._free > 0 else 0, cause="" if self._free > 0 else "concurrency")

    async def close(self) -> None:
        """Nothing to give back; tests look whether it was called."""
        self.closed = True


def make_task(*tiers: ScriptedTier | Step, **options: Any) -> Task[Note, Label]:
    """A task over `notes`, answered by these tiers."""
    steps = [tier if isinstance(tier, Step) else Step(tier) for tier in tiers]
    settings: dict[str, Any] = {"reads": "notes", "input": Note, "output": Label, "instructions": "Label the note."}
    return Task("labeler", **settings | {"route": Route(*steps), "start_from": "earliest"} | options)


def note(number: int, *, key: str | None = None, topic: str = "notes", **more: Any) -> NewRecord:
    """An event."""
    value = {"id": f"n{number}", "text": f"note {number}"} | more
    return NewRecord(topic, (key or f"k{number}").encode(), json.dumps(value).encode())


class GatedTier(ScriptedTier):
    """Holds calls until `gate` is set: all of them, or those that carry one event."""

    def __init__(self, event_id: str = "") -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self._event_id = event_id

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        """One attempt, when the gate lets it."""
        if not self._event_id or any(item.event_id == self._event_id for item in items):
            await self.gate.wait()
        return await super().answer(task, items)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Wait for an awaitable condition; the time is a bound against hanging, not a measure."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition lives in another thread's log
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(pipeline: Pipeline) -> AsyncIterator[asyncio.Task[None]]:
    """A pipeline at work; stopped in order at the end."""
    stop = asyncio.Event()
    work = asyncio.create_task(pipeline.run(stop))
    try:
        yield work
    finally:
        stop.set()
        done, _ = await asyncio.wait([work], timeout=STOP_SECONDS)
        assert done, f"the pipeline of {pipeline.task.name} did not end within {STOP_SECONDS:.0f} s of being told"
        await work
