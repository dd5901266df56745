"""What an erasure says, and what it covers: every keeper of results deletes exactly that.

reader → cascade → publish → [erasure] → log → whoever keeps results

On the wire: a record without a value under the key of what is erased, in the results topic, in the dead letters and in the
task's retry topic. Its headers say whose results are meant and which of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.record import Headers, Partition, Position, Record, header, header_text

ERASED_TYPE = b"penstock.erased.v1"
PREFIX = "penstock.erased."
MAX_WHY = 200


@dataclass(frozen=True, slots=True)
class Erasure:
    """Delete what this task made of `subject`; without one, of everything that has this key. What comes later stays."""

    id: str
    """Deterministic: copies of one erasure have the same."""
    task: str
    event_id: str
    """The deletion's own."""
    source: Position
    """Where the deletion stands in the input topic: what it covers stands before it there."""
    source_ms: int
    key: bytes | None
    subject: str | None
    why: str = ""

    def covers(self, key: bytes | None, subject: str) -> bool:
        """Whether a result or dead letter of this key and subject is meant."""
        return subject == self.subject if self.subject is not None else key is not None and key == self.key

    def headers(self) -> Headers:
        """A CloudEvent in binary mode that has no data."""
        source = self.source
        told = {
            "id": self.id,
            "task": self.task,
            "event-id": self.event_id,
            "scope": "key" if self.subject is None else "subject",
            "topic": source.topic,
            "partition": str(source.partition),
            "offset": str(source.offset),
            "timestamp": str(self.source_ms),
            "why": self.why[:MAX_WHY],
        }
        attributes = {"ce_specversion": "1.0", "ce_source": f"/penstock/{self.task}", "ce_id": self.id}
        if self.subject is not None:
            attributes["ce_subject"] = told["subject"] = self.subject
        named = attributes | {PREFIX + name: text for name, text in told.items()}
        return (("ce_type", ERASED_TYPE), *((name, _bytes(text)) for name, text in named.items()))


class Reach:
    """Many erasures at once: what they cover, by partition, key, subject and place."""

    def __init__(self) -> None:
        self._keys: dict[tuple[Partition, bytes], int] = {}
        self._subjects: dict[tuple[Partition, str], int] = {}

    def __bool__(self) -> bool:
        return bool(self._keys or self._subjects)

    def add(self, partition: Partition, offset: int, key: bytes | None, subject: str | None) -> None:
        """An erasure at that place."""
        if subject is not None:
            self._subjects[partition, subject] = max(offset, self._subjects.get((partition, subject), -1))
        elif key is not None:
            self._keys[partition, key] = max(offset, self._keys.get((partition, key), -1))

    def covers(self, partition: Partition, offset: int, key: bytes | None, subject: str) -> bool:
        """Whether one of them stands behind that place and means it."""
        if offset < self._subjects.get((partition, subject), -1):
            return True
        return key is not None and offset < self._keys.get((partition, key), -1)


def read_erasure(record: Record) -> Erasure | None:
    """The erasure that a record is; None for any other record. Raises ValueError where its headers are broken."""
    if record.value is not None or header(record.headers, "ce_type") != ERASED_TYPE:
        return None

    def text(name: str) -> str:
        found = header_text(record.headers, PREFIX + name)
        if found is None:
            raise ValueError(f"no erasure of Penstock: header {PREFIX}{name} is missing")
        return found

    return Erasure(
        id=text("id"),
        task=text("task"),
        event_id=text("event-id"),
        source=Position(text("topic"), int(text("partition")), int(text("offset"))),
        source_ms=int(text("timestamp")),
        key=record.key,
        subject=text("subject") if text("scope") == "subject" else None,
        why=text("why"),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
