"""A few events of the sample, asked for real: what they take, how long calls last, and the limits that replies name.

sample → [trial] → known
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.claude.client import ClaudeClient
from penstock.claude.errors import Trouble, describe
from penstock.claude.models import Tokens
from penstock.claude.prompt import event_tokens
from penstock.claude.tier import ClaudeTier
from penstock.errors import SettingsError
from penstock.flow.base import KINDS
from penstock.flow.headers import read_limits
from penstock.flow.limits import LimitOptions
from penstock.flow.ramp import RampOptions
from penstock.outcome import Answer
from penstock.planning.known import Known, Took
from penstock.planning.sample import Sample
from penstock.wiring import Claude

if TYPE_CHECKING:
    from penstock.claude.reply import Reply
    from penstock.settings import Settings
    from penstock.task import Step, Task
    from penstock.tier import Item

FIRST_STEP_EVENTS = 200
"""Cheap models come first: some hundredths of a dollar at most, and rare escalations are seen."""
LATER_STEP_EVENTS = 5
"""Of a later step, where fewer are escalated to it: only its limits and replies are wanted."""
PATIENCE_SECONDS = 60.0
_LEARNED = 150
"""A trial's calls count as so many: what a worker believes at its start is forgotten."""
ENOUGH = 20
"""Fewer answers say nothing about how many are escalated."""


class _Recorder:
    """A client that remembers what came back last."""

    def __init__(self, client: ClaudeClient) -> None:
        self._client = client
        self.reply: Reply | Trouble | None = None
        self.seconds = 0.0

    async def send(self, parameters: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Any:
        started = time.monotonic()
        self.reply = await self._client.send(parameters, timeout_seconds=timeout_seconds)
        self.seconds = time.monotonic() - started
        return self.reply

    async def close(self) -> None:
        await self._client.close()


@dataclass(slots=True)
class Trial:
    """What was asked and what it cost."""

    known: Known = field(default_factory=lambda: Known(answers_from="a trial"))
    events: int = 0
    calls: int = 0
    usd: float = 0.0
    is_simulated: bool = False
    families: set[str] = field(default_factory=set)
    """Those whose limits the replies named."""


async def try_out(settings: Settings, task: Task[Any, Any], sample: Sample) -> Trial:
    """Ask every Claude step of the route, the later ones what the earlier ones passed on. It costs some cents at most."""
    recorder: Any = _Recorder(ClaudeClient(settings.claude))
    at_once = settings.model_copy(update={"ramp": RampOptions(start_share=1.0)})  # a handful of calls is no ramp
    claude = Claude(at_once, client=recorder, tasks=[task])
    trial = Trial()
    plain = [item for item in sample.items if not item.suspicious] or sample.items[:1]
    items = random.Random(0).sample(plain, min(FIRST_STEP_EVENTS, len(plain)))  # neighbours are alike
    spare = items[:LATER_STEP_EVENTS]
    trial.events = len(items)
    try:
        for step, tier in zip(task.route.steps, claude.tiers(task), strict=True):
            if not isinstance(tier, ClaudeTier):
                continue
            passed = await _ask(trial, task, step, tier, items, sample, recorder)
            if len(items) >= ENOUGH:  # none of 200 passed on does not mean none of a million
                trial.known.answers[step.name] = 1.0 - (len(passed) + 0.5) / (len(items) + 1.0)
            items = passed or spare
        trial.usd = claude.gate.spend.spent_nanousd * 1e-9
    finally:
        await claude.close()
    return trial


async def _ask(
    trial: Trial,
    task: Task[Any, Any],
    step: Step,
    tier: ClaudeTier,
    items: Sequence[Item],
    sample: Sample,
    recorder: _Recorder,
) -> list[Item]:
    """Calls of different sizes tell what each item adds to a call's time. Returns what would be escalated."""
    most, few = task.max_batch_items, max(1, min(len(items), task.max_batch_items) // 5)
    passed: list[Item] = []
    took: list[tuple[Sequence[Item], Tokens]] = []
    calls: list[tuple[int, float]] = []
    for batch in (items[:few], *(items[at : at + most] for at in range(few, len(items), most))):
        await _room(tier, task)
        recorder.reply = None
        outcomes = await tier.answer(task, batch)
        reply = recorder.reply
        if reply is None or isinstance(reply, Trouble):
            raise SettingsError(f"--ask: {step.name} could not be asked: {describe(reply) if reply else 'held back'}")
        trial.calls += 1
        trial.is_simulated = trial.is_simulated or reply.simulated
        _hear(trial, tier.model.family, reply.headers)
        took.append((batch, reply.tokens))
        calls.append((len(batch), recorder.seconds))
        passed += [
            item
            for item, outcome in zip(batch, outcomes, strict=True)
            if not (isinstance(outcome, Answer) and step.accepts(outcome.output, outcome.confidence))
        ]
    trial.known.calls[step.name] = calls * (_LEARNED // len(calls))
    trial.known.took[step.name] = [_together(took, sample)]
    return passed


async def _room(tier: ClaudeTier, task: Task[Any, Any]) -> None:
    """A small account's limits bind a trial too: it waits, but not for long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (capacity := tier.capacity(task)).items:
        if capacity.cause == "spend" or time.monotonic() > deadline:
            raise SettingsError(f"--ask: {tier.name} could not be asked: it waits for {capacity.cause}")
        await asyncio.sleep(max(0.05, min(1.0, (capacity.until or 0.0) - time.monotonic())))


def _together(took: Sequence[tuple[Sequence[Item], Tokens]], sample: Sample) -> Took:
    """Of all calls where the prompt was cached; else of the largest, or prompts would count as events."""
    last = took[-1][1]
    calls = took if last.cache_read or last.cache_write else [max(took, key=lambda call: len(call[0]))]
    items = [item for batch, _ in calls for item in batch]
    tokens = last._replace(input=sum(t.input for _, t in calls), output=sum(t.output for _, t in calls))
    return Took(len(items), tokens, event_tokens(items) / len(items) / sample.line_tokens)


def _hear(trial: Trial, family: str, headers: Mapping[str, str]) -> None:
    """All three limits or none: a proxy may have taken some away."""
    seen = read_limits(headers)
    if all(kind in seen for kind in KINDS):
        trial.families.add(family)
        trial.known.limits[family] = LimitOptions(
            seen["requests"].limit, seen["input_tokens"].limit, seen["output_tokens"].limit
        )
