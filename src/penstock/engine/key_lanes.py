"""Where results come in the order of keys: items of one line, by lanes of their keys, so that a backlog is asked lane by lane.

line → [key lanes] → line

The items of a key are asked in as few calls as there can be: a slow call then holds back the keys of a few lanes, and not every key
that is often seen.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush, heapreplace
from itertools import chain, count
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.tier import Item

LANES = 256
"""So many that the items of a lane which wait at a time fit into one call, save those of the keys that are seen most."""
_place = attrgetter("place")


class KeyLanes:
    """A queue of items; like a deque where no lane is asked for. `Item.place` is the place in the line."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._lanes: list[deque[Item]] = [deque() for _ in range(LANES)]
        self._heads: list[tuple[int, int]] = []
        """Place of the first of a lane, and which; what is no longer the first of its lane is passed over."""
        self._back, self._front = count(1), count(-1, -1)
        self._count = 0
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Behind all."""
        item.place = place = next(self._back)
        number = hash(item.record.key) % LANES
        lane = self._lanes[number]
        if not lane:
            heappush(self._heads, (place, number))
        lane.append(item)
        self._count += 1

    def appendleft(self, item: Item) -> None:
        """Before all."""
        item.place = place = next(self._front)
        number = hash(item.record.key) % LANES
        heappush(self._heads, (place, number))
        self._lanes[number].appendleft(item)
        self._count += 1

    def popleft(self) -> Item:
        """Take out the first of all."""
        number = self._first()
        lane = self._lanes[number]
        item = lane.popleft()
        self._left(number, 1)
        return item

    def take(self, most_items: int, most_tokens: int) -> list[Item]:
        """The first, and as many of its lane as fit; then likewise of the lane of who is first then."""
        batch: list[Item] = []
        tokens = 0
        while self._count and len(batch) < most_items:
            number = self._first()
            lane = self._lanes[number]
            before = len(batch)
            while lane and len(batch) < most_items:
                tokens += lane[0].tokens
                if batch and tokens > most_tokens:
                    if len(batch) > before:
                        self._left(number, len(batch) - before)
                    return batch
                batch.append(lane.popleft())
            self._left(number, len(batch) - before)
        return batch

    def __getitem__(self, index: int) -> Item:
        """The first; for any other index one of the middle of its lane: about as many stand before it as behind."""
        if index == 0:
            return self._lanes[self._first()][0]
        lane = max(self._lanes, key=len)
        return lane[len(lane) // 2]

    def __iter__(self) -> Iterator[Item]:
        return iter(sorted(chain(*self._lanes), key=_place))

    def __len__(self) -> int:
        return self._count

    def _first(self) -> int:
        """The lane of the first of all."""
        heads, lanes = self._heads, self._lanes
        while True:
            place, number = heads[0]
            lane = lanes[number]
            if lane and lane[0].place == place:
                return number
            heappop(heads)

    def _left(self, number: int, count: int) -> None:
        """So many have left at the front of a lane."""
        self._count -= count
        if lane := self._lanes[number]:
            heapreplace(self._heads, (lane[0].place, number))
        else:
            heappop(self._heads)
