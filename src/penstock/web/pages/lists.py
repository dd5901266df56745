"""The list of what was decided and what died, newest first, and what is new in it.

filters → [lists] → events.html, rows.html
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from penstock.outcome import CONFIDENCES
from penstock.store import queries
from penstock.store.places import Cursor
from penstock.store.queries_counts import kinds, tasks
from penstock.web.pages.filters import KINDS, RANGES, Filters
from penstock.web.pages.text import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from penstock.store.queries import Page, Row
    from penstock.web.pages.database import Database
    from penstock.web.pages.fields import Choice

PAGE = "/console/events"
MOST_NEW = 200
MOST_LATE = 100
LATE_SECONDS = 30.0
"""A row may reach the database so much later than one that was committed after it."""
SUMMARY_CHARS = 160


@dataclass(frozen=True, slots=True)
class Line:
    """A row, with what is said of it in short."""

    row: Row
    order: Sequence[str]
    """The values of its label, as the task declares them."""
    summary: list[tuple[str, str]]


class Lists:
    """Makes pages of rows."""

    def __init__(self, database: Database, choices: Mapping[str, Sequence[Choice]], rows: int) -> None:
        self._database, self._choices, self._rows = database, choices, rows

    async def given(self, filters: Filters) -> dict[str, Any]:
        """What the template of the list is given."""
        wanted = filters.wanted(self._choices, datetime.now(UTC))
        before = filters.before()

        def question(connection: Connection) -> tuple[Page, bool, list[str]]:
            known = sorted({*self._choices, *tasks(connection)})
            if wanted.words:
                found = queries.named(connection, wanted.words, wanted, known, self._rows, before)
                if found.rows:
                    return found, True, known
            return queries.rows(connection, wanted, self._rows, before), False, known

        page, is_named, known = await self._database.ask(question)
        newest = page.rows[0].cursor.text() if page.rows else ""
        last = {"down_to": page.rows[-1].cursor.text()} if page.older and page.rows else {}
        return {
            "filters": filters,
            "lines": [self.line(row) for row in page.rows],
            "is_named": is_named,
            "is_live": before is None and not is_named,
            "newest": newest,
            "new": filters.url(f"{PAGE}/new", **last),
            "older": filters.url(PAGE, before=page.older.text()) if page.older else "",
            "looked_back_to": page.looked_back_to,
            "window": queries.WINDOW,
            "tasks": known,
            "choices": self._choices.get(filters.task, ())
            if filters.task or len(self._choices) != 1
            else next(iter(self._choices.values())),
            "kinds": KINDS,
            "ranges": RANGES,
            "confidences": CONFIDENCES,
            "page": PAGE,
        }

    async def fresh(self, filters: Filters, after: str, down_to: str = "") -> dict[str, Any]:
        """Rows in front of a place, all the newest where that is none; and those shortly behind it, down to the end of the
        reader's page: other partitions' rows come late. The reader knows which of them it has."""
        wanted = filters.wanted(self._choices, datetime.now(UTC))
        cursor = Cursor.of(after) if after else None
        end = Cursor.of(down_to) if down_to else None

        def question(connection: Connection) -> list[Row]:
            if cursor is None:
                return queries.rows(connection, wanted, self._rows).rows
            return queries.newer(connection, wanted, cursor.earlier(LATE_SECONDS), MOST_NEW + MOST_LATE)

        found = [row for row in await self._database.ask(question) if end is None or row.cursor.order > end.order]
        is_more = cursor is not None and sum(row.cursor.order > cursor.order for row in found) > MOST_NEW
        places = [*([cursor] if cursor else []), *(row.cursor for row in found[:1])]
        newest = max(places, key=lambda place: place.order).text() if places else ""
        return {"lines": [self.line(row) for row in found], "newest": newest, "is_more": is_more}

    async def letters(self) -> dict[str, Any]:
        """Dead letters by kind."""

        def question(connection: Connection) -> Any:
            now = datetime.now(UTC)
            return now, kinds(connection, sorted({*self._choices, *tasks(connection)}), now)

        now, found = await self._database.ask(question)
        return {"kinds": found, "now": now, "page": PAGE, "filters": Filters()}

    def line(self, row: Row) -> Line:
        """With its label's order, and the rest of the output in a few words."""
        choices = self._choices.get(row.task, ())
        order = next((one.values for one in choices if one.is_label), ())
        label = next((one.name for one in choices if one.is_label), "")
        if row.kind == "letter":
            return Line(row, order, [("", row.detail)])
        said = [
            (name, _short(value)) for name, value in row.output.items() if name != label and value not in ("", [], None)
        ]
        return Line(row, order, said)


def _short(value: Any, depth: int = 4) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict) and not depth:
        return "…"
    if isinstance(value, list):
        return ", ".join(_short(one, depth - 1) for one in value[:8])
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner, depth - 1)}" for name, inner in list(value.items())[:8])
    return UNKNOWN if value is None else str(value)
