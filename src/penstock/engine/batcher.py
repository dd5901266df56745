"""Groups the items that wait for one tier into batches: by count, by estimated tokens and by age.

intake → [batcher] → cascade → tier
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

from penstock.engine.line import Line
from penstock.engine.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from penstock.engine.guard import Guard
    from penstock.tier import Capacity, Item


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How items are grouped. The task's `max_batch_items` and the tier's capacity bind as well."""

    max_tokens: int = 20_000
    """Estimated input tokens of the events of one call; the first item always fits."""
    max_wait_seconds: float = 0.2
    """An item waits this long for company at most, longer only where the task has a `latency_target_seconds`; with no call in flight it does not wait at all."""
    patience_seconds: float = 60.0
    """Of the places in calls, every fourth goes to the item that has waited longest, once that is longer than this: priorities and deadlines starve nobody."""


class Batcher:
    """Items of one step of the route. They leave in the order of their line, except those that must stand alone."""

    def __init__(
        self,
        max_items: int,
        limits: BatchLimits,
        *,
        pace: Pace | None = None,
        guard: Guard | None = None,
        unix: Callable[[], float] = time.time,
        by_key: bool = False,
    ) -> None:
        self.max_items = max_items
        """The task's own limit."""
        self._limits = limits
        self._pace = pace or Pace(None)
        self._guard = guard
        self._unix = unix
        self._line = Line(limits.patience_seconds, by_key=by_key)
        self._suspicious = Line(limits.patience_seconds)
        self._apart: deque[list[Item]] = deque()
        self._went_apart = False
        self._later: list[tuple[float, int, Item]] = []
        self._order = count()

    def add(self, item: Item, now: float) -> None:
        """An item waits for this tier."""
        item.waits_since = now
        (self._suspicious if item.suspicious else self._line).add(item)

    def add_again(self, items: Sequence[Item], now: float, after_seconds: float = 0.0) -> None:
        """Items come back: to the front of their rank, they have waited already; or later."""
        if after_seconds > 0:
            for item in items:
                heapq.heappush(self._later, (now + after_seconds, next(self._order), item))
            return
        for item in reversed(items):
            item.waits_since = min(item.waits_since or now, now - self._limits.patience_seconds)
            (self._suspicious if item.suspicious else self._line).add_first(item)

    def add_apart(self, batches: Iterable[list[Item]]) -> None:
        """Batches that must stay as they are (halves of one that was refused)."""
        self._apart.extend(batches)

    def take(self, capacity: Capacity, now: float, *, at_once: bool) -> list[Item] | None:
        """A batch that may go now, or None. `at_once`: do not wait for company (nothing is in flight, or a drain)."""
        self._ripen(now)
        is_ready = len(self._line) > 0 and (at_once or self._is_full(capacity) or now >= self._due_at(now))
        # In turns: a flood of suspicious events must not keep the others waiting.
        if (self._apart or len(self._suspicious)) and not (is_ready and self._went_apart):
            self._went_apart = True
            return self._take_apart(capacity, now)
        if not is_ready:
            return None
        self._went_apart = False
        return self._take_together(capacity, now)

    def take_past(self, unix_ms: int) -> list[Item]:
        """Take out the items whose deadline is over; those that come back later are looked at then."""
        return self._line.take_past(unix_ms) + self._suspicious.take_past(unix_ms)

    def due_at(self, now: float) -> float | None:
        """When the next item is old enough to go, or comes back; None when nothing waits."""
        times = []
        if self._apart or len(self._suspicious):
            times.append(0.0)
        if len(self._line):
            times.append(self._due_at(now))
        if self._later:
            times.append(self._later[0][0])
        return min(times, default=None)

    def deadline_in_seconds(self) -> float | None:
        """How long until the next deadline of a waiting item; None where none has one."""
        first = [ms for line in (self._line, self._suspicious) if (ms := line.first_deadline_ms)]
        return min(first) / 1000 - self._unix() if first else None

    def discard(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out items that will not be asked here any more."""
        gone = self._line.discard(unwanted) + self._suspicious.discard(unwanted)
        apart = [item for batch in self._apart for item in batch if unwanted(item)]
        later = [item for _, _, item in self._later if unwanted(item)]
        if apart:
            kept = ([item for item in batch if not unwanted(item)] for batch in self._apart)
            self._apart = deque(batch for batch in kept if batch)
        if later:
            self._later = [entry for entry in self._later if not unwanted(entry[2])]
            heapq.heapify(self._later)
        if self._guard is not None:
            self._guard.forget(unwanted)
        return gone + apart + later

    def hurry(self, leaving: Callable[[Item], bool]) -> None:
        """A drain: what was to come back later comes back now."""
        self._later = [(0.0 if leaving(item) else due, order, item) for due, order, item in self._later]
        heapq.heapify(self._later)

    def later(self) -> Iterator[tuple[float, Item]]:
        """Items that come back by themselves, and when."""
        return ((due, item) for due, _, item in self._later)

    def __iter__(self) -> Iterator[Item]:
        yield from chain(self._line, self._suspicious, *self._apart)
        yield from (item for _, _, item in self._later)

    def __len__(self) -> int:
        return len(self._line) + len(self._suspicious) + sum(map(len, self._apart)) + len(self._later)

    def _take_together(self, capacity: Capacity, now: float) -> list[Item]:
        most_items, most_tokens = self._most_items(capacity), self._most_tokens(capacity)
        if self._guard is None:
            return self._line.take(most_items, most_tokens, now)
        rechecks = self._guard.take(most_items)
        tokens = sum(recheck.tokens for recheck in rechecks)
        batch = self._line.take(most_items - len(rechecks), most_tokens - tokens, now)
        return self._guard.mix(batch, rechecks)

    def _take_apart(self, capacity: Capacity, now: float) -> list[Item]:
        if not self._apart:
            return self._suspicious.take(1, 0, now)
        batch = self._apart.popleft()
        if len(batch) > capacity.items:
            self._apart.appendleft(batch[capacity.items :])
            batch = batch[: capacity.items]
        return batch

    def _most_items(self, capacity: Capacity) -> int:
        """What binds now: the task, the tier (and behind it the scarcest limit), verdicts that flip, or the task's target."""
        most = min(self.max_items, capacity.items)
        if self._guard is not None:
            most = min(most, self._guard.ceiling)
        middle = self._line.middle if self._pace.has_target else None
        return most if middle is None else self._pace.most_items(self._age_seconds(middle), most)

    def _most_tokens(self, capacity: Capacity) -> int:
        return min(self._limits.max_tokens, capacity.tokens)

    def _is_full(self, capacity: Capacity) -> bool:
        if len(self._line) >= self._most_items(capacity):
            return True
        # Only a short queue gets here; its tokens are added up at most once per arrival.
        return sum(item.tokens for item in self._line) >= self._most_tokens(capacity)

    def _due_at(self, now: float) -> float:
        """Until when the oldest item waits for company, or the most urgent one can."""
        oldest = self._line.oldest
        assert oldest is not None
        wait_seconds = self._limits.max_wait_seconds
        if self._pace.has_target:
            lag_seconds = max(0.0, self._age_seconds(oldest) - (now - oldest.waits_since))
            wait_seconds = self._pace.company_seconds(len(self._line), lag_seconds, wait_seconds)
        due = oldest.waits_since + min(wait_seconds, self._limits.patience_seconds)
        if deadline_ms := self._line.first_deadline_ms:
            left_seconds = deadline_ms / 1000 - self._unix()
            due = min(due, now + left_seconds - self._pace.seconds(len(self._line)))
        return due

    def _age_seconds(self, item: Item) -> float:
        return self._unix() - item.record.timestamp_ms / 1000

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, item = heapq.heappop(self._later)
            self.add_again([item], now)
