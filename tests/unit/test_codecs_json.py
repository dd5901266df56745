"""JSON to models: what decodes, and what is said of what does not."""

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from penstock import Record, Skip
from penstock.codecs import Undecodable, decode


class Place(BaseModel):
    """A nested model."""

    city: str


class Order(BaseModel):
    """An input model with an alias, a nested model and a check of its own."""

    id: str
    amount: int = Field(default=1, alias="n")
    place: Place | None = None
    tags: dict[str, int] = {}
    state: Literal["open", "closed"] = "open"

    @field_validator("id")
    @classmethod
    def _no_blank(cls, value: str) -> str:
        if " " in value:
            raise ValueError(f"{value} has blanks")
        return value


def record(value: bytes | None, *headers: tuple[str, bytes | None]) -> Record:
    return Record("orders", 0, 7, b"k", value, headers, 0)


def refusal(value: bytes | None, *headers: tuple[str, bytes | None]) -> str:
    with pytest.raises(Undecodable) as refused:
        decode(record(value, *headers), Order)
    return str(refused.value)


@given(st.text(), st.integers())
def test_json_of_any_text_decodes_to_the_model(text: str, amount: int) -> None:
    """What a producer writes as JSON is what the task reads."""
    order = decode(record(json.dumps({"id": text.replace(" ", "_"), "n": amount}).encode("utf-8", "replace")), Order)
    assert (order.id, order.amount) == (text.replace(" ", "_"), amount)


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_undecodable(value: bytes) -> None:
    """No bytes raise anything but `Undecodable`, and none of these makes a model of nothing."""
    try:
        order = decode(record(value), Order)
    except Undecodable:
        return
    assert json.loads(value)["id"] == order.id


def test_a_byte_order_mark_is_read_over() -> None:
    """Windows tools put three bytes before their JSON."""
    assert decode(record(b'\xef\xbb\xbf{"id":"a"}'), Order).id == "a"


def test_many_byte_order_marks_are_not_read_over() -> None:
    """A record full of them is a dead letter and no endless recursion."""
    assert "Invalid JSON" in refusal(b"\xef\xbb\xbf" * 100_000)


def test_a_tombstone_is_skipped() -> None:
    """A null value wants no answer."""
    with pytest.raises(Skip):
        decode(record(None), Order)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "the value is empty"),
        (b" \n", "the value is empty"),
        (b'{"id":"a"', "Invalid JSON: EOF while parsing an object at line 1 column 9"),
        (b'{"id":"caf\xe9"}', "not UTF-8: byte 0xe9 at 10"),
        (b"\x00\x00\x00\x00\x05\x02a", "byte 0 is 0x00, as schema registries write it: give the task a decode="),
        (b"[1]", "(event): Input should be an object"),
        (b"{}", "id: Field required"),
        (b'{"id":"a","n":"x"}', "n: Input should be a valid integer"),
        (b'{"id":"a","place":{}}', "place.city: Field required"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(value: bytes, said: str) -> None:
    """The detail of a dead letter names the field or the byte."""
    assert said in refusal(value)


@pytest.mark.parametrize(
    "event",
    [
        {"id": "top secret"},
        {"id": "a", "tags": {"top secret": "x"}},
        {"id": "a", "state": "top secret"},
        {"id": "a", "n": "top secret"},
        {"id": "a", "place": "top secret"},
        ["top secret"],
    ],
)
def test_the_events_own_text_is_never_repeated(event: object) -> None:
    """A dead letter's headers are read by people who may not read the event."""
    said = refusal(json.dumps(event).encode())
    assert "secret" not in said
    assert said


def test_keys_of_the_event_are_stars() -> None:
    """Only declared names stand in the path."""
    assert refusal(b'{"id":"a","tags":{"Jane Doe":"x"}}').startswith("tags.*: ")


def test_many_problems_are_counted() -> None:
    """The detail stays short however much is wrong."""
    tags = {f"t{number}": "x" for number in range(50)}
    said = refusal(json.dumps({"id": "a", "tags": tags}).encode())
    assert said.endswith("; and 46 more")


def test_a_skip_from_a_model_passes() -> None:
    """A model may say itself that an event wants no answer."""

    class Picky(BaseModel):
        kind: str

        @field_validator("kind")
        @classmethod
        def _wanted(cls, kind: str) -> str:
            raise Skip(f"kind {kind}")

    with pytest.raises(Skip, match="kind ping"):
        decode(record(b'{"kind":"ping"}'), Picky)
