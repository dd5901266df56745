"""Says of an offered event what the tasks' workers would say: the record that it becomes, or why it can't be one.

bodies → [judge] → posting

The engine's own reader decides, hooks included, so that what is accepted here is no dead letter for its form there.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from penstock.codecs.cloudevents import data_of, event_id_of
from penstock.codecs.registry import RegistryCodec
from penstock.engine.cascade import Erased
from penstock.engine.reader import Reader
from penstock.errors import CodecUnavailable, SettingsError
from penstock.outcome import Failure
from penstock.record import NewRecord, Partition, Record, header
from penstock.web.bodies import Offer, is_json
from penstock.web.problems import Problem

if TYPE_CHECKING:
    from penstock.task import Task
    from penstock.tier import Item

NOWHERE = -1
ID_BYTES = 16
MAX_KEY_CHARS = 255


class Event(NamedTuple):
    """An event that may be written."""

    record: NewRecord
    id: str
    subject: str
    digest: str
    """Of its content: the same id with another digest is another event."""
    claim: str
    """What a repeat has too; empty where nothing names the event, so that no repeat can be told."""
    by_header: bool = False
    """The claim comes from `Idempotency-Key`."""


class Judge:
    """The tasks of one topic as one reader."""

    def __init__(self, topic: str, tasks: Sequence[Task[Any, Any]], key: str, max_event_bytes: int) -> None:
        for task in tasks:
            if isinstance(task.decode, RegistryCodec):
                raise SettingsError(
                    f"task {task.name} reads {topic} through a schema registry, and the gateway writes JSON: "
                    "leave that task out of `penstock serve`, or give it a topic of JSON"
                )
        self.topic = topic
        self._readers = [(task, Reader(task)) for task in tasks]
        self._key_of = _key_of(key, tasks)
        self._max_event_bytes = max_event_bytes

    def judge(self, offer: Offer, client: str, idempotency_key: str, number: int, now_ms: int) -> Event:
        """The event with its id, key and headers. Raises a `Problem`."""
        if len(offer.value) > self._max_event_bytes:
            limit = f"an event has at most {self._max_event_bytes:,} bytes (gateway.max_event_bytes)"
            raise Problem("too-large", limit)
        record = Record(self.topic, NOWHERE, NOWHERE, None, offer.value, offer.headers, now_ms)
        item, erases = self._read(record)
        nameless = f"{self.topic}/{NOWHERE}/{NOWHERE}"
        named = "" if item.event_id == nameless or self._is_named_by_place(item) else item.event_id
        claim = self._claim(offer, client, idempotency_key, number, named)
        event_id = named or (_hash(b"event", claim) if claim else uuid.uuid4().hex)
        subject = erases or (item.subject if item.subject not in {"", nameless, item.event_id} else event_id)
        key = self._key_of(item, event_id, subject)
        if (chosen := header(offer.headers, "ce_partitionkey")) is not None:
            key = chosen.decode()
        headers = offer.headers if event_id_of(record) else (*_attributes(client, event_id), *offer.headers)
        written = NewRecord(self.topic, key.encode() if key is not None else None, offer.value, headers, now_ms)
        return Event(written, event_id, subject, _digest(offer), claim, bool(idempotency_key))

    def _read(self, record: Record) -> tuple[Item, str]:
        """As the first task reads it, and the subject that it erases; every task must be able to read it."""
        first: Item | None = None
        erases = ""
        for task, reader in self._readers:
            try:
                item, stop = reader.read(record, Partition(self.topic, NOWHERE))
            except CodecUnavailable as weather:
                raise Problem("log-unreachable", str(weather), retry_after_seconds=5) from weather
            if isinstance(stop, Failure):
                raise self._refusal(task, stop, record.value or b"")
            first = first or item
            if isinstance(stop, Erased):
                erases = erases or stop.subject or ""
        assert first is not None
        return first, erases

    def _is_named_by_place(self, item: Item) -> bool:
        """Whether the task names events by where they stand, which nobody knows yet."""
        name_of = self._readers[0][0].event_id
        if not callable(name_of) or item.input is None:
            return False
        elsewhere = item.record._replace(offset=NOWHERE - 1, timestamp_ms=item.record.timestamp_ms + 1)
        return str(name_of(item.input, elsewhere)) != item.event_id

    def _refusal(self, task: Task[Any, Any], failure: Failure, value: bytes) -> Problem:
        where = f"task {task.name}: " if len(self._readers) > 1 else ""
        if failure.reason == "too_large":
            return Problem("too-large", where + failure.detail)
        if failure.reason == "undecodable" and not is_json(value):
            return Problem("not-json", failure.detail)
        return Problem("invalid-event", where + failure.detail)

    def _claim(self, offer: Offer, client: str, idempotency_key: str, number: int, named: str) -> str:
        if idempotency_key:
            return _hash(b"key", self.topic, client, idempotency_key, str(number))
        if not named:
            return ""
        source = header(offer.headers, "ce_source") or b""
        return _hash(b"id", self.topic, source.decode("utf-8", "replace"), named)


def _key_of(key: str, tasks: Sequence[Task[Any, Any]]) -> Callable[[Item, str, str], str | None]:
    """How a record gets its key. Raises where a task's input lacks the field."""
    if key == "subject":
        return lambda _item, _event_id, subject: subject
    if key == "event_id":
        return lambda _item, event_id, _subject: event_id
    if key == "none":
        return lambda _item, _event_id, _subject: None
    lacking = [task for task in tasks[:1] if key not in task.input.model_fields]
    if lacking:
        task = lacking[0]
        raise SettingsError(
            f"gateway.key={key!r}: write subject, event_id, none, or a field of {task.input.__name__} "
            f"(task {task.name}): {', '.join(task.input.model_fields)}"
        )

    def field(item: Item, event_id: str, _subject: str) -> str:
        value = getattr(item.input, key, None) if item.input is not None else _raw(item.record, key)
        return event_id if value is None else str(value)[:MAX_KEY_CHARS]

    return field


def _raw(record: Record, key: str) -> Any:
    """A field of an event that is no input: a deletion must stand in the partition of what it deletes."""
    event = orjson.loads(data_of(record))
    return event.get(key) if isinstance(event, dict) else None


def _attributes(client: str, event_id: str) -> tuple[tuple[str, bytes], ...]:
    """What makes the record a CloudEvent in binary mode, where its producer did not."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", b"penstock.event.v1"),
        ("ce_source", f"/penstock/gateway/{client}".encode()),
        ("ce_id", event_id.encode("utf-8", "backslashreplace")),
    )


def _hash(kind: bytes, *parts: str) -> str:
    named = b"\0".join(part.encode("utf-8", "backslashreplace") for part in parts)
    return hashlib.blake2b(named, digest_size=ID_BYTES, person=kind).hexdigest()


def _digest(offer: Offer) -> str:
    """Of what the producer said; the trace and its urgency may differ when it says it again."""
    found = hashlib.blake2b(offer.value, digest_size=ID_BYTES)
    for name, content in offer.headers:
        if name.startswith("ce_"):
            found.update(b"\0%s=%s" % (name.encode(), content or b""))
    return found.hexdigest()
