"""The worker's own books: what one task spends with one model in each period, what is in flight, what is claimed for it.

gate → [book] → spend
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from penstock.flow.ceilings import end_of
from penstock.flow.claims import GRACE_SECONDS, Key, Totals
from penstock.flow.reached import Patience

if TYPE_CHECKING:
    from penstock.flow.ceilings import Now

WANTED_SECONDS = 2.0
"""Whoever is held back asks again sooner than that; else nobody wants it any more."""
MOST_STRETCH = 64.0


class Line:
    """One period. `used` never exceeds `usable`, and `usable` never what stands in the log."""

    __slots__ = ("end", "label", "reserved", "spent", "unconfirmed", "usable", "written")

    def __init__(self, label: str) -> None:
        self.label = label
        self.end = end_of(label)
        self.spent = 0
        self.reserved = 0
        """The worst of calls in flight that began in this period."""
        self.unconfirmed = 0
        self.usable = 0
        """What of our claim is sure to fit under every ceiling."""
        self.written = 0
        """What we have claimed last, seen in the log or not."""

    @property
    def used(self) -> int:
        """All that this worker may have to pay for as things stand."""
        return self.spent + self.reserved + self.unconfirmed

    @property
    def claimed(self) -> int:
        """What others have to count on."""
        return max(self.usable, self.written)


class Book:
    """One task with one model."""

    __slots__ = (
        "_current",
        "_labels",
        "is_changed",
        "is_dirty",
        "key",
        "last_worst",
        "lines",
        "must_lower",
        "number",
        "patience",
        "renewals",
        "retry_at",
        "seen",
        "sent",
        "stretch",
        "told",
        "wanted",
        "wanted_at",
        "was_denied",
        "written_at",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.lines: dict[str, Line] = {}
        self._labels: tuple[str, str, str] | None = None
        self._current: tuple[Line, ...] = ()
        self.number = 0
        self.renewals = 0
        self.told: frozenset[str] = frozenset()
        """The periods of the last record that held any."""
        self.sent: dict[int, dict[str, int]] = {}
        """Claims that were written and not yet seen in the log, by number."""
        self.seen = 0
        """The latest of our own records that was read back."""
        self.wanted = 0
        """The worst of a call that found no room in the claim."""
        self.wanted_at = 0.0
        self.patience = Patience()
        self.was_denied = False
        self.last_worst = 0
        self.stretch = 1.0
        self.is_changed = False
        """Something was spent since the last record."""
        self.is_dirty = False
        """A record was made and is not known to be in the log."""
        self.must_lower = False
        """It stands in the log with more than it needs, or may have."""
        self.retry_at = 0.0
        self.written_at = 0.0

    def current(self, now: Now) -> tuple[Line, ...]:
        """The lines of hour, day and month."""
        if self._labels != now.labels:
            self._labels = now.labels
            self._current = tuple(self.lines.setdefault(label, Line(label)) for label in now.labels)
        return self._current

    def want(self, worst: int, at: float, others: Hashable) -> None:
        """A call is held back because no claim has room for it, beside what others spent and hold."""
        if not self.wants(at):
            self.patience.begin(at)
        self.patience.look(others, at)
        self.wanted, self.wanted_at, self.was_denied = worst, at, True

    def wants(self, now: float) -> int:
        """What is held back still."""
        return self.wanted if now - self.wanted_at < WANTED_SECONDS else 0

    def is_starved(self, now: float, patience_seconds: float) -> bool:
        """Whether it has been held back, and nothing has moved, for so long that what others hold can't be waited for."""
        return bool(self.wants(now)) and now - self.patience.since > patience_seconds

    def forget_finished(self, unix: float) -> None:
        """Periods that are long over, and of which nothing is in flight."""
        for label in [
            label
            for label, line in self.lines.items()
            if line.end + GRACE_SECONDS <= unix and not line.reserved and label not in (self._labels or ())
        ]:
            del self.lines[label]

    def breathe(self) -> None:
        """Room is made for more calls at a time where claims could not follow, and given back when they can."""
        is_short = self.was_denied and self.number > 0
        self.stretch = min(self.stretch * 2.0, MOST_STRETCH) if is_short else max(self.stretch * 0.9, 1.0)
        self.was_denied = False

    def renew(self, unix: float) -> None:
        """Others take away records whose every period is over, at any time: so such a one is never written again."""
        if self.told and all(end_of(label) <= unix for label in self.told):
            self.renewals += 1
            self.told = frozenset()
            self.key = self.key._replace(run=f"{self.key.run.partition('.')[0]}.{self.renewals}")

    def totals(self) -> dict[str, Totals]:
        """As they are written."""
        return {
            label: Totals(line.written, line.spent, line.unconfirmed)
            for label, line in self.lines.items()
            if line.written or line.spent or line.unconfirmed
        }


class Hold:
    """The worst of one call, reserved in the periods in which it began. It is ended once, by what the call cost."""

    __slots__ = ("_book", "_lines", "_worst")

    def __init__(self, book: Book | None, lines: tuple[Line, ...], worst: int) -> None:
        self._book, self._lines, self._worst = book, lines, worst
        for line in lines:
            line.reserved += worst

    def end(self, *, spent: int = 0, unconfirmed: int = 0) -> None:
        """What is known of its cost: its bill, or that nobody read one."""
        for line in self._lines:
            line.reserved -= self._worst
            line.spent += spent
            line.unconfirmed += unconfirmed
        if self._book is not None:
            self._book.is_changed = True
