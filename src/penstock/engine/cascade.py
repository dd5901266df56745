"""Asks the tiers of a route, cheapest first, one attempt at a time; every item leaves with one ending.

batcher → [cascade] → tier → [cascade] → checkpoint
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from penstock.engine.batcher import Batcher, BatchLimits
from penstock.engine.budget import held_until, over_budget
from penstock.engine.guard import GuardOptions, make_guard
from penstock.engine.hooks import has_hooks, through_hooks
from penstock.engine.isolation import halves
from penstock.engine.pace import Pace
from penstock.engine.repeating import Repeating
from penstock.engine.retry import RetryOptions, backoff_seconds
from penstock.engine.stage import Stage
from penstock.flow.retries import RetryBudget
from penstock.outcome import WEATHER, Again, Answer, Deferred, Failure, FailureReason, Outcome
from penstock.tier import reads_input

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from penstock.record import Partition
    from penstock.task import Step, Task
    from penstock.tier import Item, Tier


LOOK_SECONDS = 0.02
ANOTHER_MAY_ANSWER = frozenset({"refused", "invalid_output"})
"""Failures of one tier that the next step of the route may still answer."""


class HandOver(NamedTuple):
    """The item goes to the task's retry topic, to be asked again not before then."""

    reason: str
    not_before_ms: int


class Skipped(NamedTuple):
    """Counted and passed: a tombstone, or a hook that said `Skip`."""

    why: str


class Erased(NamedTuple):
    """A deletion: what was made of its subject before is erased; without a subject, of everything with its key."""

    why: str
    subject: str | None


EndingOutcome = Answer | Failure | Deferred | HandOver | Skipped | Erased


class Ending(NamedTuple):
    """What an item's offset ends in."""

    item: Item
    outcome: EndingOutcome


class Cascade:
    """The stages of one task. `settle` is told what a call brought; `next_call` says what may be asked now."""

    def __init__(
        self,
        task: Task[Any, Any],
        tiers: Sequence[Tier],
        limits: BatchLimits,
        retry: RetryOptions,
        clock: Callable[[], float] = time.monotonic,
        *,
        guard: GuardOptions | None = None,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._task = task
        self._retry = retry
        self._clock = clock
        self._unix = unix
        self._limits = limits
        self._guard_options = guard or GuardOptions()
        self.stages = [
            self._stage(index, step, tier)
            for index, (step, tier) in enumerate(zip(task.route.steps, tiers, strict=True))
        ]
        self.looks_at_input = has_hooks(task) or any(map(reads_input, tiers))
        """Whether `Item.input` is needed for an answer, or after it."""
        self.is_draining = False
        """No more company is waited for; what would be handed over or come back later is asked now."""

    def add(self, item: Item) -> None:
        """An item waits for the tier of its step, from now on or (a hand-over) from later on."""
        self.add_all((item,))

    def add_all(self, items: Iterable[Item]) -> None:
        """Likewise many, in their order."""
        now = self._clock()
        for item in items:
            batcher = self.stages[item.step].batcher
            wait_ms = item.not_before_ms - time.time_ns() // 1_000_000 if item.not_before_ms else 0
            if wait_ms > 0:
                batcher.add_again([item], now, wait_ms / 1000)
            else:
                batcher.add(item, now)

    def __len__(self) -> int:
        return sum(len(stage.batcher) + len(stage.repeating) for stage in self.stages)

    def waiting(self) -> Iterator[Item]:
        """All items that wait for a call."""
        for stage in self.stages:
            yield from stage.batcher
            yield from stage.repeating

    def discard(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out items that will not be asked here any more."""
        found = [part.discard(unwanted) for stage in self.stages for part in (stage.batcher, stage.repeating)]
        return [item for gone in found for item in gone]

    def hurry(self, partitions: Container[Partition]) -> None:
        """These partitions leave: what was to come back later comes back now."""
        for stage in self.stages:
            stage.batcher.hurry(lambda item: item.partition in partitions)
            stage.batcher.add_again(stage.repeating.discard(lambda item: item.partition in partitions), self._clock())

    def take_past(self) -> list[Ending]:
        """Items that are not to be asked any more: their deadline is over, or there is no money, and they shall not wait."""
        over = [Ending(*pair) for pair in over_budget(self.stages, self._task, self._clock())]
        if self._task.past_deadline != "bury":
            return over
        now_ms = int(self._unix() * 1000)
        return over + [
            Ending(
                item, item.standing or Failure("expired", f"its deadline was over for {now_ms - item.deadline_ms} ms")
            )
            for stage in self.stages
            for item in stage.batcher.take_past(now_ms)
        ]

    def next_call(self) -> tuple[Stage, list[Item]] | None:
        """A batch that may go now. Later steps first: to finish is better than to begin."""
        now = self._clock()
        for stage in reversed(self.stages):
            if not (len(stage.batcher) or len(stage.repeating)):
                stage.wait_for("", now)
                continue
            if stage.hold_until > now:
                continue
            capacity = stage.tier.capacity(self._task)
            if capacity.items <= 0:
                stage.wait_for(capacity.cause, now)
                stage.detail, stage.at_ceiling = capacity.detail, capacity.at_ceiling
                # No time is known: the end of a call of ours wakes us; of another task's, only a look.
                stage.look_at = now + LOOK_SECONDS if capacity.until is None or capacity.at_ceiling else 0.0
                stage.hold_until = max(stage.hold_until, held_until(capacity, now))
                continue
            if repeated := stage.repeating.release(now, at_once=self.is_draining):
                stage.batcher.add_again(repeated, now)
            stage.wait_for("" if len(stage.batcher) else "retry_budget", now)
            stage.look_at = 0.0
            batch = stage.batcher.take(capacity, now, at_once=self.is_draining or stage.calls == 0)
            if batch:
                stage.repeating.note_call(now)
                return stage, batch
        return None

    def wake_at(self) -> float | None:
        """When `next_call` may have something new without anything else happening."""
        now = self._clock()
        times = [
            max(due, stage.hold_until, stage.look_at)
            for stage in self.stages
            for due in (stage.batcher.due_at(now), stage.repeating.due_at(now))
            if due is not None
        ]
        if self._task.past_deadline == "bury":
            left = (stage.batcher.deadline_in_seconds() for stage in self.stages)
            times += [now + seconds for seconds in left if seconds is not None]
        return min(times, default=None)

    def settle(
        self, stage: Stage, items: Sequence[Item], outcomes: Sequence[Outcome], seconds: float, together: int = 0
    ) -> list[Ending]:
        """What one call brought: the items that are finished; the others wait again.

        `together`: how many items the call held, with those whose answers nobody waits for.
        """
        together = together or len(items)
        now_ms = time.time_ns() // 1_000_000
        endings: list[Ending] = []
        split: list[Item] = []
        failed: list[Item] = []
        if stage.guard is not None:  # before the hooks: they may change an output
            stage.guard.sample(items, outcomes, together)
        task = self._task
        takes_all = stage.index + 1 == len(self.stages) and not has_hooks(task)
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.charge is not None:
                item.charges.append(outcome.charge)
            item.answered_ms = now_ms
            checked = outcome
            if type(outcome) is Answer:  # nearly all of them
                if takes_all and isinstance(outcome.output, task.output):
                    item.attempts += 1
                    item.calls_seconds += seconds
                    endings.append(_new(Ending, (item, outcome)))
                    continue
                checked = through_hooks(task, item, outcome)
            elif isinstance(outcome, Again) and outcome.split and together > 1:
                split.append(item)
                continue
            elif isinstance(outcome, Again) and outcome.reason in _API_FAILED and not outcome.is_attempt:
                failed.append(item)
                continue
            ending = self._settle_one(stage, item, checked, seconds)
            if ending is not None:
                endings.append(_new(Ending, (item, ending)))
        if split:
            stage.batcher.add_apart(halves(split))
        stage.repeating.add(failed)
        self._feel_weather(stage, outcomes, seconds, together)
        return endings

    def _stage(self, index: int, step: Step, tier: Tier) -> Stage:
        pace = Pace(self._task.latency_target_seconds)
        guard = make_guard(self._task, step.name, self._guard_options)
        batcher = Batcher(
            self._task.max_batch_items,
            self._limits,
            pace=pace,
            guard=guard,
            unix=self._unix,
            by_key=self._task.order == "key",
        )
        budget = RetryBudget(self._retry.budget_share, self._retry.budget_least_per_minute)
        return Stage(index, step, tier, batcher, pace, guard, Repeating(budget))

    def _settle_one(self, stage: Stage, item: Item, outcome: Outcome, seconds: float) -> EndingOutcome | None:
        match outcome:
            case Answer():
                item.attempts += 1
                item.calls_seconds += seconds
                return self._accept_or_escalate(stage, item, outcome)
            case Deferred():
                item.attempts += 1
                return outcome
            case Failure():
                item.attempts += 1
                return self._escalate_or_bury(stage, item, outcome)
            case Again():
                return self._ask_again(stage, item, outcome, seconds)
            case _:
                assert_never(outcome)

    def _accept_or_escalate(self, stage: Stage, item: Item, answer: Answer) -> EndingOutcome | None:
        is_last = stage.index + 1 == len(self.stages)
        if is_last or stage.step.accepts(answer.output, answer.confidence):
            return answer
        item.standing = answer
        self._escalate(stage, item)
        return None

    def _escalate_or_bury(self, stage: Stage, item: Item, failure: Failure) -> EndingOutcome | None:
        # Another model may well answer what this one declines; an event that is too large stays too large.
        if failure.reason in ANOTHER_MAY_ANSWER and stage.index + 1 < len(self.stages):
            self._escalate(stage, item)
            return None
        return item.standing or failure

    def _escalate(self, stage: Stage, item: Item) -> None:
        stage.escalated += 1
        item.step = stage.index + 1
        item.tries = 0
        self.add(item)

    def _ask_again(self, stage: Stage, item: Item, again: Again, seconds: float) -> EndingOutcome | None:
        now = self._clock()
        if not again.is_attempt:
            stage.batcher.add_again([item], now)
            return None
        item.attempts += 1
        item.tries += 1
        item.calls_seconds += seconds
        if item.calls_seconds > self._task.max_call_seconds:
            detail = f"{item.calls_seconds:.0f} s inside calls, the task allows {self._task.max_call_seconds:.0f} s (last: {again.reason})"
            return item.standing or Failure("timed_out", detail)
        if item.attempts >= self._task.max_attempts:
            return item.standing or Failure(
                _FINAL[again.reason], f"after {item.attempts} attempts: {again.detail or again.reason}"
            )
        if (
            item.tries >= self._retry.tries_per_step
            and stage.index + 1 < len(self.stages)
            and again.reason in _ANOTHER_MAY_DO_BETTER
        ):
            self._escalate(stage, item)
            return None
        after = again.after_seconds
        if again.reason in _NEEDS_A_PAUSE:
            after = backoff_seconds(self._retry, item.tries, after)
        # A second hand-over would stand behind an erasure that came after the first, and its result come after all.
        may_move = item.partition.topic != self._task.retry_topic and not self.is_draining
        if after > self._retry.hand_over_after_seconds and may_move:
            return HandOver(again.reason, time.time_ns() // 1_000_000 + int(after * 1000))
        stage.batcher.add_again([item], now, 0.0 if self.is_draining else after)
        return None

    def _feel_weather(self, stage: Stage, outcomes: Sequence[Outcome], seconds: float, together: int) -> None:
        """Weather on a whole call holds the tier; anything else shows that it is fair again, and how long calls take."""
        if not outcomes:
            return
        storms = [o for o in outcomes if isinstance(o, Again) and not o.is_attempt]
        if len(storms) < len(outcomes):
            stage.storms = 0
            stage.pace.learn(together, seconds)
            return
        stage.storms += 1
        asked_for = max(again.after_seconds for again in storms)
        stage.wait_for(storms[0].reason, self._clock())
        if storms[0].reason == "busy" or (asked_for and storms[0].reason in ("rate_limited", "spend_cap")):
            wait = asked_for  # the gate knows better than a guess
        else:
            wait = backoff_seconds(self._retry, stage.storms, asked_for)
        stage.hold_until = max(stage.hold_until, self._clock() + wait)


_FINAL: dict[str, FailureReason] = {
    "server_error": "server_error",
    "unreachable": "server_error",
    "overloaded": "server_error",
    "rate_limited": "server_error",
    "spend_cap": "server_error",
    "busy": "server_error",
    "timed_out": "timed_out",
    "missing": "invalid_output",
    "invalid_output": "invalid_output",
    "truncated": "invalid_output",
    "refused": "refused",
    "rejected": "rejected",
}
_API_FAILED = frozenset({"overloaded", "unreachable", "server_error", "timed_out"})
_ANOTHER_MAY_DO_BETTER = frozenset({"missing", "invalid_output", "truncated", "refused"})
_NEEDS_A_PAUSE = frozenset({"server_error", "timed_out", "unreachable"}) | (WEATHER - {"busy"})
_new = tuple.__new__
"""Of a named tuple that is made for every event, without the detour over its own `__new__`."""
