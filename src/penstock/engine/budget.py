"""What becomes of items whose tier has met a ceiling, where they are not to wait: they end with a cheaper answer, or as dead letters.

cascade → [budget] → checkpoint
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.outcome import Answer, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.engine.stage import Stage
    from penstock.task import Task
    from penstock.tier import Capacity, Item

LOOK_SECONDS = 1.0
LONGEST_HOLD_SECONDS = 1.0
"""A ceiling is looked at again by then, whenever its period ends: clocks are set, and reserves are given back."""


def held_until(capacity: Capacity, now: float) -> float:
    """How long a tier that has no room need not be asked again; 0 where nobody knows."""
    if capacity.until is None or capacity.at_ceiling:
        return 0.0
    return min(capacity.until, now + LONGEST_HOLD_SECONDS) if capacity.cause == "spend" else capacity.until


def over_budget(stages: Iterable[Stage], task: Task[Any, Any], now: float) -> Iterator[tuple[Item, Answer | Failure]]:
    """Items that end because of a ceiling. The tier is asked once more: the period may have turned since it said so."""
    for stage in stages:
        if not stage.at_ceiling or stage.hold_until > now:
            continue
        capacity = stage.tier.capacity(task)
        stage.at_ceiling = capacity.at_ceiling if capacity.items <= 0 else ""
        if not stage.at_ceiling:
            continue
        stage.hold_until = now + LOOK_SECONDS
        ends = _has_answer if stage.at_ceiling == "cheaper" else _any
        failure = Failure("over_budget", capacity.detail or "a ceiling of [spend] is reached")
        for part in (stage.batcher, stage.repeating):
            for item in part.discard(ends):
                yield item, item.standing or failure


def _has_answer(item: Item) -> bool:
    """An earlier step was not sure enough of its answer; the escalation is what there is no money for."""
    return item.standing is not None


def _any(_item: Item) -> bool:
    return True
