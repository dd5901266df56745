"""The ledger of one task's partitions: which offsets are in flight, which are resolved, and what that lets us commit.

intake → batcher → cascade → [checkpoint] → log

Laws (property tests hold them): an unresolved offset is never passed; every resolved offset's ending leaves exactly
once; gaps in offsets cost nothing, because only tracked positions count; a forgotten partition gives nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from penstock.log.offset_map import OffsetMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.record import Partition

EndingT = TypeVar("EndingT")


class _Slot(Generic[EndingT]):
    """An offset in the queue of its key."""

    __slots__ = ("endings", "key", "offset")

    def __init__(self, key: bytes, offset: int) -> None:
        self.key = key
        self.offset = offset
        self.endings: list[EndingT] | None = None


@dataclass(slots=True)
class _Book(Generic[EndingT]):
    """One partition. Bit i of `bits` stands for offset `base + i`; gaps count as done as soon as they are passed."""

    epoch: int
    base: int
    bits: int
    end: int
    position: int
    """The next offset that may come: what is passed over here will never come."""
    in_flight: int = 0
    is_changed: bool = False
    endings: list[EndingT] = field(default_factory=list)
    keys: dict[bytes, list[_Slot[EndingT]]] = field(default_factory=dict)
    """Lists: an empty deque has 760 bytes, and most of thousands of keys have one offset in flight."""
    slots: dict[int, _Slot[EndingT]] = field(default_factory=dict)
    held: int = 0
    longest: int = 1
    """No key has more offsets in flight."""


class Checkpoint(Generic[EndingT]):
    """Tracks offsets per partition; with `by_key` the endings of one key leave in the order of their offsets."""

    def __init__(self, *, by_key: bool = False) -> None:
        self._by_key = by_key
        self._books: dict[Partition, _Book[EndingT]] = {}
        self._epochs = 0
        self.changes = 0
        """Counts up whenever an item in flight may have become a late one: while it stays, none has."""

    def begin(self, partition: Partition, done: OffsetMap) -> int:
        """Take up a partition where its group stands; the epoch that its items carry."""
        self._epochs += 1
        self.changes += 1
        end = max(done.base, done.end)
        self._books[partition] = _Book(self._epochs, done.base, done.bits, end, position=done.base)
        return self._epochs

    def epoch(self, partition: Partition) -> int:
        """The current epoch of a partition; 0 where it is not ours."""
        book = self._books.get(partition)
        return book.epoch if book else 0

    def track(self, partition: Partition, offset: int, key: bytes | None = None) -> bool:
        """An offset is in flight. False: it is not wanted (not ours, or resolved before a restart)."""
        book = self._books.get(partition)
        if book is None or offset < book.base:
            return False
        if offset > book.position:
            # Nothing will ever come for the offsets between: compaction, a transaction marker, or what retention took.
            first = max(book.position, book.base)
            book.bits |= ((1 << (offset - first)) - 1) << (first - book.base)
            book.is_changed = True
            book.end = max(book.end, offset)
        book.position = offset + 1
        if (book.bits >> (offset - book.base)) & 1:
            return False
        book.end = max(book.end, offset + 1)
        book.in_flight += 1
        if self._by_key and key is not None:
            slot = book.slots[offset] = _Slot(key, offset)
            queue = book.keys.get(key)
            if queue is None:
                book.keys[key] = [slot]
                return True
            queue.append(slot)
            book.longest = max(book.longest, len(queue))
        return True

    def resolve(
        self,
        partition: Partition,
        epoch: int,
        offset: int,
        endings: Iterable[EndingT] = (),
        hold: Callable[[EndingT], EndingT] | None = None,
    ) -> bool:
        """The outcome of an offset is known. False: too late, the partition is no longer ours under that epoch.

        `hold` makes of an ending that must wait for its key's turn one that is the same and takes less room.
        """
        book = self._books.get(partition)
        if book is None or book.epoch != epoch:
            return False
        slot = book.slots.pop(offset, None) if book.slots else None
        if slot is None:
            self._finish(book, offset, endings)
            return True
        queue = book.keys[slot.key]
        if len(queue) == 1:  # nobody waits for it
            del book.keys[slot.key]
            self._finish(book, offset, endings)
            return True
        slot.endings = list(endings) if hold is None or queue[0] is slot else [hold(ending) for ending in endings]
        book.held += 1
        ready = 0
        while ready < len(queue) and (first := queue[ready]).endings is not None:
            self._finish(book, first.offset, first.endings)
            ready += 1
        book.held -= ready
        del queue[:ready]
        if not queue:
            del book.keys[slot.key]
        return True

    def change_held(self, change: Callable[[EndingT], EndingT]) -> None:
        """Endings that wait for their key's turn may still become others."""
        for book in self._books.values():
            for queue in book.keys.values():
                for slot in queue:
                    if slot.endings:
                        slot.endings = [change(ending) for ending in slot.endings]

    def drop(self, partition: Partition, offsets: set[int]) -> set[int]:
        """Let go of offsets that were tracked and never asked (a drain): they stay unresolved, for the next owner.

        Those in front of an asked offset of their key are kept, or its paid answer could never leave. Returns the let go.
        """
        book = self._books.get(partition)
        if book is None:
            return set()
        gone = {offset for offset in offsets if offset not in book.slots}
        for queue in book.keys.values():
            while queue and queue[-1].offset in offsets:
                gone.add(queue.pop().offset)
        book.keys = {key: queue for key, queue in book.keys.items() if queue}
        for offset in gone:
            book.slots.pop(offset, None)
        book.in_flight -= len(gone)
        return gone

    def has_key_of(self, partition: Partition, count: int) -> bool:
        """Whether a key of a partition has so many offsets in flight. Asked all the time: it counts where it must."""
        book = self._books.get(partition)
        if book is None or book.longest < count:
            return False
        longest = max(map(len, book.keys.values()), default=0)
        book.longest = max(1, longest)
        return longest >= count

    def first_of_longest_key(self, partition: Partition) -> int:
        """The offset that the fullest key of a partition waits for."""
        return max(self._books[partition].keys.values(), key=len)[0].offset

    def advance(self) -> list[tuple[Partition, OffsetMap, list[EndingT]]]:
        """What changed since the last call: per partition where it stands now, and the endings that brought it there."""
        changed = []
        for partition, book in self._books.items():
            if not book.is_changed:
                continue
            book.is_changed = False
            done = OffsetMap(book.base, book.bits).normalised()
            book.base, book.bits = done
            endings, book.endings = book.endings, []
            changed.append((partition, done, endings))
        return changed

    def extent(self, partition: Partition) -> tuple[int, int, int]:
        """Watermark, what is resolved above it as bits, and the end of what is tracked; what is not resolved in it is open."""
        book = self._books[partition]
        return book.base, book.bits, book.end

    def is_open(self, partition: Partition, offset: int) -> bool:
        """Ours, and not resolved."""
        book = self._books.get(partition)
        return book is not None and offset >= book.base and not (book.bits >> (offset - book.base)) & 1

    def first_open(self, partition: Partition) -> int:
        """The earliest offset that is not resolved: what the watermark waits for."""
        book = self._books[partition]
        return OffsetMap(book.base, book.bits).normalised().base

    def in_flight(self, partitions: Iterable[Partition] | None = None) -> int:
        """Tracked and unresolved offsets (answers held back by key order count as in flight)."""
        books = self._books.values() if partitions is None else [self._books[p] for p in partitions if p in self._books]
        return sum(book.in_flight for book in books)

    def held(self, partition: Partition | None = None) -> int:
        """Resolved offsets that wait for an earlier one of their key."""
        return sum(book.held for place, book in self._books.items() if partition in (None, place))

    def partitions(self) -> list[Partition]:
        """The partitions that are ours."""
        return list(self._books)

    def positions(self) -> dict[Partition, OffsetMap]:
        """Where each partition of ours stands, with what is resolved and not written yet."""
        return {partition: OffsetMap(book.base, book.bits).normalised() for partition, book in self._books.items()}

    def forget(self, partitions: Iterable[Partition]) -> list[EndingT]:
        """They are gone: nothing of them is given any more. Returns the endings that never left (paid for nothing)."""
        self.changes += 1
        orphans: list[EndingT] = []
        for partition in partitions:
            book = self._books.pop(partition, None)
            if book is None:
                continue
            orphans += book.endings
            for queue in book.keys.values():
                for slot in queue:
                    orphans += slot.endings or []
        return orphans

    def _finish(self, book: _Book[EndingT], offset: int, endings: Iterable[EndingT]) -> None:
        book.bits |= 1 << (offset - book.base)
        book.in_flight -= 1
        book.endings += endings
        book.is_changed = True
