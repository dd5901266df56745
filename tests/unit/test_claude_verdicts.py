"""A verdict that was given before is the same object: nobody may be able to tell, but by the time it takes."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    computed_field,
    field_serializer,
    model_validator,
)

from fakes import ScriptedTier, make_task
from penstock.claude.schema import make_form
from penstock.claude.verdicts import LONGEST_KNOWN_BYTES, Verdicts, is_plain


class Part(BaseModel):
    """A model in a model."""

    kind: Literal["a", "b"]
    names: list[str] = []


class Plain(BaseModel):
    """Nothing of the user's runs when it is made."""

    decision: Literal["publish", "hold"]
    stars: int = Field(3, ge=1, le=5)
    day: dt.date | None = None
    parts: list[Part] = Field(default_factory=list)
    note: str = ""


class Named(BaseModel):
    """Each has a name of its own."""

    decision: str
    name: str = Field(default_factory=lambda: uuid.uuid4().hex)


class Annotating(BaseModel):
    """A function is hidden in a type."""

    decision: Annotated[str, AfterValidator(str.upper)]


class Deep(BaseModel):
    """A function is hidden in a model inside."""

    inner: list[Annotating]


class Whole(BaseModel):
    """A function looks at all of it."""

    decision: str

    @model_validator(mode="after")
    def look(self) -> Whole:
        """Look."""
        return self


class Counting(BaseModel):
    """Written anew each time."""

    decision: str

    @computed_field
    @property
    def at(self) -> str:
        """Now."""
        return dt.datetime.now(dt.UTC).isoformat()


class Writing(BaseModel):
    """Written by a function."""

    decision: str

    @field_serializer("decision")
    def write(self, decision: str) -> str:
        """Write it."""
        return decision


class Making(BaseModel):
    """Made by a function."""

    decision: str

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)


class After(BaseModel):
    """A function runs behind its making."""

    decision: str

    def model_post_init(self, _: Any) -> None:
        """Run."""


class Choosing(BaseModel):
    """A function chooses among models."""

    part: Annotated[Annotated[Part, Tag("part")] | Annotated[Plain, Tag("plain")], Discriminator(lambda value: "part")]


class Later(BaseModel):
    """Not built yet: nothing is known of it."""

    model_config = ConfigDict(defer_build=True)
    decision: Annotated[str, AfterValidator(str.upper)]


def verdicts(model: type[BaseModel], **options: Any) -> Verdicts:
    return Verdicts(make_task(ScriptedTier(), output=model, **options), make_form(model))


@pytest.mark.parametrize("model", [Named, Annotating, Deep, Whole, Counting, Writing, Making, After, Choosing, Later])
def test_where_code_of_the_user_runs_nothing_is_remembered(model: type[BaseModel]):
    """An output that a function makes, looks at or writes may differ from time to time."""
    assert not is_plain(model)


def test_plain_models_are_remembered():
    """Literals, bounds, dates, models inside and empty defaults run nobody's code."""
    assert is_plain(Plain)
    known = verdicts(Plain)
    first, again = (known.read({"i": i, "c": "s", "d": "p"}) for i in ("one", "two"))
    assert first.output is again.output
    assert first.json == first.output.model_dump_json().encode()


def test_what_a_hook_is_shown_is_its_own():
    """A hook may change what it is given: no other event may have that output."""
    for hook in ({"validate": lambda event, output: None}, {"finish": lambda event, output: output}):
        known = verdicts(Plain, **hook)
        first, again = (known.read({"i": "x", "c": "s", "d": "p"}) for _ in range(2))
        assert first.output == again.output
        assert first.output is not again.output
        assert first.json == b""


def test_a_sentence_of_its_own_takes_no_room():
    """Long entries come once: they are read, and not kept."""
    known = verdicts(Plain)
    entry = {"i": "x", "c": "s", "d": "p", "n": "x" * LONGEST_KNOWN_BYTES}
    assert known.read(entry).output is not known.read(entry).output


entries = st.fixed_dictionaries(
    {},
    optional={
        "i": st.sampled_from(["one", "two", 3]),
        "c": st.sampled_from(["s", "S", "sure", "u", "x", 1, None]),
        "d": st.sampled_from(["p", "P", "hold", "x", None, 1]),
        "s": st.sampled_from([1, 5, 9, "3", True, 1.0]),
        "a": st.sampled_from(["2026-11-29", "never"]),
        "p": st.lists(st.fixed_dictionaries({"kind": st.sampled_from(["a", "b", "c"])}), max_size=2),
        "n": st.sampled_from(["", "é", "a note"]),
        "z": st.just(0),
    },
)


@given(st.lists(entries, max_size=30))
def test_to_remember_changes_nothing(given_entries: list[dict[str, Any]]):
    """Whatever came before: an entry is read, or refused in the same words, as by one who remembers nothing."""
    known, fresh = verdicts(Plain), verdicts(Plain, validate=lambda event, output: None)

    def read(by: Verdicts, entry: dict[str, Any]) -> Any:
        try:
            return by.read(entry)[:2]
        except ValidationError as error:
            return error.errors()
        except ValueError as error:
            return str(error)

    for entry in given_entries:
        before = dict(entry)
        assert read(known, entry) == read(fresh, entry)
        assert entry == before
