"""What is posted: a thin, versioned message of a result, a dead letter or an erasure, and which of them an endpoint gets.

delivery → [message] → sink, outbox
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from penstock.deadletters.letter import Letter
from penstock.erasure import Erasure
from penstock.sinks.base import Delivery, Result, rank
from penstock.store.outbox import Waiting

if TYPE_CHECKING:
    from penstock.sinks.webhook.options import WebhookOptions

RESULT, PROVISIONAL = "penstock.result.v1", "penstock.provisional.v1"
LETTER, ERASED, PING = "penstock.letter.v1", "penstock.erased.v1", "penstock.ping.v1"
TYPES = (RESULT, PROVISIONAL, LETTER, ERASED, PING)
MOST_BYTES = 20_000
"""Of a body; what is larger goes without its output."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class TooLarge(ValueError):
    """No body of it is small enough."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to post."""

    id: str
    """The same over all attempts and redeliveries; no `.` in it."""
    type: str
    event: str
    """Of task and event: a later message of it makes an earlier one that still waits superfluous."""
    lane: str
    """Messages of one lane go one by one, in their order."""
    rank: str
    """The later of two messages of one event, as texts compare."""
    delivery: Delivery

    def body(self) -> str:
        """The same whenever it is made. Raises `TooLarge`."""
        return body_of(self.delivery)

    def waiting(self, attempts: int, delay_seconds: float, detail: str) -> Waiting:
        """For the outbox."""
        content = self.delivery.content
        topic, partition, offset = content.source
        return Waiting(
            id=self.id,
            type=self.type,
            event=self.event,
            rank=self.rank,
            task=content.task,
            subject=getattr(content, "subject", None),
            is_erasure=isinstance(content, Erasure),
            source=(topic, partition, offset),
            record=self.delivery.record,
            attempts=attempts,
            next_at=datetime.now(UTC) + timedelta(seconds=delay_seconds),
            detail=detail,
        )


def message_of(delivery: Delivery) -> Message:
    """The message of a delivery."""
    content, key = delivery.content, delivery.record.key
    subject = getattr(content, "subject", None) or content.event_id
    lane = key if key is not None else subject.encode("utf-8", "backslashreplace")
    kept = rank(delivery)
    return Message(
        id=delivery.id if _PLAIN_ID.fullmatch(delivery.id) else _hash(delivery.id),
        type=type_of(delivery),
        event=_hash("event", content.task, content.event_id),
        lane=_hash("lane", content.task, lane.hex()),
        rank=f"{kept.generation:08d} {kept.committed_ms:015d} {kept.offset:019d}",
        delivery=delivery,
    )


def type_of(delivery: Delivery) -> str:
    """By which a receiver tells what it has."""
    content = delivery.content
    if isinstance(content, Result):
        return PROVISIONAL if content.provisional else RESULT
    return LETTER if isinstance(content, Letter) else ERASED


def is_wanted(delivery: Delivery, options: WebhookOptions) -> bool:
    """Whether the endpoint gets it. What supersedes a result that it may have got is never held back for what it says."""
    content = delivery.content
    if delivery.kind not in options.kinds or (options.tasks and content.task not in options.tasks):
        return False
    if not isinstance(content, Result):
        return True
    if content.provisional and not options.provisional:
        return False
    if content.supersedes or content.generation:
        return True
    return options.is_sure(content.confidence) and all(
        _has_one(content.output.get(name), values) for name, values in options.where.items()
    )


def _has_one(said: Any, values: tuple[Any, ...]) -> bool:
    several = said if isinstance(said, list) else [said]
    return any(type(one) is type(value) and one == value for one in several for value in values)


def body_of(delivery: Delivery) -> str:
    """`{type, timestamp, data}` by Standard Webhooks, small. Raises `TooLarge`."""
    content = delivery.content
    data = _common(delivery)
    if isinstance(content, Result):
        data |= _of_result(content)
    elif isinstance(content, Letter):
        data |= {"subject": content.subject, "stage": content.stage, "reason": content.reason}
        data |= {"detail": content.detail, "attempts": content.attempts}
    elif isinstance(content, Erasure):
        data |= {"scope": "key" if content.subject is None else "subject", "subject": content.subject}
        data |= {"why": content.why}
    body = _json(delivery, data)
    if len(body) > MOST_BYTES and "output" in data:
        body = _json(delivery, data | {"output": None, "output_left_out": True})
    if len(body) > MOST_BYTES:
        raise TooLarge(f"its message has {len(body):,} bytes without the output; webhooks have {MOST_BYTES:,} at most")
    return body.decode()


def ping(now: datetime) -> tuple[str, str]:
    """A message that says nothing: id and body. Receivers answer 2xx to types that they do not know."""
    at = now.astimezone(UTC)
    body = {"type": PING, "timestamp": at.isoformat(), "data": {}}
    return f"ping_{int(at.timestamp() * 1_000_000)}", orjson.dumps(body).decode()


def _common(delivery: Delivery) -> dict[str, Any]:
    content, source = delivery.content, delivery.content.source
    data: dict[str, Any] = {"id": delivery.id, "task": content.task, "event_id": content.event_id}
    key = delivery.record.key
    if key is not None:
        try:
            data["key"] = key.decode()
        except UnicodeDecodeError:
            data["key_hex"] = key.hex()
    data["source"] = {"topic": source.topic, "partition": source.partition, "offset": source.offset}
    return data


def _of_result(result: Result) -> dict[str, Any]:
    return {
        "subject": result.subject,
        "output": dict(result.output),
        "confidence": result.confidence,
        "provisional": result.provisional,
        "supersedes": result.supersedes or None,
        "generation": result.generation,
        "model": result.model,
        "policy": result.policy or None,
        "simulated": result.simulated,
    }


def _json(delivery: Delivery, data: dict[str, Any]) -> bytes:
    committed = datetime.fromtimestamp(max(0, delivery.committed_ms) / 1000, UTC)
    return orjson.dumps({"type": type_of(delivery), "timestamp": committed.isoformat(), "data": data})


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
