"""Producers' names to the task's: paths are followed, mistakes are told when the task is declared."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from penstock import Record, Skip, Task, TaskError
from penstock.codecs import FieldMapping, Undecodable


class Review(BaseModel):
    """An input model with a required, an optional and an aliased field."""

    text: str
    stars: int = 0
    author: str = Field(default="", alias="by")


def record(event: object, *headers: tuple[str, bytes | None]) -> Record:
    return Record("t", 0, 0, None, json.dumps(event).encode(), headers, 0)


def declared(paths: dict[str, str]) -> Task:
    return Task("t", reads="in", input=Review, output=Review, instructions="x", decode=FieldMapping(paths))


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("body", {"body": "ok"}),
        ("payload.body", {"payload": {"body": "ok"}}),
        ("parts.1.body", {"parts": [{}, {"body": "ok"}]}),
        ("payload.body", {"payload.body": "ok", "payload": {"body": "the dotted name wins"}}),
    ],
)
def test_a_path_leads_to_the_value(path: str, event: object) -> None:
    """Through objects, lists and names with dots."""
    assert FieldMapping({"text": path})(record(event), Review).text == "ok"


def test_fields_not_named_keep_their_own_name() -> None:
    """Only what differs is mapped, aliases are the model's own, and the producer's other fields are ignored."""
    read = FieldMapping({"text": "body"})(
        record({"body": "b", "text": "other", "stars": 4, "by": "me", "x": 1}), Review
    )
    assert (read.text, read.stars, read.author) == ("b", 4, "me")


def test_an_aliased_field_is_mapped_by_its_field_name() -> None:
    """The mapping speaks of fields, whatever the model reads them under."""
    assert FieldMapping({"author": "user.name"})(record({"text": "t", "user": {"name": "me"}}), Review).author == "me"


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=4), st.text(max_size=20))
def test_a_mapped_event_equals_the_renamed_one(extra: dict[str, int], text: str) -> None:
    """Mapping is renaming and nothing else: JSON's own types and checks hold."""
    text = text.encode("utf-8", "replace").decode()
    event = {**extra, "body": {"text": text}, "stars": "3"}
    assert FieldMapping({"text": "body.text"})(record(event), Review) == Review(text=text, stars=3)


def test_structured_cloudevents_are_mapped_by_their_data() -> None:
    """The envelope is taken off first."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {"body": "ok"}}
    read = FieldMapping({"text": "body"})(record(event, ("content-type", b"application/cloudevents+json")), Review)
    assert read.text == "ok"


def test_a_tombstone_is_skipped() -> None:
    """Like everywhere."""
    with pytest.raises(Skip):
        FieldMapping({"text": "body"})(Record("t", 0, 0, None, None, (), 0), Review)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"payload":{}}', "text: Field required (mapped: text from payload.body)"),
        (b'{"payload":[]}', "text: Field required (mapped: text from payload.body)"),
        (b'{"payload":{"body":5}}', "text: Input should be a valid string (mapped: text from payload.body)"),
        (b'{"payload":{"body":"x"},"stars":"many"}', "stars: Input should be a valid integer"),
        (b"[1]", "(event): is no JSON object"),
        (b"", "the value is empty"),
        (b"{", "Invalid JSON: EOF"),
    ],
)
def test_what_is_missing_is_told_in_the_producers_names(value: bytes, said: str) -> None:
    """The reader of a dead letter knows the producer's names, not ours."""
    with pytest.raises(Undecodable) as refused:
        FieldMapping({"text": "payload.body"})(Record("t", 0, 0, None, value, (), 0), Review)
    assert str(refused.value).startswith(said)


def test_an_unknown_field_is_told_when_the_task_is_declared() -> None:
    """Before the first event, with the fields there are."""
    with pytest.raises(TaskError, match=r"Review has no field 'txt'.*text, stars, author"):
        declared({"txt": "body"})
    assert declared({"text": "body"}).decode is not None


@pytest.mark.parametrize("path", ["", ".", "a..b", "a."])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    """An empty name in a path is a slip of the pen."""
    with pytest.raises(TaskError, match="needs a path such as"):
        FieldMapping({"text": path})
