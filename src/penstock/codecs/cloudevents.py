"""CloudEvents 1.0 over Kafka: structured mode, binary mode, an event's id, and the headers that go on to results.

base → [cloudevents] → json → the task's input
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from penstock.codecs.json import Undecodable, decode_json, explain, not_json
from penstock.errors import Skip
from penstock.record import header_text

if TYPE_CHECKING:
    from penstock.record import Headers, Record

ModelT = TypeVar("ModelT", bound=BaseModel)

STRUCTURED = "application/cloudevents+json"
CORE_ATTRIBUTES = frozenset({"specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "subject"})
_TRACE = frozenset({"traceparent", "tracestate"})


class _Identity(BaseModel):
    """The envelope's own attributes. `source` and `type` may be missing: a verdict does not depend on them."""

    model_config = ConfigDict(extra="ignore")
    specversion: str = Field(pattern=r"^1\.0")
    id: str = Field(min_length=1)


class _Envelope(_Identity, Generic[ModelT]):
    data: ModelT | None = None
    data_base64: str | None = None


def structured(headers: Headers) -> bool:
    """Whether the value is a whole envelope. Other CloudEvents formats raise `Undecodable`."""
    for name, content in headers:
        if content is not None and len(name) == 12 and name.lower() == "content-type":
            media = content.split(b";", 1)[0].strip().lower()
            if not media.startswith(b"application/cloudevents"):
                return False
            if media == STRUCTURED.encode():
                return True
            raise Undecodable(f"content-type: of the CloudEvents formats only {STRUCTURED} is read, one event a record")
    return False


def decode_structured(value: bytes, model: type[ModelT]) -> ModelT:
    """Read an envelope's data as the model, in the same pass as the envelope."""
    envelope_model = _envelope(model)
    try:
        envelope = envelope_model.model_validate_json(value)
    except ValidationError as invalid:
        raise Undecodable(f"CloudEvents envelope: {explain(invalid, envelope_model, value)}") from None
    if envelope.data is not None:
        data: ModelT = envelope.data
        return data
    return decode_json(_from_base64(envelope.data_base64), model)


def data_of(record: Record) -> bytes:
    """The event's data as JSON bytes, in whichever mode it came. A tombstone raises `Skip`."""
    if record.value is None:
        raise Skip("tombstone")
    if not structured(record.headers):
        return record.value
    try:
        envelope = from_json(record.value)
    except ValueError as broken:
        raise Undecodable(f"CloudEvents envelope: {not_json(record.value, _without_text(broken))}") from None
    if not isinstance(envelope, dict):
        raise Undecodable("CloudEvents envelope: is no JSON object")
    data = envelope.get("data")
    return to_json(data) if data is not None else _from_base64(envelope.get("data_base64"))


def event_id_of(record: Record) -> str | None:
    """The id that the envelope gives the event, in either mode; None where there is none."""
    if not record.headers:
        return None
    event_id = header_text(record.headers, "ce_id")
    if event_id:
        return event_id
    try:
        if record.value is None or not structured(record.headers):
            return None
        return _Identity.model_validate_json(record.value).id
    except ValueError:  # no id to be had; that the bytes are broken is told where they are decoded
        return None


def passthrough(headers: Headers) -> Headers:
    """The input's headers that go on to its results: the trace, and CloudEvents extensions such as `ce_tenant`."""
    if not headers:
        return ()
    return tuple(pair for pair in headers if pair[0] in _TRACE or _is_extension(pair[0]))


def _is_extension(name: str) -> bool:
    return name.startswith("ce_") and len(name) > 3 and name[3:] not in CORE_ATTRIBUTES


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str) or not text:
        raise Undecodable("CloudEvents envelope: has neither data nor data_base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Undecodable("CloudEvents envelope: data_base64 is not base64") from None


def _without_text(broken: ValueError) -> str:
    return f"Invalid JSON: {str(broken)[:120]}"


@lru_cache(maxsize=256)
def _envelope(model: type[BaseModel]) -> type[_Envelope[Any]]:
    return _Envelope[model]  # type: ignore[valid-type]
