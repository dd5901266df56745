"""The filters of a list as its address has them: every view can be linked to, and what is no filter is said to be none.

URL → [filters] → store/queries
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from penstock.outcome import CONFIDENCES
from penstock.store.places import Cursor
from penstock.store.queries import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.store.places import Kind
    from penstock.store.queries import FieldIs
    from penstock.web.pages.fields import Choice

KINDS: dict[str, tuple[Kind | None, str]] = {
    "": (None, "everything"),
    "verdict": ("verdict", "verdicts"),
    "review": ("verdict", "for a person to see"),
    "letter": ("letter", "dead letters"),
}
RANGES = {"15m": "last 15 minutes", "1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days"}
_RANGE = re.compile(r"(\d{1,4})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
MOST_WORDS = 200
FIELD = "f."
PLAIN = ("task", "kind", "confidence", "stage", "reason", "range", "since", "until")


@dataclass(slots=True)
class Filters:
    """What a person chose. `wrong` says what of it means nothing."""

    task: str = ""
    kind: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    confidence: str = ""
    stage: str = ""
    reason: str = ""
    range: str = ""
    since: str = ""
    until: str = ""
    words: str = ""
    cursor: str = ""
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filters:
        """Of the address."""
        made = cls()
        for name in PLAIN:
            setattr(made, name, query.get(name, "").strip().replace("\0", ""))
        made.words = query.get("q", "").strip()[:MOST_WORDS].replace("\0", "")
        made.cursor = query.get("before", "")
        made.fields = {
            name.removeprefix(FIELD): value.replace("\0", "")
            for name, value in query.items()
            if name.startswith(FIELD) and value
        }
        return made

    def url(self, page: str, **changed: str) -> str:
        """The same with some of it changed; empty values are left out."""
        return f"{page}?{urlencode(found, errors='replace')}" if (found := self._query(changed)) else page

    def pairs(self) -> list[tuple[str, str]]:
        """Without the place in the list."""
        return list(self._query({}).items())

    @property
    def is_any(self) -> bool:
        """Whether anything is left out by them."""
        return bool(self._query({}))

    def wanted(self, known: Mapping[str, Sequence[Choice]], now: datetime) -> Wanted:
        """For the database; what means nothing is noted in `wrong`."""
        self.wrong = []
        kind = KINDS.get(self.kind)
        if kind is None:
            self.wrong.append(f"kind={self.kind}: there are {', '.join(filter(None, KINDS))}")
        if self.confidence and self.confidence not in CONFIDENCES:
            self.wrong.append(f"confidence={self.confidence}: there are {', '.join(CONFIDENCES)}")
        since, until = self._times(now)
        return Wanted(
            tasks=(self.task,) if self.task else (),
            kind=kind[0] if kind else None,
            fields=self._fields(known),
            confidence=self.confidence if self.confidence in CONFIDENCES else "",
            stage=self.stage,
            reason=self.reason,
            since=since,
            until=until,
            words=self.words,
            needs_review=self.kind == "review",
        )

    def before(self) -> Cursor | None:
        """Where the page begins; None: at the newest."""
        if not self.cursor:
            return None
        try:
            return Cursor.of(self.cursor)
        except ValueError:
            self.wrong.append("before=…: no place in this list; these are the newest")
            self.cursor = ""
            return None

    def _fields(self, known: Mapping[str, Sequence[Choice]]) -> tuple[FieldIs, ...]:
        if not self.fields:
            return ()
        if not self.task and len(known) == 1:
            self.task = next(iter(known))
        found = {one.name: one for one in known.get(self.task, ())}
        for name in self.fields:
            if name not in found:
                told = (
                    f"task {self.task} has no such field with closed values" if self.task else "choose its task first"
                )
                self.wrong.append(f"{FIELD}{name}: {told}")
        return tuple(found[name].holds(value) for name, value in self.fields.items() if name in found)

    def _times(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        since, until = self._moment("since"), self._moment("until")
        if self.range:
            found = _RANGE.fullmatch(self.range)
            if found is None:
                self.wrong.append(f"range={self.range}: write a number of m, h or d, as 90m")
            else:
                since = now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        return since, until

    def _moment(self, name: str) -> datetime | None:
        given = getattr(self, name)
        if not given:
            return None
        try:
            found = datetime.fromisoformat(given)
            return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
        except (ValueError, OverflowError):
            self.wrong.append(f"{name}={given}: write a time, as 2026-11-28T14:00 (UTC)")
            return None

    def _query(self, changed: Mapping[str, str]) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in PLAIN}
        found |= {FIELD + name: value for name, value in self.fields.items()}
        found |= {"q": self.words, **changed}
        return {name: value for name, value in found.items() if value}
