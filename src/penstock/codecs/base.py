"""The contract of decoding, and the decoding that holds unless a task gives its own.

intake → [codecs] → batcher
A codec is any function `(record, model) -> model instance`. It raises `Undecodable` (or another ValueError) where the
bytes are not the task's input, which makes a dead letter, and `Skip` where the event wants no answer.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from penstock.codecs.cloudevents import decode_structured, event_id_of, passthrough, structured
from penstock.codecs.json import Undecodable, decode_json
from penstock.errors import Skip
from penstock.record import Record

__all__ = ["Undecodable", "decode", "event_id_of", "passthrough"]

ModelT = TypeVar("ModelT", bound=BaseModel)


def decode(record: Record, model: type[ModelT]) -> ModelT:
    """JSON, or CloudEvents in structured or binary mode, told apart by the content type. A tombstone raises `Skip`."""
    value = record.value
    if value is None:
        raise Skip("tombstone")
    if record.headers and structured(record.headers):
        return decode_structured(value, model)
    return decode_json(value, model)
