"""What an item's ending becomes in the log: a result, a dead letter, or a hand-over to the task's retry topic.

cascade → checkpoint → [publish] → log
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel

from penstock.codecs.base import passthrough
from penstock.deadletters.letter import bury, charges_from_json, charges_to_json
from penstock.engine.cascade import Ending, Erased, HandOver, Skipped
from penstock.erasure import MAX_WHY, Erasure
from penstock.log.state import state_record
from penstock.outcome import Answer, Charge, Deferred, Failure, Responder
from penstock.record import Headers, NewRecord, Position, Record, header_text, record_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.task import Task
    from penstock.tier import Item

RESULT_TYPE = b"penstock.result.v1"
RETRY = "penstock.retry."
MAX_TOPIC_CHARS = 249
"""Of a name, by Kafka itself."""
MAX_MEMORY_BYTES = 65_536
"""Of what a hand-over remembers: far more than any of ours has."""
MOST_FORMS = 256
"""Of tasks with a few tiers and models there are a handful."""
HEADROOM_BYTES = 16_384
"""More than the headers of a result take whose event has none."""


_PLACE = b"\x01"
"""Of a value in a form. In JSON it never stands as itself."""
_TEXT, _INT = orjson.Fragment(_PLACE + b"b"), orjson.Fragment(_PLACE + b"d")
_HEX = orjson.Fragment(b'"' + _PLACE + b'b"')


class Publisher:
    """Encodes the endings of one task. `max_record_bytes` is what the log takes."""

    def __init__(self, task: Task[Any, Any], max_record_bytes: int) -> None:
        self._task = task
        self._max_record_bytes = max_record_bytes
        self._forms: dict[tuple[Responder, str, str], bytes] = {}
        self._latest: tuple[Responder | None, str, bytes] = (None, "", b"")
        self._call = ("", b'""')
        """The latest call's id, and the same as JSON."""
        self._head = (
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_type", RESULT_TYPE),
            ("ce_source", f"/penstock/{task.name}".encode()),
        )

    def encode_all(self, endings: Sequence[Ending], now_ms: int) -> tuple[NewRecord, ...]:
        """What these endings write, in their order."""
        records: list[NewRecord] = []
        for ending in endings:
            item, outcome = ending
            if type(outcome) is Answer:  # nearly all of them
                records.append(self._result(item, outcome, now_ms, lane=""))
            elif type(outcome) is Erased:
                records += self._erase(item, outcome, now_ms)
            elif type(outcome) is Skipped:
                records += self.waste(item.charges, outcome.why)
            elif (record := self.encode(ending, now_ms)) is not None:
                records.append(record)
        return tuple(records)

    def encode(self, ending: Ending, now_ms: int) -> NewRecord | None:
        """The record that ends an offset; None where none does: a skip, or an erasure, which writes several."""
        item, outcome = ending
        if isinstance(outcome, Answer):
            return self._result(item, outcome, now_ms, lane="")
        if isinstance(outcome, Deferred):
            return self._result(item, outcome.provisional, now_ms, lane=outcome.lane)
        if isinstance(outcome, Failure):
            return self._letter(item, outcome, now_ms)
        if isinstance(outcome, HandOver):
            return self._hand_over(item, outcome, now_ms)
        return None

    def pack(self, ending: Ending) -> Ending:
        """The same ending in less memory, by a third: with `order="key"` thousands of answers wait for their turn.

        The law: it is encoded to the same bytes. So the event goes only where its answer cannot become a dead letter any more.
        """
        item, answer = ending
        if type(answer) is not Answer:
            return ending
        output = answer.json
        if not output:
            try:
                output = _json(answer.output)
            except (TypeError, ValueError):  # told where the result is made
                return ending
            ending = Ending(item, Answer(None, answer.confidence, answer.by, answer.charge, output))
        topic, partition, offset, key, _, headers, timestamp_ms = item.record
        rest_bytes = record_size(key, None, headers) if headers else len(key or b"")
        if len(output) + rest_bytes + 200 * len(item.charges) + 4 * HEADROOM_BYTES < self._max_record_bytes:
            item.record = _new(Record, (topic, partition, offset, key, None, headers, timestamp_ms))
        return ending

    def waste(self, charges: Iterable[Charge], why: str) -> list[NewRecord]:
        """Calls that were paid and whose answers nobody will see: one record per call (law 9)."""
        calls: dict[str, list[Charge]] = {}
        for charge in charges:
            calls.setdefault(charge.call_id, []).append(charge)
        return [self._waste_of(call_id, shares, why) for call_id, shares in calls.items()]

    def _waste_of(self, call_id: str, shares: list[Charge], why: str) -> NewRecord:
        value = {
            "why": why[:MAX_WHY].encode("utf-8", "backslashreplace").decode(),  # of a hook, it may be anything
            "call": call_id,
            "model": shares[0].model,
            "items": len(shares),
            "nanousd": sum(s.nanousd for s in shares),
        }
        # The items of one call may be lost in several steps: none may overwrite another in the compacted topic.
        return state_record(self._task.name, "waste", f"{call_id}/{uuid.uuid4().hex[:12]}", value)

    def _result(self, item: Item, answer: Answer, now_ms: int, *, lane: str) -> NewRecord:
        record = item.record
        result_id = ending_id(self._task, item).encode()
        try:
            content = self._value(item, answer, now_ms, result_id, lane)
        except (TypeError, ValueError) as error:  # a tier or hook of the user's made it
            failure = Failure("invalid_output", f"the result is no JSON: {type(error).__name__}: {str(error)[:200]}")
            return self._letter(item, failure, now_ms)
        headers: Headers = (
            *self._head,
            ("ce_id", result_id),
            ("ce_subject", (item.subject or item.event_id).encode("utf-8", "backslashreplace")),
        )
        if record.headers:
            headers += passthrough(record.headers)
        result = _new(NewRecord, (self._task.writes, record.key, content, headers, now_ms, None))
        is_small = (
            not record.headers and len(content) + len(record.key or b"") + HEADROOM_BYTES < self._max_record_bytes
        )
        if not is_small and result.size > self._max_record_bytes:
            detail = (
                f"the result has {result.size} bytes with its key and headers, the log takes {self._max_record_bytes}"
            )
            return self._letter(item, Failure("too_large", detail), now_ms)
        return result

    def _value(self, item: Item, answer: Answer, now_ms: int, result_id: bytes, lane: str) -> bytes:
        """As JSON. Written into a form: a dictionary and its way through a serialiser take twice as long."""
        record, charges = item.record, item.charges
        by, topic, form = self._latest
        if answer.by is not by or record.topic != topic or lane:  # seldom: one responder answers a whole call
            form = self._forms.get((answer.by, lane, record.topic)) or self._form(answer.by, lane, record.topic)
            if not lane:
                self._latest = answer.by, record.topic, form
        if len(charges) == 1:
            call_id, _, nanousd, *tokens = charges[0]
            if call_id is not self._call[0]:  # one for all items of a call
                self._call = call_id, orjson.dumps(call_id)
            calls = b"[%b,%d]" % (self._call[1], nanousd)
        else:
            _, _, nanousd, *tokens = _total(charges)
            calls = b",".join(b"[%b,%d]" % (orjson.dumps(c.call_id), c.nanousd) for c in charges)
        return form % (
            result_id,
            event_id := orjson.dumps(item.event_id),
            orjson.dumps(item.subject) if item.subject and item.subject is not item.event_id else event_id,
            answer.json or _json(answer.output),
            orjson.dumps(answer.confidence),
            item.attempts,
            *tokens,
            nanousd,
            calls,
            record.partition,
            record.offset,
            record.timestamp_ms,
            item.taken_ms,
            item.asked_ms,
            item.answered_ms,
            now_ms,
        )

    def _form(self, by: Responder, lane: str, topic: str) -> bytes:
        """A result as `bytes % values` wants it: with places for what differs from event to event."""
        task = self._task
        value = {
            "id": _HEX,
            "event_id": _TEXT,
            "subject": _TEXT,
            "task": task.name,
            "output": _TEXT,
            "confidence": _TEXT,
            "provisional": bool(lane),
            "tier": by.tier,
            "model": by.model,
            "prompt": by.prompt,
            "policy": task.policy_version,
            "simulated": by.simulated,
            "attempts": _INT,
            "usage": {
                "input_tokens": _INT,
                "cache_write_tokens": _INT,
                "cache_read_tokens": _INT,
                "output_tokens": _INT,
            },
            "nanousd": _INT,
            "calls": [_TEXT],
            "source": {"topic": topic, "partition": _INT, "offset": _INT},
            "times": {"produced": _INT, "taken": _INT, "asked": _INT, "answered": _INT, "committed": _INT},
        }
        if lane:
            value["lane"] = lane
        if len(self._forms) >= MOST_FORMS:
            self._forms.clear()
        form = self._forms[by, lane, topic] = orjson.dumps(value).replace(b"%", b"%%").replace(_PLACE, b"%")
        return form

    def _letter(self, item: Item, failure: Failure, now_ms: int) -> NewRecord:
        letter_id = ending_id(self._task, item)
        return bury(self._task, item, failure, now_ms, letter_id=letter_id, max_bytes=self._max_record_bytes)

    def _erase(self, item: Item, erased: Erased, now_ms: int) -> list[NewRecord]:
        """Tombstones wherever something of it may stand, or may still be about to."""
        task, record = self._task, item.record
        source = Position(record.topic, record.partition, record.offset)
        erasure = Erasure(
            ending_id(task, item),
            task.name,
            item.event_id,
            source,
            record.timestamp_ms,
            record.key,
            erased.subject,
            erased.why,
        )
        headers = erasure.headers() + passthrough(record.headers)
        topics = [task.writes, task.dead_letters]
        if item.partition.topic != task.retry_topic:
            topics.append(task.retry_topic)
        tombstones = [NewRecord(topic, record.key, None, headers, now_ms) for topic in topics]
        if tombstones[0].size > self._max_record_bytes:
            return [self._letter(item, Failure("too_large", "the erasure does not fit into a record"), now_ms)]
        # What a hand-over brought along of its costs.
        return [*tombstones, *self.waste(item.charges, "erased after it was handed over")]

    def _hand_over(self, item: Item, over: HandOver, now_ms: int) -> NewRecord:
        record = item.record
        added = {
            "topic": record.topic,
            "partition": str(record.partition),
            "offset": str(record.offset),
            "timestamp": str(record.timestamp_ms),
            "reason": over.reason,
            "not-before": str(over.not_before_ms),
            "attempts": str(item.attempts),
            "step": str(item.step),
            "charges": charges_to_json(item.charges),
        }
        headers = record.headers + tuple((RETRY + name, text.encode()) for name, text in added.items())
        over_record = NewRecord(self._task.retry_topic, record.key, record.value, headers, now_ms)
        if over_record.size > self._max_record_bytes:
            return self._letter(item, Failure("too_large", "the event does not fit into the retry topic"), now_ms)
        return over_record


def ending_id(task: Task[Any, Any], item: Item) -> str:
    """The same for the same event at the same place, whoever answers it and however often: readers can drop repeats."""
    record = item.record
    name = f"{task.name}\0{item.event_id}\0{record.topic}\0{record.partition}\0{record.offset}"
    return hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def unwrap(record: Record) -> tuple[Record, dict[str, str]]:
    """A record of a retry topic as the event it was, and what the hand-over remembered."""
    kept = tuple(pair for pair in record.headers if not pair[0].startswith(RETRY))
    memory = {
        name.removeprefix(RETRY): header_text(record.headers, name) or ""
        for name, _ in record.headers
        if name.startswith(RETRY)
    }
    if not memory:
        return record, {}
    size = sum(map(len, memory.values()))
    if size > MAX_MEMORY_BYTES:
        raise ValueError(f"its headers remember {size} bytes, at most {MAX_MEMORY_BYTES}")
    if len(memory["topic"]) > MAX_TOPIC_CHARS:
        raise ValueError(f"the name of its topic has more than {MAX_TOPIC_CHARS} characters")
    event = Record(
        memory["topic"],
        int(memory["partition"]),
        int(memory["offset"]),
        record.key,
        record.value,
        kept,
        int(memory["timestamp"]),
    )
    return event, memory


def remember(item: Item, memory: dict[str, str], steps: int) -> None:
    """Give a handed-over item back its attempts and costs."""
    item.attempts = int(memory["attempts"])
    item.step = min(int(memory["step"]), steps - 1)
    item.charges = charges_from_json(memory["charges"])
    item.carried = len(item.charges)
    item.not_before_ms = int(memory["not-before"])


def _total(charges: Sequence[Charge]) -> Charge:
    """All that an item has cost."""
    return Charge(
        "",
        "",
        sum(c.nanousd for c in charges),
        sum(c.input_tokens for c in charges),
        sum(c.cache_write_tokens for c in charges),
        sum(c.cache_read_tokens for c in charges),
        sum(c.output_tokens for c in charges),
    )


def _json(output: Any) -> bytes:
    """A model is serialised by itself, without the detour over a dictionary."""
    if isinstance(output, BaseModel):
        return output.__pydantic_serializer__.to_json(output)
    # orjson leaves the 8 KB that it began with behind the bytes: thousands of answers wait for their turn.
    return b"".join((orjson.dumps(output), b""))


_new = tuple.__new__
