"""The spend guard: a call is made only if its worst fits under every ceiling, over all workers and restarts.

claude → gate → [spend] ⇄ penstock-state

How workers keep a ceiling together without a coordinator (decision 9): before it spends, a worker **claims**: it writes into
the state topic how much it may have spent at most. It **looks**: reads the topic up to its own record. It **uses** of the
claim what fits under the ceiling together with all claims that it sees. Of two that claim at once, the one whose record stands
later sees the other's, so that what is usable in the fleet is never more than the ceiling.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator

from penstock.flow.base import Clock, Wait
from penstock.flow.book import Book, Hold, Line
from penstock.flow.ceilings import PERIODS, Ceiling, Now, SpendOptions, periods_at
from penstock.flow.claims import SILENT_SECONDS, Account, Claims, Entry, Key, entry_record
from penstock.flow.reached import Reached
from penstock.flow.standing import Standing, Warnings
from penstock.record import NewRecord

logger = logging.getLogger("penstock.spend")
REFRESH_SECONDS = SILENT_SECONDS / 3
"""Who holds a claim says so this often, or others take it for dead."""
UNSENT_SECONDS = 2.0
"""So long what was spent waits for an act of results; then it is written by itself."""
LOWER_SECONDS = 0.5
RETRY_SECONDS = (0.05, 0.4)
"""Two that claimed the last of it at once both step back, and come again at different times."""
MOST_TOMBSTONES = 100
STRETCHED_PART = 50
"""Room for more calls than are in flight is at most this part of a ceiling: a worker that dies leaves it behind."""
HELD_PART = 20
"""Claimed and not spent is at most this part of a ceiling per task and model of a worker, or one call: what a death can cost."""
IDLE_PART, IDLE_FROM_PART = 100, 5
"""An idle worker keeps room for a call, so that the next event goes out at once; not when little is left."""
_HOUR = 3_600.0
_CALL_SECONDS = 60.0


class Spend:
    """What this worker spends, and may. Without a `run` it is alone: its own books decide (trials, tests)."""

    def __init__(
        self,
        options: SpendOptions,
        clock: Clock = time.monotonic,
        unix: Clock = time.time,
        *,
        run: str = "",
        call_seconds: float = _CALL_SECONDS,
    ) -> None:
        """No call lasts longer than `call_seconds`."""
        self._patience_seconds = call_seconds + SILENT_SECONDS
        self._clock = clock
        self._unix = unix
        self.run = run
        self.ceilings = tuple(options.ceilings())
        self.claims = Claims(clock, unix)
        self.warnings = Warnings()
        self.reached: Reached | None = None
        """The ceiling that was met last."""
        self.spent_nanousd = 0
        self.reserved_nanousd = 0
        """The worst that the calls in flight may cost."""
        self.unconfirmed_nanousd = 0
        """The worst of calls whose reply was never read: they may have been billed."""
        self._books: dict[tuple[str, str], Book] = {}
        self._covering: dict[tuple[str, str], tuple[Ceiling, ...]] = {}
        self._now = periods_at(0.0)
        self._asks: dict[str, Callable[[], None]] = {}
        self._closing: set[str] = set()
        self._finished: list[Key] = []
        self._swept = ""
        self.on_written: Callable[[], None] = lambda: None
        """Told when a claim was written: it is worth looking now."""

    @property
    def is_shared(self) -> bool:
        """Whether claims must be written before anything is spent."""
        return bool(self.run and self.ceilings)

    # --- asked for every call ------------------------------------------------------------------------------------

    def check(self, task: str, model: str, worst_nanousd: int) -> Wait | None:
        """None where the call may be made; `claim`: soon; `spend`: when the period ends."""
        if not self.ceilings:
            return None
        book, now = self._book(task, model), self._periods()
        lines = book.current(now)
        book.last_worst = worst_nanousd
        if self._fits(book, lines, worst_nanousd):
            if worst_nanousd >= book.wanted:  # a larger call may wait for its claim while smaller ones go
                book.wanted = 0
            return None
        reached = self._reached(task, model, worst_nanousd, now)
        if reached is None:
            book.want(worst_nanousd, self._clock(), self._others(book, now))
            for name, ask in self._asks.items():  # a book of another task may hold what is wanted here
                if self.due(name):
                    ask()
            if not self.reserved_nanousd and book.is_starved(self._clock(), self._patience_seconds):
                reached = self._reached(task, model, worst_nanousd, now, besides=book)
        if reached is None:
            return Wait("claim")
        self.reached = reached
        until = self._clock() + max(0.0, reached.ends - self._unix())
        return Wait("spend", until, reached.ceiling.at_ceiling)

    def reserve(self, task: str, model: str, worst_nanousd: int) -> Hold:
        """A call is about to be made."""
        self.reserved_nanousd += worst_nanousd
        if not self.ceilings:
            return Hold(None, (), worst_nanousd)
        book = self._book(task, model)
        book.patience.begin(self._clock())
        # Where claims count, the periods are those that `check` has just looked at: an hour may turn in between.
        return Hold(book, book.current(self._now if self.run else self._periods()), worst_nanousd)

    def settle(self, hold: Hold, worst_nanousd: int, nanousd: int) -> None:
        """A call's cost is known (0: it was not billed)."""
        self.reserved_nanousd -= worst_nanousd
        self.spent_nanousd += nanousd
        hold.end(spent=nanousd)
        if not self.run:  # who shares looks whenever the topic was read
            self._warn()

    def leave_unconfirmed(self, hold: Hold, worst_nanousd: int) -> None:
        """A call's reply was never read: its worst stays held."""
        self.reserved_nanousd -= worst_nanousd
        self.unconfirmed_nanousd += worst_nanousd
        hold.end(unconfirmed=worst_nanousd)
        if not self.run:
            self._warn()

    # --- claims: written with a task's acts ------------------------------------------------------------------------

    def open(self, task: str, ask: Callable[[], None]) -> None:
        """`ask` makes the task's worker write an act soon."""
        self._asks[task] = ask
        self._closing.discard(task)

    def close(self, task: str) -> None:
        """The task asks nothing any more: its last act gives back what it holds."""
        self._closing.add(task)

    def due(self, task: str) -> bool:
        """Whether there is something that no act of results should be waited for."""
        return self.is_shared and any(self._is_due(book) for book in self._of(task))

    def records(self, task: str) -> tuple[NewRecord, ...]:
        """What belongs into the act that is written now: totals that changed, claims that are wanted."""
        if not self.is_shared:
            return ()
        written = [
            self._entry(book) for book in self._of(task) if book.is_changed or book.is_dirty or self._is_due(book)
        ]
        finished, self._finished = self._finished[:MOST_TOMBSTONES], self._finished[MOST_TOMBSTONES:]
        return tuple(entry_record(entry) for entry in (*written, *(Entry(key, 0, 0.0, {}) for key in finished)))

    def written(self, task: str) -> None:
        """The act is in the log."""
        if self.is_shared:
            for book in self._of(task):
                book.is_dirty = False
            self.on_written()

    # --- claims: seen in the state topic -----------------------------------------------------------------------------

    def hear(self, entries: Iterable[Entry]) -> None:
        """Records of the state topic, in their order."""
        for entry in entries:
            if not entry.key.is_of(self.run):
                self.claims.hear(entry)
            elif (book := self._books.get((entry.key.task, entry.key.model))) is not None:
                claims = book.sent.get(entry.number)
                for number in [number for number in book.sent if number < entry.number]:
                    del book.sent[number]
                if claims is not None:
                    book.seen = entry.number

    def caught_up(self) -> None:
        """Everything that the topic held at the last look was heard: what was claimed there may be used now."""
        hour = self._periods().labels[0]
        self.claims.look()
        if hour != self._swept:
            self._swept, self._finished = hour, self.claims.finished()
        for book in self._books.values():
            claims = book.sent.pop(book.seen, None)
            if claims is not None:
                self._use(book, claims)
        for task, ask in self._asks.items():
            if self.due(task):
                ask()
        self._warn()

    def standings(self) -> Iterator[Standing]:
        """Every ceiling in its period of now."""
        now = self._periods()
        for ceiling in self.ceilings:
            label = now.labels[PERIODS.index(ceiling.period)]
            account = (ceiling.scope, ceiling.name, label)
            others, reserve = self.claims.sum(account), self.claims.reserve(account)
            own = list(self._lines(ceiling, label))
            spent = others.spent + sum(line.spent for line in own)
            unconfirmed = others.unconfirmed + sum(line.unconfirmed for line in own)
            claimed = others.claimed + sum(max(line.used, line.claimed) for line in own)
            yield Standing(ceiling, label, spent, unconfirmed, claimed - spent - unconfirmed - reserve, reserve)

    # --- within ----------------------------------------------------------------------------------------------------

    def _book(self, task: str, model: str) -> Book:
        book = self._books.get((task, model))
        if book is None:
            book = self._books[task, model] = Book(Key(task, model, self.run))
            self._covering[task, model] = tuple(c for c in self.ceilings if c.covers(task, model))
        return book

    def _of(self, task: str) -> list[Book]:
        return [book for (name, _), book in self._books.items() if name == task]

    def _periods(self) -> Now:
        unix = self._unix()
        if not self._now.ends[0] - _HOUR <= unix < self._now.ends[0]:
            self._now = periods_at(unix)
        return self._now

    def _reached(self, task: str, model: str, worst: int, now: Now, *, besides: Book | None = None) -> Reached | None:
        """Of the ceilings that are met for good, the one that stays so for longest. `besides` a book, all claims count as spent."""
        found = None
        for ceiling in self._covering[task, model]:
            at = PERIODS.index(ceiling.period)
            label = now.labels[at]
            account: Account = (ceiling.scope, ceiling.name, label)
            if besides is None:
                own = sum(line.spent + line.unconfirmed for line in self._lines(ceiling, label))
                firm = own + self.claims.firm(account)
            else:
                own = sum(max(line.used, line.claimed) for line in self._lines(ceiling, label, besides=besides))
                firm = own + besides.current(now)[at].used + self.claims.sum(account).claimed
            if firm + worst > ceiling.nanousd and (found is None or now.ends[at] > found.ends):
                found = Reached(ceiling, firm, worst, now.ends[at])
        return found

    def _others(self, book: Book, now: Now) -> tuple[tuple[int, ...], ...]:
        """What all but this book have spent and hold under each of its ceilings."""
        found = []
        for ceiling in self._covering[book.key.task, book.key.model]:
            label = now.labels[PERIODS.index(ceiling.period)]
            own = list(self._lines(ceiling, label, besides=book))
            held, spent = sum(max(line.used, line.claimed) for line in own), sum(line.spent for line in own)
            found.append((*self.claims.sum((ceiling.scope, ceiling.name, label)), held, spent))
        return tuple(found)

    def _lines(self, ceiling: Ceiling, label: str, besides: Book | None = None) -> Iterator[Line]:
        """Our own lines that a ceiling adds up."""
        for (task, model), book in self._books.items():
            if book is not besides and ceiling.covers(task, model) and (line := book.lines.get(label)) is not None:
                yield line

    def _room(self, book: Book, line: Line) -> int | None:
        """How much of this period's ceilings all others leave to this book; None where there is no ceiling."""
        least = None
        for ceiling in self._covering[book.key.task, book.key.model]:
            if line.label != self._now.labels[PERIODS.index(ceiling.period)]:
                continue
            account: Account = (ceiling.scope, ceiling.name, line.label)
            own = sum(max(other.used, other.claimed) for other in self._lines(ceiling, line.label, besides=book))
            room = ceiling.nanousd - self.claims.sum(account).claimed - own
            least = room if least is None else min(least, room)
        return least

    def _fits(self, book: Book, lines: tuple[Line, ...], worst: int) -> bool:
        if self.run:
            return all(line.used + worst <= line.usable for line in lines)
        rooms = ((line, self._room(book, line)) for line in lines)
        return all(room is None or line.used + worst <= room for line, room in rooms)

    def _target(self, book: Book, line: Line) -> int:
        """What we should claim of a period: what is used, and room for the calls until the next claim."""
        if book.key.task in self._closing or line.label not in self._now.labels:
            return line.used
        wanted = book.wants(self._clock())
        room = self._room(book, line)
        most = max(line.reserved // 2, wanted)
        if room is None:
            return line.used + int(max(most * book.stretch, 2 * book.last_worst))
        free = room - line.used
        if free <= 0 or wanted > free:  # less than a call is of no use to us: others may have it
            return line.used
        most = max(most, min(int(most * book.stretch), room // STRETCHED_PART))
        if free > room // IDLE_FROM_PART and not self._is_short_beside(book, line.label):
            most = max(most, min(2 * book.last_worst, room // IDLE_PART))
        held = self._most_held(book, line) - line.reserved
        if wanted > held and line.reserved:  # calls in flight come back soon, and cost less than their worst
            return line.used
        fair = min(free // (self.claims.active + 1), held)
        return line.used + min(most, max(fair, wanted))

    def _is_short_beside(self, book: Book, label: str) -> bool:
        """Whether a call of another of our books would fit, were it not for what this one keeps in hand."""
        now = self._clock()
        for other in self._books.values():
            line = other.lines.get(label)
            if other is not book and line is not None and (wanted := other.wants(now)):
                room = self._room(other, line)
                if room is not None and line.used + wanted > room:
                    return True
        return False

    def _most_held(self, book: Book, line: Line) -> int:
        covering = self._covering[book.key.task, book.key.model]
        at = self._now.labels.index(line.label)
        return min(c.nanousd for c in covering if c.period == PERIODS[at]) // HELD_PART

    def _is_due(self, book: Book) -> bool:
        now = self._clock()
        since = now - book.written_at
        if book.key.task in self._closing:
            return any(line.claimed > line.used for line in book.lines.values())
        if book.is_dirty or book.sent:
            return since > UNSENT_SECONDS
        if book.must_lower or (book.is_changed and since > UNSENT_SECONDS):
            return True
        lines = book.current(self._periods())
        wanted = book.wants(now)
        if wanted and now >= book.retry_at and any(line.used + wanted > line.usable for line in lines):
            return all(self._target(book, line) >= line.used + wanted for line in lines)
        if since > LOWER_SECONDS and any(self._holds_too_much(book, line) for line in lines):
            return True
        return since > REFRESH_SECONDS and any(line.claimed > line.spent + line.unconfirmed for line in lines)

    def _holds_too_much(self, book: Book, line: Line) -> bool:
        needed = self._target(book, line)
        return line.claimed - line.used > 2 * (needed - line.used) and line.claimed > needed

    def _entry(self, book: Book) -> Entry:
        """The record of this moment. What is claimed less is not used from now on; what is claimed more, when it is seen."""
        book.forget_finished(self._unix())
        book.renew(self._unix())
        book.current(self._periods())
        book.breathe()
        for line in book.lines.values():
            line.written = self._target(book, line)
            line.usable = min(line.usable, line.written)
        book.number += 1
        totals = book.totals()
        if totals:
            book.told = frozenset(totals)
            book.sent[book.number] = {label: line.written for label, line in book.lines.items()}
        else:  # a tombstone has no number, and claims nothing that we would have to see
            book.sent.clear()
        book.is_changed, book.must_lower, book.is_dirty = False, False, True
        book.written_at = self._clock()
        return Entry(book.key, book.number, self._unix(), totals)

    def _use(self, book: Book, claims: dict[str, int]) -> None:
        for label, claimed in claims.items():
            line = book.lines.get(label)
            if line is None or label not in self._now.labels:  # nothing begins there any more
                continue
            room = self._room(book, line)
            usable = claimed if room is None else min(claimed, room)
            line.usable = max(line.usable, min(usable, line.written))
            if usable < claimed and line.usable < line.written:
                book.must_lower = True
                book.retry_at = self._clock() + random.uniform(*RETRY_SECONDS)

    def _warn(self) -> None:
        if self.ceilings:
            self.warnings.look(self.standings())
