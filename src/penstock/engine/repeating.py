"""Calls that failed by the API's fault: their items wait here, outside the batcher, until the budget lets one be repeated.

cascade → [repeating] → batcher
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.flow.retries import RetryBudget
    from penstock.tier import Item

LOOK_SECONDS = 1.0


class Repeating:
    """Of one tier. Oldest first; fresh items go on meanwhile, since they are no repetition."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._calls: deque[list[Item]] = deque()

    def add(self, items: Sequence[Item]) -> None:
        """The items of one call that brought nothing."""
        if items:
            self._calls.append(list(items))

    def note_call(self, now: float) -> None:
        """A call is made: a tenth of a repetition is earned."""
        self._budget.note_call(now)

    def release(self, now: float, *, at_once: bool) -> list[Item]:
        """The items of a call that may be repeated now; empty where none may. `at_once`: a drain waits for no budget."""
        if self._calls and (at_once or self._budget.take(now)):
            return self._calls.popleft()
        return []

    def due_at(self, now: float) -> float | None:
        """When to look again; None where nothing waits. Other calls may earn a repetition before the budget's own time."""
        return min(self._budget.due_at(now), now + LOOK_SECONDS) if self._calls else None

    def discard(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out items that will not be asked here any more."""
        gone = [item for item in self if unwanted(item)]
        if gone:
            kept = ([item for item in items if not unwanted(item)] for items in self._calls)
            self._calls = deque(items for items in kept if items)
        return gone

    def __iter__(self) -> Iterator[Item]:
        for items in self._calls:
            yield from items

    def __len__(self) -> int:
        return sum(map(len, self._calls))
