"""What the console's lists show: verdicts and dead letters, newest first, a page at a time.

reading → [queries] → tables

A page goes on where the last one ended (its last row is the cursor), so that nothing is shown twice or passed over while new
rows come. What no index can find (a field of the output, words) is looked for among a bounded number of rows, newest first; the
page says how far it looked and goes on from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import Text, and_, cast, func, literal, literal_column, or_, select, tuple_

from penstock.store.places import RANKS, Cursor, Kind
from penstock.store.tables import dead_letters, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Select

WINDOW = 20_000
"""Rows that one page looks through for what no index finds."""
DETAIL = 300
FOR_REVIEW: Any = literal_column("verdicts.needs_review")
"""As it stands in the partial index: neither database takes another wording for the same."""


class FieldIs(NamedTuple):
    """A field of the output has this value, or holds it among others."""

    name: str
    value: str
    kind: Literal["text", "bool", "number", "list"] = "text"
    is_label: bool = False
    """It is the task's verdict in a word, which has a column of its own."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows."""

    tasks: Sequence[str] = ()
    """One of these; every task where there is none."""
    kind: Kind | None = None
    fields: Sequence[FieldIs] = ()
    confidence: str = ""
    stage: str = ""
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None
    words: str = ""
    needs_review: bool = False

    @property
    def kinds(self) -> list[Kind]:
        """Tables that can have such a row."""
        only_verdicts = bool(self.fields or self.confidence or self.needs_review)
        only_letters = bool(self.stage or self.reason)
        return [
            kind
            for kind in RANKS
            if self.kind in {None, kind}
            and not (only_verdicts and kind == "letter")
            and not (only_letters and kind == "verdict")
        ]


@dataclass(frozen=True, slots=True)
class Row:
    """A verdict or a dead letter, as lists show it."""

    kind: Kind
    at: datetime
    task: str
    event_id: str
    id: str
    subject: str
    label: str | None = None
    confidence: str = ""
    provisional: bool = False
    simulated: bool = False
    needs_review: bool = False
    generation: int = 0
    output: Mapping[str, Any] = field(default_factory=dict)
    tier: str = ""
    model: str = ""
    stage: str = ""
    reason: str = ""
    detail: str = ""
    nanousd: int = 0

    @property
    def cursor(self) -> Cursor:
        """Its place."""
        return Cursor(self.at, self.kind, self.task, self.event_id if self.kind == "verdict" else self.id)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, newest first."""

    rows: list[Row]
    older: Cursor | None = None
    """Where the next page begins; None at the end."""
    looked_back_to: datetime | None = None
    """The search stopped there; what is older was not looked at yet."""


def rows(connection: Connection, wanted: Wanted, count: int, before: Cursor | None = None) -> Page:
    """The newest `count` behind the cursor."""
    found: list[Row] = []
    ends: list[Cursor] = []
    for kind in wanted.kinds:
        some, end = _of_kind(connection, kind, wanted, count + 1, before=before)
        found += some
        if end is not None:
            ends.append(end)
    found.sort(key=_order, reverse=True)
    if ends:  # what is older than the shortest look is not complete
        end = max(ends, key=lambda one: one.order)
        found = [row for row in found if _order(row) >= end.order]
        if len(found) <= count:
            return Page(found, end, end.at)
    more = len(found) > count
    found = found[:count]
    return Page(found, found[-1].cursor if more else None)


def newer(connection: Connection, wanted: Wanted, after: Cursor, count: int) -> list[Row]:
    """The newest `count` in front of the cursor."""
    found: list[Row] = []
    for kind in wanted.kinds:
        found += _of_kind(connection, kind, wanted, count, after=after)[0]
    return sorted(found, key=_order, reverse=True)[:count]


def named(
    connection: Connection, name: str, wanted: Wanted, tasks: Sequence[str], count: int, before: Cursor | None = None
) -> Page:
    """The newest `count` behind the cursor that have this id or subject, by the indexes; the other filters count too."""
    found: list[Row] = []
    for kind in wanted.kinds:
        c = _table(kind).c
        key = _key(c, kind, connection)
        also = (*_indexed(kind, wanted), *_looked(kind, wanted, connection, words=False))
        by_id = and_(c.task.in_(wanted.tasks or tasks), c.event_id == name)
        for which in (by_id, and_(c.subject == name, c.event_id != name)):
            asked = _columns(kind).where(which, *also, *_beside(kind, key, before, None))
            newest = asked.order_by(*(column.desc() for column in key)).limit(count + 1)
            found += [_row(kind, one) for one in connection.execute(newest).mappings()]
    found.sort(key=_order, reverse=True)
    return Page(found[:count], found[count - 1].cursor if len(found) > count else None)


def _of_kind(
    connection: Connection,
    kind: Kind,
    wanted: Wanted,
    count: int,
    *,
    before: Cursor | None = None,
    after: Cursor | None = None,
) -> tuple[list[Row], Cursor | None]:
    """Rows of one table, and how far was looked where that was not to the end."""
    key = _key(_table(kind).c, kind, connection)
    which = [*_indexed(kind, wanted), *_beside(kind, key, before, after)]
    order = [column.desc() for column in key]
    filters = _looked(kind, wanted, connection)
    if not filters:
        asked: Any = _columns(kind).where(*which).order_by(*order).limit(count)
        return [_row(kind, one) for one in connection.execute(asked).mappings()], None
    some = _columns(kind, everything=True).where(*which).order_by(*order).limit(WINDOW).subquery("some")
    inner = _looked(kind, wanted, connection, some.c)
    names = [some.c[column.name] for column in _columns(kind).selected_columns]
    by = [column.desc() for column in _key(some.c, kind, connection)]
    asked = select(*names).where(*inner).order_by(*by).limit(count)
    found = [_row(kind, one) for one in connection.execute(asked).mappings()]
    if len(found) >= count:
        return found, None
    last = connection.execute(select(*key).where(*which).order_by(*order).offset(WINDOW - 1).limit(1)).first()
    return found, None if last is None else Cursor(last[0], kind, last[1], last[2])


def _key(c: Any, kind: Kind, connection: Connection) -> tuple[Any, ...]:
    """What orders the rows: names by their bytes, as Python does, whatever language the database sorts in."""
    name = c.event_id if kind == "verdict" else c.id
    if connection.dialect.name == "postgresql":
        return c.committed_at, c.task.collate("C"), name.collate("C")
    return c.committed_at, c.task, name


def _beside(kind: Kind, key: tuple[Any, ...], before: Cursor | None, after: Cursor | None) -> list[Any]:
    """Behind one place and in front of the other."""
    found: list[Any] = []
    at = key[0]
    for cursor, is_before in ((before, True), (after, False)):
        if cursor is None:
            continue
        values = tuple_(
            *(literal(value, column.type) for value, column in zip((cursor.at, *cursor[2:]), key, strict=True))
        )
        if RANKS[cursor.kind] == RANKS[kind]:
            found += [at <= cursor.at, tuple_(*key) < values] if is_before else [at >= cursor.at, tuple_(*key) > values]
        elif (RANKS[kind] < RANKS[cursor.kind]) is is_before:
            found.append(at <= cursor.at if is_before else at >= cursor.at)
        else:
            found.append(at < cursor.at if is_before else at > cursor.at)
    return found


def _indexed(kind: Kind, wanted: Wanted) -> list[Any]:
    """What the indexes find."""
    c = _table(kind).c
    found: list[Any] = []
    if wanted.tasks:
        found.append(c.task == wanted.tasks[0] if len(wanted.tasks) == 1 else c.task.in_(wanted.tasks))
    if wanted.since is not None:
        found.append(c.committed_at >= wanted.since)
    if wanted.until is not None:
        found.append(c.committed_at < wanted.until)
    if kind == "verdict":
        found += [c.label == one.value for one in wanted.fields if one.is_label and len(wanted.tasks) == 1]
        if wanted.needs_review and len(wanted.tasks) == 1:
            found.append(FOR_REVIEW)
    elif wanted.stage and wanted.reason and len(wanted.tasks) == 1:
        found += [c.stage == wanted.stage, c.reason == wanted.reason]
    return found


def _looked(
    kind: Kind, wanted: Wanted, connection: Connection, columns: Any = None, *, words: bool = True
) -> list[Any]:
    """What must be looked for in the rows themselves."""
    c = _table(kind).c if columns is None else columns
    is_postgres = connection.dialect.name == "postgresql"
    found: list[Any] = []
    if kind == "verdict":
        found += [
            _holds(c, one, is_postgres=is_postgres)
            for one in wanted.fields
            if not (one.is_label and len(wanted.tasks) == 1)
        ]
        if wanted.confidence:
            found.append(c.confidence == wanted.confidence)
        if wanted.needs_review and len(wanted.tasks) != 1:
            found.append(c.needs_review.is_(True))
    elif not (wanted.stage and wanted.reason and len(wanted.tasks) == 1):
        found += [c[name] == value for name, value in (("stage", wanted.stage), ("reason", wanted.reason)) if value]
    if wanted.words and words:
        found.append(_says(kind, c, wanted.words, is_postgres=is_postgres))
    return found


def _holds(c: Any, one: FieldIs, *, is_postgres: bool) -> Any:
    if one.kind == "list":
        if is_postgres:
            return c.output.op("@>", is_comparison=True)(
                cast(literal({one.name: [one.value]}, c.output.type), c.output.type)
            )
        each = func.json_each(c.output, f'$."{one.name}"').table_valued("value")
        return select(each.c.value).where(each.c.value == one.value).exists()
    if is_postgres:
        return func.jsonb_extract_path_text(c.output, one.name) == one.value
    found = func.json_extract(c.output, f'$."{one.name}"')
    if one.kind == "bool":
        return found == (1 if one.value == "true" else 0)
    return cast(found, Text) == one.value


def _says(kind: Kind, c: Any, words: str, *, is_postgres: bool) -> Any:
    """Ids, subject, the output's texts; of a dead letter the detail and the event's own bytes."""
    plain = _like(words)
    found = [c.event_id.ilike(plain, escape="\\"), c.subject.ilike(plain, escape="\\")]
    if kind == "verdict":
        found.append(cast(c.output, Text).ilike(_like(json.dumps(words, ensure_ascii=False)[1:-1]), escape="\\"))
    else:
        sought = literal(words.encode("utf-8", "replace"), c.value.type)
        at = func.position(sought.op("IN")(c.value)) if is_postgres else func.instr(c.value, sought)
        found += [c.detail.ilike(plain, escape="\\"), at > 0]
    return or_(*found)


def _like(words: str) -> str:
    return "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _table(kind: Kind) -> Any:
    return verdicts if kind == "verdict" else dead_letters


_VERDICT = [
    "committed_at",
    "task",
    "event_id",
    "result_id",
    "subject",
    "label",
    "confidence",
    "provisional",
    "simulated",
    "needs_review",
    "generation",
    "output",
    "tier",
    "model",
    "nanousd",
]
_LETTER = ["committed_at", "task", "event_id", "id", "subject", "stage", "reason", "nanousd"]


def _columns(kind: Kind, *, everything: bool = False) -> Select[Any]:
    if kind == "verdict":
        return select(*(verdicts.c[name] for name in _VERDICT))
    c = dead_letters.c
    detail = c.detail if everything else func.substr(c.detail, 1, DETAIL).label("detail")
    return select(*(c[name] for name in _LETTER), detail, *([c.value] if everything else []))


def _row(kind: Kind, found: Any) -> Row:
    given = dict(found)
    given["at"] = given.pop("committed_at")
    given["id"] = given.pop("result_id", None) or given.get("id", "")
    if kind == "verdict" and not isinstance(given["output"], dict):
        given["output"] = {}
    return Row(kind, **given)


def _order(row: Row) -> tuple[Any, ...]:
    return row.cursor.order
