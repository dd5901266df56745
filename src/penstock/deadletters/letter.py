"""What could not be answered: the event byte for byte, and headers that say where, why, how often and at what cost.

cascade → [letter] → checkpoint → log → redrive
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.outcome import Charge, Failure
from penstock.record import Headers, NewRecord, Position, Record, header_text, record_size

if TYPE_CHECKING:
    from penstock.task import Task
    from penstock.tier import Item

PREFIX = "penstock.errors."
MAX_DETAIL = 500
"""Characters of the detail; it never holds text of the event."""
MAX_POINTER_KEY_BYTES = 1_024
"""A longer key stands in a pointer as its hash."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as read."""

    id: str
    task: str
    event_id: str
    subject: str
    """What the event is about; where that could not be read, its id."""
    source: Position
    stage: str
    reason: str
    detail: str
    attempts: int
    nanousd: int
    calls: list[tuple[str, int]]
    """Request id and share in nanodollars of every call that the event was part of."""
    first_ms: int
    last_ms: int
    is_pointer: bool
    record: Record


def bury(
    task: Task[Any, Any], item: Item, failure: Failure, now_ms: int, *, letter_id: str, max_bytes: int
) -> NewRecord:
    """The dead letter of an item. Where the event does not fit into a record, a pointer to it with its hash."""
    record = item.record
    added = (
        ("id", letter_id),
        ("task", task.name),
        ("event-id", item.event_id),
        ("subject", item.subject or item.event_id),
        ("topic", record.topic),
        ("partition", str(record.partition)),
        ("offset", str(record.offset)),
        ("timestamp", str(record.timestamp_ms)),
        ("group", task.group),
        (
            "stage",
            "intake" if failure.reason in ("undecodable", "too_large", "expired") and not item.attempts else "answer",
        ),
        ("reason", failure.reason),
        ("message", failure.detail[:MAX_DETAIL]),
        ("attempts", str(item.attempts)),
        ("nanousd", str(sum(charge.nanousd for charge in item.charges))),
        ("calls", json.dumps([[charge.call_id, charge.nanousd] for charge in item.charges], separators=(",", ":"))),
        ("first-at", str(item.taken_ms)),
        ("last-at", str(now_ms)),
    )
    headers = record.headers + tuple((PREFIX + name, text.encode("utf-8", "backslashreplace")) for name, text in added)
    if record_size(record.key, record.value, headers) <= max_bytes:
        return NewRecord(task.dead_letters, record.key, record.value, headers, now_ms)
    return _pointer(task, record, headers[len(record.headers) :], now_ms, max_bytes)


def _pointer(task: Task[Any, Any], record: Record, headers: Headers, now_ms: int, max_bytes: int) -> NewRecord:
    value = record.value or b""
    pointer = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "bytes": record.size,
        "sha256": hashlib.sha256(value).hexdigest(),
    }
    key = record.key
    if key is not None and len(key) > MAX_POINTER_KEY_BYTES:
        key = hashlib.sha256(key).digest()
    headers = (*headers, (PREFIX + "pointer", b"1"))
    found = NewRecord(task.dead_letters, key, json.dumps(pointer).encode(), headers, now_ms)
    if found.size <= max_bytes:
        return found
    # Everything else in it has a bound; the sum of what its calls cost stays.
    return found._replace(headers=tuple((name, b"[]" if name == PREFIX + "calls" else text) for name, text in headers))


def read_letter(record: Record) -> Letter:
    """A record of a dead-letter topic, read. Raises ValueError where it is none of ours."""

    def text(name: str) -> str:
        found = header_text(record.headers, PREFIX + name)
        if found is None:
            raise ValueError(f"no dead letter of Penstock: header {PREFIX}{name} is missing")
        return found

    return Letter(
        id=text("id"),
        task=text("task"),
        event_id=text("event-id"),
        subject=header_text(record.headers, PREFIX + "subject") or text("event-id"),
        source=Position(text("topic"), int(text("partition")), int(text("offset"))),
        stage=text("stage"),
        reason=text("reason"),
        detail=text("message"),
        attempts=int(text("attempts")),
        nanousd=int(text("nanousd")),
        calls=[(call, nanousd) for call, nanousd in json.loads(text("calls"))],
        first_ms=int(text("first-at")),
        last_ms=int(text("last-at")),
        is_pointer=header_text(record.headers, PREFIX + "pointer") is not None,
        record=record,
    )


def original(letter: Letter) -> NewRecord:
    """The event as it was, without what the dead letter added: what a redrive sends to its topic."""
    headers = tuple(pair for pair in letter.record.headers if not pair[0].startswith(PREFIX))
    return NewRecord(letter.source.topic, letter.record.key, letter.record.value, headers)


def charges_to_json(charges: list[Charge]) -> str:
    """Charges for a header of a hand-over."""
    return json.dumps([list(charge) for charge in charges], separators=(",", ":"))


def charges_from_json(text: str) -> list[Charge]:
    """The reverse of `charges_to_json`."""
    return [Charge(*row) for row in json.loads(text)]
