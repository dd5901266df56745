"""Asks a small share of the answers a second time, in another batch at another place, and shrinks batches when verdicts flip.

cascade → [guard] → batcher

One guard watches one task on one tier. The second answer is compared and forgotten: what was answered first stands and is
published without waiting for it. What the second one costs is written as waste, call by call, so that money adds up (law 9).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin

from penstock.errors import SettingsError
from penstock.outcome import Answer
from penstock.tier import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock.outcome import Charge, Outcome
    from penstock.task import Task

logger = logging.getLogger("penstock.engine")

WHY = "asked again to compare verdicts"
RECHECK = -2
"""The epoch of an item that is asked only to compare: no partition's, so that nothing resolves an offset for it."""
_MISTAKEN = 0.01
"""How often a test may decide wrongly, either way, where the true rate is the allowed one or twice that."""
_MOST_WAITING = 100
_ONE_IN = 10
"""Of the places of a call at most one in so many is for a second asking, but one always."""
_KEPT = 0.99


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Off unless `share` is set: nobody pays for a second opinion that he has not asked for."""

    share: float = 0.0
    """Share of the answers given in large batches that is asked a second time; 0.01 costs about one per cent more, 0 nothing."""
    allowed_flips: float = 0.05
    """Share of second answers that may differ from the first. Where it is surely more, the largest batch is halved."""
    least_items: int = 5
    """Batches are never made smaller than this for it: below, the prompt costs more than the events."""

    def __post_init__(self) -> None:
        """A guard that can never decide would only cost money."""
        for name, value, good, what in (
            ("share", self.share, 0 <= self.share <= 1, "a share from 0 to 1"),
            ("allowed_flips", self.allowed_flips, 0 < self.allowed_flips < 1, "a share between 0 and 1"),
            ("least_items", self.least_items, self.least_items >= 2, "at least 2: one event has no other place"),
        ):
            if not good:
                raise SettingsError(f"guard.{name}={value!r}: write {what}")


class Recheck(Item):
    """A copy of an item that was answered, on its way to be asked once more."""

    __slots__ = ("place", "round", "verdict")

    def __init__(self, item: Item, verdict: tuple[Any, ...], place: int, round_: int) -> None:
        super().__init__(item.record, item.partition, item.event_id, item.input, item.text, item.tokens)
        self.subject, self.offset, self.epoch = item.subject, item.offset, RECHECK
        self.taken_ms = time.time_ns() // 1_000_000
        self.verdict = verdict
        self.place = place
        """Its index in the batch that was answered."""
        self.round = round_


class Compared(NamedTuple):
    """A call's items and outcomes without its rechecks, and what those cost."""

    items: list[Item]
    outcomes: list[Outcome]
    charges: list[Charge]


class Guard:
    """Knows how many items a call may hold before verdicts depend on their company."""

    def __init__(
        self, task: Task[Any, Any], tier: str, options: GuardOptions, dice: random.Random | None = None
    ) -> None:
        self._name = f"{task.name}: {tier}"
        self._options = options
        self._dice = dice or random.Random()
        self._decisive = sorted(decisive_fields(task))
        self._most_items = task.max_batch_items
        self._least_items = min(options.least_items, task.max_batch_items)
        self.ceiling = task.max_batch_items
        """Items that a call may hold now."""
        self.asked = 0
        """Second answers that were compared."""
        self.flipped = 0
        self._waiting: deque[Recheck] = deque()
        self._due = 0.0
        self._largest = 0.0
        """Of the batches of late: what a call really holds, where something else binds it."""
        self._round = 0
        """Verdicts are compared within one ceiling: a change of it begins a new round."""
        self._test = FlipTest(options.allowed_flips)
        self._told_floor = False

    def sample(self, items: Sequence[Item], outcomes: Sequence[Outcome], together: int) -> None:
        """A call that held so many items was answered: some of its answers are to be asked again."""
        self._largest = max(float(together), self._largest * _KEPT)
        is_large = together >= max(2, self._least_items) and 2 * together > min(self.ceiling, self._largest)
        if not is_large or not items:
            return
        self._due = min(self._due + self._options.share * len(items), float(len(items)))
        for place in self._dice.sample(range(len(items)), int(self._due)):
            self._due -= 1
            item, outcome = items[place], outcomes[place]
            if isinstance(outcome, Answer) and not item.suspicious and len(self._waiting) < _MOST_WAITING:
                self._waiting.append(Recheck(item, self._verdict(outcome), place, self._round))

    def take(self, most_items: int) -> list[Recheck]:
        """Those that may go with the next call of at most so many items: never alone, never many."""
        places = max(1, most_items // _ONE_IN) if most_items > 1 else 0
        return [self._waiting.popleft() for _ in range(min(places, len(self._waiting)))]

    def mix(self, batch: list[Item], rechecks: Sequence[Recheck]) -> list[Item]:
        """Each stands somewhere else than the first time."""
        for recheck in rechecks:
            places = [place for place in range(len(batch) + 1) if place != recheck.place]
            batch.insert(self._dice.choice(places), recheck)
        return batch

    def compare(self, items: list[Item], outcomes: Sequence[Outcome]) -> Compared:
        """A call came back: look at the second answers in it, and leave them out."""
        kept = Compared([], [], [])
        for item, outcome in zip(items, outcomes, strict=True):
            if not isinstance(item, Recheck):
                kept.items.append(item)
                kept.outcomes.append(outcome)
                continue
            if outcome.charge is not None:
                kept.charges.append(outcome.charge)
            if isinstance(outcome, Answer):
                self._note(item, is_flip=self._verdict(outcome) != item.verdict)
        return kept

    def forget(self, unwanted: Callable[[Item], bool]) -> None:
        """These are not to be asked again: erased, or of a partition that went."""
        self._waiting = deque(recheck for recheck in self._waiting if not unwanted(recheck))

    def _verdict(self, answer: Answer) -> tuple[Any, ...]:
        return tuple(_settled(getattr(answer.output, field, None)) for field in self._decisive)

    def _note(self, recheck: Recheck, *, is_flip: bool) -> None:
        self.asked += 1
        self.flipped += is_flip
        if recheck.round != self._round:
            return
        decision = self._test.note(is_flip=is_flip)
        if decision == "too_many":
            self._shrink()
        elif decision == "fine":
            self._grow()

    def _shrink(self) -> None:
        before = min(self.ceiling, int(self._largest))
        seen = f"{self._test.flips} of {self._test.asked} verdicts were others when asked again in another batch"
        allowed = f"guard.allowed_flips is {self._options.allowed_flips:g}"
        if before > self._least_items:
            self._begin_round(max(self._least_items, before // 2))
            logger.warning(
                "%s: %s (%s): batches of %d items at most from now on, they were %d",
                self._name, seen, allowed, self.ceiling, before,
            )  # fmt: skip
            return
        if not self._told_floor:
            self._told_floor = True
            logger.warning(
                "%s: %s (%s), and batches of %d items are as small as guard.least_items lets them be: it is not the batches, "
                "the instructions leave these events open",
                self._name, seen, allowed, before,
            )  # fmt: skip
        self._begin_round(self.ceiling)

    def _grow(self) -> None:
        self._told_floor = False
        if self.ceiling < self._most_items:
            logger.info("%s: verdicts are steady in batches of %d items", self._name, self.ceiling)
        self._begin_round(min(self._most_items, self.ceiling + max(1, self.ceiling // _ONE_IN)))

    def _begin_round(self, ceiling: int) -> None:
        if ceiling != self.ceiling:
            self.ceiling = ceiling
            self._round += 1
            self._waiting.clear()
            self._largest = min(self._largest, ceiling)
        self._test = FlipTest(self._options.allowed_flips)


class FlipTest:
    """Wald's sequential test: it decides as soon as it can, however often it is looked at, and is seldom wrong.

    Between "as many flips as allowed" and "twice as many": 10 steady or flipping verdicts may be enough, or 300 needed.
    """

    def __init__(self, allowed: float) -> None:
        too_many = min(2 * allowed, (1 + allowed) / 2)
        self._flip = math.log(too_many / allowed)
        self._steady = math.log((1 - too_many) / (1 - allowed))
        self._evidence = 0.0
        self.asked = 0
        self.flips = 0

    def note(self, *, is_flip: bool) -> Literal["too_many", "fine", ""]:
        """One more verdict; "": go on asking."""
        self.asked += 1
        self.flips += is_flip
        self._evidence += self._flip if is_flip else self._steady
        if self._evidence >= _BOUND:
            return "too_many"
        return "fine" if self._evidence <= -_BOUND else ""


_BOUND = math.log((1 - _MISTAKEN) / _MISTAKEN)


def decisive_fields(task: Task[Any, Any]) -> Iterable[str]:
    """Output fields that make the verdict: those the task names, else all with closed values."""
    if task.decisive is not None:
        return task.decisive
    return [name for name, info in task.output.model_fields.items() if _is_closed(info.annotation)]


def make_guard(task: Task[Any, Any], tier: str, options: GuardOptions) -> Guard | None:
    """None where it is off, or where there is nothing to compare."""
    if not options.share or task.max_batch_items <= 1:
        return None
    if not decisive_fields(task):
        logger.warning(
            "%s: guard.share is set, but its output has no field of closed values (Literal, Enum, bool): "
            "name the fields that make the verdict, decisive={…}. Nothing is asked again",
            task.name,
        )
        return None
    return Guard(task, tier, options)


def _is_closed(annotation: Any) -> bool:
    if annotation is bool or annotation is type(None) or get_origin(annotation) is Literal:
        return True
    if isinstance(annotation, type):
        return issubclass(annotation, Enum)
    return get_origin(annotation) in (Union, UnionType) and all(map(_is_closed, get_args(annotation)))


def _settled(value: Any) -> Any:
    """The order of a list says nothing of a verdict."""
    return sorted(map(str, value)) if isinstance(value, list | set | frozenset | tuple) else value
