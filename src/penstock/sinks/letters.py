"""Dead letters of delivery: what a sink will never take, with the sink's own words.

delivery → [letters] → log → redrive

The value is the result as it stands in the log, or a pointer to it where it does not fit or has none. It costs nothing: its
money stands on the result. What refuses a dead letter makes no further one of it.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import orjson

from penstock.deadletters.letter import MAX_DETAIL, PREFIX
from penstock.record import NewRecord, Record, header, record_size

if TYPE_CHECKING:
    from penstock.sinks.base import Content

STAGE = "deliver"


def is_letter(record: Record) -> bool:
    """Whether it stands among the dead letters already."""
    return header(record.headers, PREFIX + "id") is not None


def bury_delivery(
    record: Record,
    content: Content | None,
    *,
    group: str,
    topic: str,
    task: str,
    reason: str,
    detail: str,
    attempts: int,
    max_bytes: int,
) -> NewRecord:
    """The dead letter of one delivery; `content` is None where the record could not be read at all."""
    now_ms = time.time_ns() // 1_000_000
    place = f"{record.topic}/{record.partition}/{record.offset}"
    named = content.event_id if content is not None else place
    subject = getattr(content, "subject", None) or named
    added = {
        "id": hashlib.blake2b(f"{group}\0{place}".encode(), digest_size=16).hexdigest(),
        "task": task,
        "event-id": named,
        "subject": subject,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp_ms),
        "group": group,
        "stage": STAGE,
        "reason": reason,
        "message": detail[:MAX_DETAIL],
        "attempts": str(attempts),
        "nanousd": "0",
        "calls": "[]",
        "first-at": str(now_ms),
        "last-at": str(now_ms),
    }
    told = tuple((PREFIX + name, text.encode("utf-8", "backslashreplace")) for name, text in added.items())
    headers = record.headers + told
    # Without a value it would say "erase" to whoever reads dead letters.
    if record.value is not None and record_size(record.key, record.value, headers) <= max_bytes:
        return NewRecord(topic, record.key, record.value, headers, now_ms)
    pointer = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "bytes": record.size}
    key = record.key if record.key is None or len(record.key) <= 4096 else hashlib.sha256(record.key).digest()
    return NewRecord(topic, key, orjson.dumps(pointer), (*told, (PREFIX + "pointer", b"1")), now_ms)
