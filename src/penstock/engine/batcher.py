"""Groups the items that wait for one tier into batches: by count, by estimated tokens and by age.

intake → [batcher] → cascade → tier
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from penstock.tier import Capacity, Item


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How items are grouped. The task's `max_batch_items` and the tier's capacity bind as well."""

    max_tokens: int = 20_000
    """Estimated input tokens of the events of one call; the first item always fits."""
    max_wait_seconds: float = 0.2
    """An item waits this long for company at most; with no call in flight it does not wait at all."""


class Batcher:
    """One queue per step of the route. Items leave in the order they came, except those that must stand alone."""

    def __init__(self, max_items: int, limits: BatchLimits) -> None:
        self._max_items = max_items
        self._limits = limits
        self._queue: deque[tuple[float, Item]] = deque()
        self._apart: deque[list[Item]] = deque()
        self._later: list[tuple[float, int, Item]] = []
        self._order = count()

    def add(self, item: Item, now: float) -> None:
        """An item waits for this tier."""
        if item.suspicious:
            self._apart.append([item])
        else:
            self._queue.append((now, item))

    def add_again(self, items: Sequence[Item], now: float, after_seconds: float = 0.0) -> None:
        """Items come back: to the front, they have waited already; or later."""
        if after_seconds > 0:
            for item in items:
                heapq.heappush(self._later, (now + after_seconds, next(self._order), item))
            return
        for item in reversed(items):
            if item.suspicious:
                self._apart.appendleft([item])
            else:
                self._queue.appendleft((now - self._limits.max_wait_seconds, item))

    def add_apart(self, batches: Iterable[list[Item]]) -> None:
        """Batches that must stay as they are (halves of one that was refused)."""
        self._apart.extend(batches)

    def take(self, capacity: Capacity, now: float, *, at_once: bool) -> list[Item] | None:
        """A batch that may go now, or None. `at_once`: do not wait for company (nothing is in flight, or a drain)."""
        self._ripen(now)
        if self._apart:
            return self._take_apart(capacity)
        if not self._queue or not (at_once or self._is_full(capacity) or self._is_due(now)):
            return None
        batch: list[Item] = []
        tokens = 0
        most_tokens = min(self._limits.max_tokens, capacity.tokens)
        most_items = min(self._max_items, capacity.items)
        while self._queue and len(batch) < most_items:
            item = self._queue[0][1]
            tokens += item.tokens
            if batch and tokens > most_tokens:
                break
            batch.append(self._queue.popleft()[1])
        return batch

    def due_at(self) -> float | None:
        """When the next item is old enough to go, or comes back; None when nothing waits."""
        times = []
        if self._apart:
            times.append(0.0)
        if self._queue:
            times.append(self._queue[0][0] + self._limits.max_wait_seconds)
        if self._later:
            times.append(self._later[0][0])
        return min(times, default=None)

    def discard(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out items that will not be asked here any more."""
        gone = [item for _, item in self._queue if unwanted(item)]
        gone += [item for batch in self._apart for item in batch if unwanted(item)]
        gone += [item for _, _, item in self._later if unwanted(item)]
        if gone:
            self._queue = deque(entry for entry in self._queue if not unwanted(entry[1]))
            kept = ([item for item in batch if not unwanted(item)] for batch in self._apart)
            self._apart = deque(batch for batch in kept if batch)
            self._later = [entry for entry in self._later if not unwanted(entry[2])]
            heapq.heapify(self._later)
        return gone

    def hurry(self, leaving: Callable[[Item], bool]) -> None:
        """A drain: what was to come back later comes back now."""
        self._later = [(0.0 if leaving(item) else due, order, item) for due, order, item in self._later]
        heapq.heapify(self._later)

    def __iter__(self) -> Iterator[Item]:
        yield from (item for _, item in self._queue)
        yield from (item for batch in self._apart for item in batch)
        yield from (item for _, _, item in self._later)

    def __len__(self) -> int:
        return len(self._queue) + sum(map(len, self._apart)) + len(self._later)

    def _take_apart(self, capacity: Capacity) -> list[Item]:
        batch = self._apart.popleft()
        if len(batch) > capacity.items:
            self._apart.appendleft(batch[capacity.items :])
            batch = batch[: capacity.items]
        return batch

    def _is_full(self, capacity: Capacity) -> bool:
        if len(self._queue) >= min(self._max_items, capacity.items):
            return True
        # Only a short queue gets here; its tokens are added up at most once per arrival.
        return sum(item.tokens for _, item in self._queue) >= min(self._limits.max_tokens, capacity.tokens)

    def _is_due(self, now: float) -> bool:
        return now - self._queue[0][0] >= self._limits.max_wait_seconds

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, item = heapq.heappop(self._later)
            self.add_again([item], now)
