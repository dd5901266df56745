"""The order in which items leave: by priority, then by deadline, then as they came; and nobody is overtaken for ever.

batcher → [line] → batcher

Items of normal priority without a deadline, which is nearly all, stand in a plain queue. The others are ranked beside it.
The law (a property test holds it): once an item has waited `patience_seconds`, every fourth place goes to whoever has waited
longest, so that an item with `n` older ones before it leaves within 4 · (n + 1) places, whatever else arrives.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from itertools import chain, count
from typing import TYPE_CHECKING

from penstock.engine.key_lanes import KeyLanes
from penstock.tier import NORMAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.tier import Item

FOR_THE_PATIENT = 4
"""Every so many places one is for those who have waited for too long."""
ENOUGH = 8
"""With results in the order of keys, so many full batches are a backlog: then it is asked lane by lane."""
NEVER_MS = 1 << 62
_SLACK = 64


class Line:
    """Items that wait for one tier. Who has waited how long is `Item.waits_since`."""

    def __init__(self, patience_seconds: float, *, by_key: bool = False) -> None:
        self._patience_seconds = patience_seconds
        self._plain: deque[Item] | KeyLanes = KeyLanes() if by_key else deque()
        self._ranked: OrderedDict[int, Item] = OrderedDict()
        """By number, in the order in which they came."""
        self._ranks: list[tuple[int, int, int]] = []
        """Priority, deadline, number: who is next. Numbers that are no longer in `_ranked` are passed over."""
        self._deadlines: list[tuple[int, int]] = []
        self._back = count(1)
        self._front = count(-1, -1)
        self._places = 0

    def add(self, item: Item) -> None:
        """Behind all of its rank."""
        if item.priority == NORMAL and not item.deadline_ms:
            self._plain.append(item)
        else:
            self._rank(item, next(self._back))

    def add_first(self, item: Item) -> None:
        """Before all of its rank."""
        if item.priority == NORMAL and not item.deadline_ms:
            self._plain.appendleft(item)
        else:
            number = next(self._front)
            self._rank(item, number)
            self._ranked.move_to_end(number, last=False)

    def take(self, most_items: int, most_tokens: int, now: float) -> list[Item]:
        """The next batch; its first item always fits."""
        batch: list[Item] = []
        tokens = 0
        if not self._ranked:
            plain = self._plain
            if isinstance(plain, KeyLanes) and len(plain) >= ENOUGH * most_items:
                return plain.take(most_items, most_tokens)
            while plain and len(batch) < most_items:
                tokens += plain[0].tokens
                if batch and tokens > most_tokens:
                    break
                batch.append(plain.popleft())
            return batch
        while len(self) and len(batch) < most_items:
            number = self._next(now)
            item = self._ranked[number] if number else self._plain[0]
            tokens += item.tokens
            if batch and tokens > most_tokens:
                break
            batch.append(self._leave(number))
        return batch

    def take_past(self, unix_ms: int) -> list[Item]:
        """Take out the items whose deadline is over."""
        past: list[Item] = []
        while (deadline_ms := self.first_deadline_ms) and deadline_ms <= unix_ms:
            past.append(self._leave(self._deadlines[0][1]))
        return past

    @property
    def oldest(self) -> Item | None:
        """Who has waited longest."""
        plain = self._plain[0] if self._plain else None
        ranked = next(iter(self._ranked.values())) if self._ranked else None
        if plain is None or ranked is None:
            return plain or ranked
        return plain if plain.waits_since <= ranked.waits_since else ranked

    @property
    def middle(self) -> Item | None:
        """One of them of whom about half stand before and half behind."""
        if self._plain:
            return self._plain[len(self._plain) // 2]
        return self.oldest

    @property
    def first_deadline_ms(self) -> int:
        """The earliest deadline of all, in Unix time; 0 where none has one."""
        while self._deadlines and self._deadlines[0][1] not in self._ranked:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else 0

    def discard(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out what is unwanted."""
        gone = [item for item in self if unwanted(item)]
        if gone:
            self._plain = type(self._plain)(item for item in self._plain if not unwanted(item))
            for number in [number for number, item in self._ranked.items() if unwanted(item)]:
                self._leave(number)
        return gone

    def __iter__(self) -> Iterator[Item]:
        return chain(self._plain, self._ranked.values())

    def __len__(self) -> int:
        return len(self._plain) + len(self._ranked)

    def _rank(self, item: Item, number: int) -> None:
        self._ranked[number] = item
        heapq.heappush(self._ranks, (item.priority, item.deadline_ms or NEVER_MS, number))
        if item.deadline_ms:
            heapq.heappush(self._deadlines, (item.deadline_ms, number))

    def _next(self, now: float) -> int:
        """The number of who is next; 0: the first of the plain queue."""
        if self._places % FOR_THE_PATIENT == FOR_THE_PATIENT - 1:
            oldest = self.oldest
            if oldest is not None and now - oldest.waits_since >= self._patience_seconds:
                is_plain = bool(self._plain) and oldest is self._plain[0]
                return 0 if is_plain else next(iter(self._ranked))
        while self._ranks and self._ranks[0][2] not in self._ranked:
            heapq.heappop(self._ranks)
        # Ranked and of normal priority: it has a deadline, and stands before those without.
        if self._ranks and (not self._plain or self._ranks[0][0] <= NORMAL):
            return self._ranks[0][2]
        return 0

    def _leave(self, number: int) -> Item:
        self._places += 1
        item = self._ranked.pop(number) if number else self._plain.popleft()
        most = 2 * len(self._ranked) + _SLACK
        if len(self._ranks) > most or len(self._deadlines) > most:
            self._ranks = [rank for rank in self._ranks if rank[2] in self._ranked]
            self._deadlines = [due for due in self._deadlines if due[1] in self._ranked]
            heapq.heapify(self._ranks)
            heapq.heapify(self._deadlines)
        return item
