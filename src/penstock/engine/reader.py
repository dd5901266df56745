"""One record to one item of one task, or to the reason why it cannot be one.

log → intake → [reader] → batcher
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import PydanticSerializationError

from penstock.codecs.base import decode as decode_by_content_type
from penstock.codecs.base import event_id_of
from penstock.codecs.text import clean, estimate_tokens
from penstock.engine.cascade import Erased, Skipped
from penstock.engine.isolation import looks_like_instructions
from penstock.engine.publish import remember, unwrap
from penstock.engine.urgency import urgency_of
from penstock.erasure import read_erasure
from penstock.errors import CodecUnavailable, Erase, Skip
from penstock.outcome import Failure
from penstock.record import Partition, Record
from penstock.tier import Item

if TYPE_CHECKING:
    from collections import Counter

    from penstock.erasure import Erasure
    from penstock.task import Task

logger = logging.getLogger("penstock.engine")
MAX_NAME_CHARS = 1_024
"""Of an event's id and its subject: both stand in what ends the event, which must fit into a record whatever they are."""
Stop = Failure | Skipped | Erased
"""Why a record becomes no item."""


class Reader:
    """Decodes, names and renders events as a task wants it. A user's hook may raise anything: the partition goes on."""

    def __init__(self, task: Task[Any, Any], ignored: Counter[str] | None = None) -> None:
        self._task = task
        self._ignored = ignored
        """Headers of events that mean nothing, by name: counted here."""
        self._decode = task.decode or decode_by_content_type
        self._suspicious = task.suspicious or looks_like_instructions
        self._id_field = task.event_id if isinstance(task.event_id, str) else ""
        self._shown = {name for name in task.input.model_fields if task.show is None or name in task.show}

    def read(self, record: Record, partition: Partition) -> tuple[Item, Stop | None]:
        """Decode one record; what stops it is told as its outcome."""
        if record.topic != self._task.retry_topic:
            item = Item(record, partition, "", None, "", 0)
            return item, self._read_event(item)
        try:
            item, outcome = self._take_over(record, partition)
        except (KeyError, TypeError, ValueError) as error:
            item = Item(record, partition, _position_id(record), None, "", 0)
            outcome = Failure("undecodable", f"no hand-over of Penstock: {error!r}")
        return item, outcome

    def _take_over(self, record: Record, partition: Partition) -> tuple[Item, Stop | None]:
        """What came through the retry topic, with what was remembered of it."""
        if record.value is None and (erasure := read_erasure(record)):
            item, stop = _erasing(erasure, record, partition)
            return item, stop if _is_name(item.event_id) else _without_names(item, stop)
        event, memory = unwrap(record)
        item = Item(event, partition, "", None, "", 0)
        item.offset = record.offset
        if memory:
            remember(item, memory, len(self._task.route.steps))
        return item, self._read_event(item)

    def _read_event(self, item: Item) -> Stop | None:
        event = item.record
        if event.headers:
            self._read_urgency(item, event)
        outcome = self._fill(item, event)
        if not item.event_id:
            item.event_id = _position_id(event)
        if _is_name(item.event_id) and (item.subject is item.event_id or _is_name(item.subject)):
            return outcome
        return _without_names(item, outcome)

    def _read_urgency(self, item: Item, event: Record) -> None:
        item.priority, item.deadline_ms, ignored = urgency_of(event.headers)
        for name in ignored:
            if self._ignored is None:
                return
            if not self._ignored[name]:
                told = (self._task.name, name, *item.partition, item.offset)
                logger.warning(
                    "%s ignores header %s of %s/%d offset %d: it means nothing; more are only counted", *told
                )
            self._ignored[name] += 1

    def _fill(self, item: Item, event: Record) -> Stop | None:
        if event.value is None:
            return Skipped("tombstone without a key") if event.key is None else Erased("tombstone", None)
        try:
            if named := event_id_of(event):
                item.event_id = named
                item.subject = "" if self._task.subject else named
            item.input = self._decode(event, self._task.input)
            item.event_id = self._event_id(item, event) or item.event_id or _position_id(event)
            item.subject = self._subject(item.input, event) if self._task.subject else item.event_id
        except Erase as erase:
            return _erased(item, erase)
        except Skip as skip:
            return Skipped(str(skip) or "skipped by decode")
        except ValueError as error:
            return Failure("undecodable", str(error))
        except CodecUnavailable:
            raise  # weather is no fault of the event (law 5); in a worker the fetch comes before
        except Exception as error:  # noqa: BLE001 - a user's hook
            return Failure("hook_failed", f"decode, event_id or subject raised {type(error).__name__}")
        return self._show(item)

    def _show(self, item: Item) -> Stop | None:
        """What the model will see: one JSON value on one line."""
        try:
            text = self._render(item.input)
            # Line ends of other scripts become newlines: in the wire format an event is one line.
            item.text = text if text.isprintable() else clean(text).replace("\n", " ")
        except Erase as erase:
            return _erased(item, erase)
        except Skip as skip:
            return Skipped(str(skip) or "skipped by render")
        except (TypeError, ValueError, PydanticSerializationError, orjson.JSONEncodeError) as error:
            return Failure("hook_failed", f"render gave no JSON value: {type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - a user's hook
            return Failure("hook_failed", f"render raised {type(error).__name__}")
        item.tokens = estimate_tokens(item.text)
        if item.tokens > self._task.max_event_tokens:
            return Failure(
                "too_large",
                f"about {item.tokens} tokens, the task takes {self._task.max_event_tokens} (max_event_tokens)",
            )
        item.suspicious = self._suspicious(item.text)
        return None

    def _render(self, value: Any) -> str:
        if self._task.render is not None:
            return orjson.dumps(self._task.render(value)).decode()
        serializer = value.__pydantic_serializer__
        return str(serializer.to_json(value, include=self._shown, exclude_none=True), "utf-8")

    def _event_id(self, item: Item, event: Record) -> str:
        value, wanted = item.input, self._task.event_id
        if self._id_field:
            return str(getattr(value, self._id_field) or "")
        if callable(wanted):
            return str(wanted(value, event))
        return str(getattr(value, "event_id", None) or getattr(value, "id", None) or "")

    def _subject(self, value: Any, event: Record) -> str:
        wanted = self._task.subject
        named = wanted(value, event) if callable(wanted) else getattr(value, wanted)
        return "" if named is None else str(named)


def _is_name(text: str) -> bool:
    if len(text) > MAX_NAME_CHARS:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _without_names(item: Item, outcome: Stop | None) -> Stop | None:
    """An id or subject that nothing can carry: the event ends under its position instead."""
    what, name = ("id", item.event_id) if not _is_name(item.event_id) else ("subject", item.subject)
    item.event_id, item.subject = _position_id(item.record), ""
    if isinstance(outcome, Skipped) or (isinstance(outcome, Erased) and _is_name(outcome.subject or "")):
        return outcome
    if len(name) <= MAX_NAME_CHARS:
        return Failure("undecodable", f"event {what} holds half a character (a lone surrogate): send it as whole text")
    wanted = "a shorter one, or let the task's event_id or subject choose another field"
    return Failure(
        "undecodable", f"event {what} has {len(name):,} characters, at most {MAX_NAME_CHARS:,}: give the event {wanted}"
    )


def _erased(item: Item, erase: Erase) -> Erased | Failure:
    subject = erase.subject or item.subject
    if not subject or subject == _position_id(item.record):
        return Failure("hook_failed", "Erase names no subject, nor does the event: raise Erase(why, subject=…)")
    return Erased(str(erase), subject)


def _erasing(erasure: Erasure, record: Record, partition: Partition) -> tuple[Item, Erased]:
    """An erasure that came through the retry topic, behind all that was handed over before it."""
    event = Record(*erasure.source, record.key, None, record.headers, erasure.source_ms)
    item = Item(event, partition, erasure.event_id, None, "", 0)
    item.offset = record.offset
    return item, Erased(erasure.why, erasure.subject)


def _position_id(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
