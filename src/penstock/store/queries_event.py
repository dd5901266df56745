"""What is known of one event, and one dead letter whole.

reading → [queries_event] → tables
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select

from penstock.store.tables import costs, dead_letters, decisions, erasures, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

SCOPES = ("subject", "key")
MOST_LETTERS = 50
MOST_DECISIONS = 50
MOST_BYTES = 256 * 1024
"""Of an event's value: what is longer is not fetched whole."""


@dataclass(slots=True)
class Known:
    """One event as its tasks ended it."""

    verdicts: list[Mapping[str, Any]] = field(default_factory=list)
    letters: list[Mapping[str, Any]] = field(default_factory=list)
    """Newest first; of their bytes no more than `MOST_BYTES`."""
    superseded: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is left of provisional verdicts: their costs, by id."""
    decisions: list[Mapping[str, Any]] = field(default_factory=list)
    erased: list[Mapping[str, Any]] = field(default_factory=list)
    """Deletions that cover it, or, where nothing of it is left, that name it."""

    @property
    def is_empty(self) -> bool:
        """Nothing of it is left."""
        return not self.verdicts and not self.letters

    @property
    def source(self) -> tuple[str, int, int] | None:
        """Where it stands in the log."""
        for row in (*self.verdicts, *self.letters):
            return row["source_topic"], row["source_partition"], row["source_offset"]
        return None


def event(connection: Connection, event_id: str, tasks: Sequence[str]) -> Known:
    """By its id, of all these tasks."""
    found = Known()
    v = verdicts.c
    asked = select(verdicts).where(v.task.in_(tasks), v.event_id == event_id).order_by(v.task)
    found.verdicts = [dict(row) for row in connection.execute(asked).mappings()]
    found.letters = _letters(connection, event_id, tasks)
    superseded = [row["supersedes"] for row in found.verdicts if row["supersedes"]]
    if superseded:
        rows = connection.execute(select(costs).where(costs.c.result_id.in_(superseded))).mappings()
        found.superseded = {row["result_id"]: dict(row) for row in rows}
    d = decisions.c
    said = select(decisions).where(d.task.in_(tasks), d.event_id == event_id).order_by(d.decided_at.desc())
    found.decisions = [dict(row) for row in connection.execute(said.limit(MOST_DECISIONS)).mappings()]
    found.erased = _erasures(connection, event_id, tasks, found)
    return found


def letter(connection: Connection, letter_id: str) -> Mapping[str, Any] | None:
    """One dead letter; of its bytes no more than `MOST_BYTES`."""
    row = connection.execute(_letter().where(dead_letters.c.id == letter_id)).mappings().first()
    return None if row is None else dict(row)


def erasures_of(connection: Connection, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Deletions, by any task, of what a verdict or letter was made of: its text must not be shown any more."""
    e = erasures.c
    names = [name for name in (_bytes(row["subject"]), row["key"]) if name is not None]
    at = and_(
        e.source_topic == row["source_topic"],
        e.source_partition == row["source_partition"],
        e.source_offset > row["source_offset"],
    )
    found = connection.execute(
        select(erasures).where(e.task.in_(_tasks(connection)), e.scope.in_(SCOPES), e.name.in_(names), at)
    ).mappings()
    return [dict(one) for one in found]


def _tasks(connection: Connection) -> list[str]:
    """Those that erased something: a step each through the primary key."""
    found: list[str] = []
    asked = select(func.min(erasures.c.task))
    task = connection.execute(asked).scalar()
    while task is not None:
        found.append(task)
        task = connection.execute(asked.where(erasures.c.task > task)).scalar()
    return found


def _erasures(connection: Connection, event_id: str, tasks: Sequence[str], known: Known) -> list[Mapping[str, Any]]:
    if not known.is_empty:
        found = {
            tuple(map(str, one.values())): one
            for row in (*known.verdicts, *known.letters)
            for one in erasures_of(connection, row)
        }
        return list(found.values())
    e = erasures.c
    asked = select(erasures).where(e.task.in_(tasks), e.scope.in_(SCOPES), e.name == _bytes(event_id))
    return [dict(row) for row in connection.execute(asked).mappings()]


def _letters(connection: Connection, event_id: str, tasks: Sequence[str]) -> list[Mapping[str, Any]]:
    c = dead_letters.c
    asked = _letter().where(c.task.in_(tasks), c.event_id == event_id).order_by(c.committed_at.desc())
    return [dict(row) for row in connection.execute(asked.limit(MOST_LETTERS)).mappings()]


def _letter() -> Any:
    c = dead_letters.c
    columns = [column for column in dead_letters.columns if column.name != "value"]
    return select(*columns, func.substr(c.value, 1, MOST_BYTES).label("value"), func.length(c.value).label("bytes"))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
