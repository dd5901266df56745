"""The contract of decoding, and the decoding that holds unless a task gives its own.

intake → [codecs] → batcher
A codec is any function `(record, model) -> model instance`. It raises `Undecodable` (or another ValueError) where the
bytes are not the task's input, which makes a dead letter, and `Skip` where the event wants no answer. One that needs
something from elsewhere first is `Fetching` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel

from penstock.codecs.cloudevents import decode_structured, event_id_of, passthrough, structured
from penstock.codecs.json import Undecodable, decode_json
from penstock.errors import Skip
from penstock.record import Record

__all__ = ["Fetching", "Undecodable", "decode", "event_id_of", "passthrough"]

ModelT = TypeVar("ModelT", bound=BaseModel)


@runtime_checkable
class Fetching(Protocol):
    """A codec that must fetch something (a schema) before it can decode some records.

    Decoding blocks everything else and must never wait; fetching may, for as long as an outage lasts. The engine holds
    what it read until the fetch is done, and reads no more meanwhile (law 5).
    """

    def lacks(self, records: Sequence[Record]) -> bool:
        """Whether something must be fetched before these can be decoded. Asked of everything that is read: be quick."""
        ...

    async def fetch(self, records: Sequence[Record]) -> None:
        """Get it. Raises `CodecUnavailable` (weather: called again later) or `UserError` (the worker stops).

        What is known not to exist is no error here: decoding the record says so, and makes its dead letter.
        """
        ...


def decode(record: Record, model: type[ModelT]) -> ModelT:
    """JSON, or CloudEvents in structured or binary mode, told apart by the content type. A tombstone raises `Skip`."""
    value = record.value
    if value is None:
        raise Skip("tombstone")
    if record.headers and structured(record.headers):
        return decode_structured(value, model)
    return decode_json(value, model)
