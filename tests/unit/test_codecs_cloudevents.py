"""CloudEvents 1.0 over Kafka: the modes are told apart as the binding says, ids and extensions are found."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from penstock import Record
from penstock.codecs import Undecodable, decode, event_id_of, passthrough

STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")
DATA = {"text": "naïve ☂", "size": 3}


class Note(BaseModel):
    """An input model."""

    text: str
    size: int = 0


def record(value: bytes | None, *headers: tuple[str, bytes | None]) -> Record:
    return Record("notes", 1, 0, None, value, headers, 0)


def envelope(**changes: object) -> bytes:
    whole = {"specversion": "1.0", "id": "e-1", "source": "/s", "type": "note", "data": DATA, **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


@given(st.text(), st.integers(), st.sampled_from(["data", "data_base64"]))
def test_all_ways_to_send_give_the_same_event(text: str, size: int, member: str) -> None:
    """Plain JSON, binary mode, structured mode and base64 are one event to the task."""
    data = {"text": text.encode("utf-8", "replace").decode(), "size": size}
    plain = json.dumps(data).encode()
    carried = {"data": data} if member == "data" else {"data": None, "data_base64": base64.b64encode(plain).decode()}
    read = [
        decode(record(plain), Note),
        decode(record(plain, ("ce_specversion", b"1.0"), ("ce_id", b"x"), ("content-type", b"application/json")), Note),
        decode(record(envelope(**carried), STRUCTURED), Note),
    ]
    assert read == [Note(**data)] * 3


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json", b"Application/CloudEvents+JSON ; charset=utf-8"]
)
@pytest.mark.parametrize("name", ["content-type", "Content-Type"])
def test_structured_mode_is_known_by_its_content_type(name: str, content_type: bytes) -> None:
    """As the binding says: by the media type, whatever its case and parameters."""
    assert decode(record(envelope(), (name, content_type)), Note) == Note(**DATA)


def test_an_envelope_without_its_content_type_is_plain_json() -> None:
    """Nothing is guessed from the value."""
    with pytest.raises(Undecodable, match="text: Field required"):
        decode(record(envelope()), Note)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (envelope(data={"size": 1}), "CloudEvents envelope: data.text: Field required"),
        (envelope(data=None), "CloudEvents envelope: has neither data nor data_base64"),
        (envelope(data=None, data_base64="%%%"), "CloudEvents envelope: data_base64 is not base64"),
        (envelope(data=None, data_base64="e30="), "text: Field required"),
        (envelope(specversion="0.3"), "CloudEvents envelope: specversion: "),
        (envelope(id=None), "CloudEvents envelope: id: Field required"),
        (b'{"specversion', "CloudEvents envelope: Invalid JSON"),
        (b"[]", "CloudEvents envelope: (event): Input should be an object"),
    ],
)
def test_a_broken_envelope_says_what_is_wrong(value: bytes, said: str) -> None:
    """The dead letter tells the envelope's fault from the event's."""
    with pytest.raises(Undecodable) as refused:
        decode(record(value, STRUCTURED), Note)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("media", [b"application/cloudevents-batch+json", b"application/cloudevents+avro"])
def test_other_cloudevents_formats_are_refused_by_name(media: bytes) -> None:
    """There is no batch mode on Kafka, and Avro is no JSON."""
    with pytest.raises(Undecodable, match=r"only application/cloudevents\+json"):
        decode(record(envelope(), ("content-type", media)), Note)


@pytest.mark.parametrize(
    ("given", "event_id"),
    [
        (record(b"{}", ("ce_id", b"b-1"), ("ce_specversion", b"1.0")), "b-1"),
        (record(None, ("ce_id", b"b-2")), "b-2"),
        (record(envelope(), STRUCTURED), "e-1"),
        (record(envelope(data={"broken": True}), STRUCTURED), "e-1"),
        (record(b"no json", STRUCTURED), None),
        (record(None, STRUCTURED), None),
        (record(envelope(), ("content-type", b"application/cloudevents+avro")), None),
        (record(b"{}", ("traceparent", b"00-1")), None),
        (record(b"{}", ("ce_id", b"")), None),
        (record(b'{"id":"of the event"}'), None),
    ],
)
def test_the_envelopes_id_is_found_where_there_is_one(given: Record, event_id: str | None) -> None:
    """In both modes, and whatever the data is worth."""
    assert event_id_of(given) == event_id


def test_trace_and_extensions_go_on_to_results() -> None:
    """In their order, with repeated names; the input's own attributes stay behind."""
    headers = (
        ("ce_specversion", b"1.0"),
        ("traceparent", b"00-a-b-01"),
        ("ce_id", b"x"),
        ("ce_tenant", b"t1"),
        ("ce_tenant", b"t2"),
        ("ce_", b"no attribute"),
        ("ce_datacontenttype", b"application/json"),
        ("content-type", b"application/json"),
        ("tracestate", None),
        ("authorization", b"secret"),
    )
    kept = (("traceparent", b"00-a-b-01"), ("ce_tenant", b"t1"), ("ce_tenant", b"t2"), ("tracestate", None))
    assert passthrough(headers) == kept
    assert passthrough(()) == ()
