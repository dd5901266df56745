"""How events ended, as the ledger keeps it: results, dead letters, and what an erasure leaves of them.

tail → [ledger endings] → ledger
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from penstock.erasure import Erasure
from penstock.record import Position
from penstock.web.events import Ending, Kind

PRUNE_ROWS = 50_000


class Ended(NamedTuple):
    """One task ended one event."""

    task: str
    source: Position
    event_id: str
    subject: str
    record_key: str | None
    kind: Kind
    at_ms: int
    content: Mapping[str, Any]


class ErasedBy(NamedTuple):
    """An erasure, and when it was committed."""

    erasure: Erasure
    at_ms: int


Found = Ended | ErasedBy


def keep(db: sqlite3.Connection, found: Sequence[Found], positions: Mapping[tuple[str, int], int]) -> None:
    """In their order: an erasure takes what stands before it."""
    waiting: list[Ended] = []
    for one in found:
        if isinstance(one, Ended):
            waiting.append(one)
            continue
        _insert(db, waiting)
        waiting = []
        _erase(db, one)
    _insert(db, waiting)
    moves = [(topic, partition, offset) for (topic, partition), offset in positions.items()]
    db.executemany("INSERT OR REPLACE INTO tails VALUES (?, ?, ?)", moves)


def of_event(db: sqlite3.Connection, topic: str, event_id: str) -> list[Ending] | None:
    """The newest ending of each task. An event is known by its id, or by where the gateway wrote it."""
    is_known = db.execute(
        "SELECT 1 FROM claims WHERE topic = ? AND event_id = ? AND partition IS NOT NULL LIMIT 1", (topic, event_id)
    ).fetchone()
    rows = db.execute(_OF_EVENT, {"topic": topic, "event": event_id}).fetchall()
    if not rows and is_known is None:
        return None
    newest = {task: Ending(task, kind, at_ms, orjson.loads(content)) for task, kind, at_ms, content in rows}
    return [newest[task] for task in sorted(newest)]


def prune(db: sqlite3.Connection, old_ms: int, max_endings: int) -> None:
    """Forget what is older than a day, and the oldest endings where there are too many."""
    db.execute(
        "DELETE FROM claims WHERE claim IN (SELECT claim FROM claims WHERE made_ms < ? LIMIT ?)", (old_ms, PRUNE_ROWS)
    )
    oldest = "number IN (SELECT number FROM endings ORDER BY number LIMIT ?)"
    db.execute(f"DELETE FROM endings WHERE at_ms < ? AND {oldest}", (old_ms, PRUNE_ROWS))  # noqa: S608
    db.execute("DELETE FROM endings WHERE number <= (SELECT max(number) FROM endings) - ?", (max_endings,))


def _insert(db: sqlite3.Connection, found: Sequence[Ended]) -> None:
    if not found:
        return
    rows = [
        [e.task, *e.source, e.event_id, e.subject, e.record_key, e.kind, e.at_ms, orjson.dumps(e.content).decode()]
        for e in found
    ]
    db.execute(_INSERT, {"rows": orjson.dumps(rows).decode()})


def _erase(db: sqlite3.Connection, erased: ErasedBy) -> None:
    erasure, at_ms = erased
    source = erasure.source
    key = None if erasure.key is None else erasure.key.decode("utf-8", "replace")
    own = Ended(erasure.task, source, erasure.event_id, erasure.subject or "", key, "erased", at_ms, {})
    _insert(db, [own])
    given = {"task": erasure.task, "topic": source.topic, "partition": source.partition, "before": source.offset}
    if erasure.subject is not None:
        column, given["name"] = "subject", erasure.subject
    elif key is not None:
        column, given["name"] = "record_key", key
    else:
        return
    given["at"] = at_ms
    db.execute(_ERASE_ENDINGS.format(column=column), given)
    db.execute(_ERASE_CLAIMS.format(column=column), given)


_OF_EVENT = """
SELECT task, kind, at_ms, content FROM (
  SELECT number, task, kind, at_ms, content FROM endings WHERE topic = :topic AND event_id = :event
  UNION
  SELECT e.number, e.task, e.kind, e.at_ms, e.content FROM claims c
  JOIN endings e ON e.topic = c.topic AND e.partition = c.partition AND e."offset" = c."offset"
  WHERE c.topic = :topic AND c.event_id = :event
) ORDER BY at_ms, number
"""
_INSERT = """
INSERT INTO endings (task, topic, partition, "offset", event_id, subject, record_key, kind, at_ms, content)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
  json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), json_extract(value, '$[7]'),
  json_extract(value, '$[8]'), json_extract(value, '$[9]')
FROM json_each(:rows) WHERE true
ON CONFLICT (task, topic, partition, "offset") DO UPDATE SET
  kind = excluded.kind, at_ms = excluded.at_ms, content = excluded.content
WHERE excluded.at_ms >= endings.at_ms
"""
_ERASE_ENDINGS = """
UPDATE endings SET kind = 'erased', content = '{{}}', at_ms = :at
WHERE topic = :topic AND {column} = :name AND task = :task AND partition = :partition AND "offset" < :before
"""
_ERASE_CLAIMS = """
INSERT OR IGNORE INTO endings (task, topic, partition, "offset", event_id, subject, record_key, kind, at_ms, content)
SELECT :task, topic, partition, "offset", event_id, subject, record_key, 'erased', :at, '{{}}' FROM claims
WHERE topic = :topic AND {column} = :name AND partition = :partition AND "offset" < :before
"""
