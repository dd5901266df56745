"""Any output model becomes a terse schema that the API takes, and entries come back as that model's input."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel

from penstock.claude import codes
from penstock.claude.schema import check_output_model, make_form
from penstock.errors import TaskError

TAKEN_KEYWORDS = {"type", "enum", "items", "properties", "required", "additionalProperties", "description", "anyOf", "format"}  # fmt: skip


class Clause(enum.Enum):
    """Rules."""

    ADS = "spam.advertising"
    LINKS = "spam.links"
    INSULT = "abuse.insult"


class Quote(BaseModel):
    """Where it is seen."""

    text: str = Field(max_length=80)
    clause: Clause


class Verdict(BaseModel):
    """A model with one of everything."""

    decision: Literal["publish", "hold", "reject"] = Field(description="What happens\n to the review.")
    clauses: list[Clause] = []
    quotes: list[Quote] = Field(default_factory=list)
    score: int = Field(default=0, ge=0, le=10)
    ratio: float | None = None
    seen: dt.date | None = None
    price: Decimal = Decimal(0)
    owner: UUID | None
    language: Literal["en", "de", "pt-BR"] = "en"
    is_urgent: bool = False
    level: Literal[1, 2, 3] = 1
    extra: int | Quote | None = None


def entry_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one entry of a reply."""
    return make_form(model).schema["properties"]["r"]["items"]


def walk(schema: Any):
    """All schemas within a schema."""
    if isinstance(schema, dict):
        yield schema
        for key in ("items", "anyOf"):
            for part in schema.get(key, []) if key == "anyOf" else [schema.get(key)]:
                yield from walk(part)
        for part in schema.get("properties", {}).values():
            yield from walk(part)


def test_the_schema_is_what_the_wire_format_says() -> None:
    """Short keys, codes with their legend, the user's words, required fields first, defaults left out."""
    schema = make_form(Verdict).schema
    assert (schema["required"], schema["additionalProperties"]) == (["r"], False)
    entry = entry_schema(Verdict)
    assert list(entry["properties"])[:4] == ["i", "c", "d", "o"]
    assert entry["required"] == ["i", "c", "d", "o"]
    assert entry["properties"]["i"] == {"type": "string", "description": "id of the event"}
    assert entry["properties"]["c"]["enum"] == ["s", "l", "u"]
    assert entry["properties"]["d"] == {
        "type": "string",
        "enum": ["p", "h", "r"],
        "description": "decision: p=publish, h=hold, r=reject. What happens to the review",
    }
    descriptions = [part["description"] for part in entry["properties"].values()]
    assert any(d.startswith("clauses: 1=spam.advertising, 2=spam.links, 3=abuse.insult") for d in descriptions)
    assert "score. at least 0, at most 10. Left out where 0" in descriptions


def test_the_schema_stays_inside_what_the_api_takes() -> None:
    """No keyword that the API rejects; every object is closed; no union for what may simply be left out."""
    unions = 0
    for part in walk(make_form(Verdict).schema):
        assert set(part) <= TAKEN_KEYWORDS
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert set(part["required"]) <= set(part["properties"])
        unions += "anyOf" in part
    assert unions == 3  # owner has no default, extra is two things, a Decimal number or string


def test_an_entry_comes_back_as_the_models_input() -> None:
    """Keys and codes (in any case) are turned back into names and values that the model accepts."""
    form = make_form(Verdict)
    keys = {d["description"].split(":")[0].split(".")[0]: k for k, d in entry_schema(Verdict)["properties"].items()}
    quote_keys = list(entry_schema(Verdict)["properties"][keys["quotes"]]["items"]["properties"])
    entry = {
        "i": "abcde",
        "c": "L",
        keys["decision"]: "R",
        keys["clauses"]: ["3", "1"],
        keys["quotes"]: [{quote_keys[0]: "you fool", quote_keys[1]: "3"}],
        keys["owner"]: None,
        keys["seen"]: "2026-11-23",
        keys["price"]: 1.25,
        keys["language"]: "PT-br",
        keys["extra"]: {"text": "x", "clause": "ABUSE.insult"},
    }
    content, confidence = form.read(entry)
    verdict = Verdict.model_validate_json(json.dumps(content))
    assert confidence == "likely"
    assert verdict == Verdict(
        decision="reject",
        clauses=[Clause.INSULT, Clause.ADS],
        quotes=[Quote(text="you fool", clause=Clause.INSULT)],
        owner=None,
        seen=dt.date(2026, 11, 23),
        price=Decimal("1.25"),
        language="pt-BR",
        extra=Quote(text="x", clause=Clause.INSULT),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"d": "x"},
        {"d": None},
        {"d": ["p"]},
        {"c": "maybe"},
        {"c": 1},
        {"c": None},
        {"o": 7},
        {"unknown": 1},
        {"d": ...},
        {"o": ...},
    ],
)
def test_an_entry_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """Wrong types, unknown codes and keys and missing fields raise ValueError, nothing else."""
    entry = {"i": "abcde", "c": "s", "d": "p", "o": None, **change}
    with pytest.raises(ValueError):
        make_form(Verdict).read({key: value for key, value in entry.items() if value is not ...})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("icdosexr"), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("icdosexrlp"), json_values))
def test_any_entry_is_read_or_refused(entry: dict[str, Any]) -> None:
    """Whatever JSON stands in an entry, reading it ends in a value or a ValueError."""
    try:
        content, confidence = make_form(Verdict).read(entry)
    except ValueError:
        return
    assert confidence in ("sure", "likely", "unsure")
    assert set(content) <= set(Verdict.model_fields)


def test_confidence_is_asked_for_once() -> None:
    """A field of the output that is the confidence bin itself is filled from the entry's `c`."""

    class Sure(BaseModel):
        label: str
        confidence: Literal["sure", "likely", "unsure"]

    assert list(entry_schema(Sure)["properties"]) == ["i", "c", "l"]
    content, confidence = make_form(Sure).read({"i": "a", "c": "u", "l": "x"})
    assert (content, confidence) == ({"label": "x", "confidence": "unsure"}, "unsure")


def test_aliases_are_what_the_model_takes() -> None:
    """A field with an alias is read back under the alias."""

    class Aliased(BaseModel):
        kind: str = Field(alias="Kind")

    class ByName(Aliased):
        model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)

    assert make_form(Aliased).read({"i": "a", "c": "s", "k": "x"})[0] == {"Kind": "x"}
    assert make_form(ByName).read({"i": "a", "c": "s", "k": "x"})[0] == {"kind": "x"}


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Cow(BaseModel):
    kind: Literal["cow"]
    litres: float


def test_alternatives_are_never_mixed_up() -> None:
    """Models that share first letters, behind one union, are each read as what they are."""

    class Animal(BaseModel):
        it: Annotated[Cat | Cow, Field(discriminator="kind")]

    form = make_form(Animal)
    (key,) = set(form.schema["properties"]["r"]["items"]["required"]) - {"i", "c"}
    for animal in (Cat(kind="cat", lives=9), Cow(kind="cow", litres=20.5)):
        content, _ = form.read({"i": "a", "c": "s", key: animal.model_dump()})
        assert Animal.model_validate(content).it == animal


class Node(BaseModel):
    """Contains itself."""

    children: list[Node] = []
    name: str


class Names(RootModel[list[str]]):
    """A bare list."""


def many(count: int, kind: Any, **default: Any) -> type[BaseModel]:
    """A model with so many alike fields."""
    space = {f"f{n}": default["default"] for n in range(count)} if default else {}
    return type("Many", (BaseModel,), {"__annotations__": {f"f{n}": kind for n in range(count)}, **space})


class Open(BaseModel):
    counts: dict[str, int]


class Anything(BaseModel):
    value: Any


class Pair(BaseModel):
    pair: tuple[int, str]


class Callback(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    call: Callable[[], int]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Node, "children.*Node contains itself"),
        (Open, "counts.*list of a model"),
        (Anything, "value.*says nothing"),
        (Pair, "pair.*lists of one type"),
        (Callback, "call|Callback"),
        (Names, "named fields"),
        (many(25, int, default=0), "f24.*25 fields have a default.*24"),
        (many(17, int | str), "f16.*17 fields are unions.*16"),
    ],
)
def test_what_cannot_be_asked_for_is_said_with_what_to_change(model: type[BaseModel], says: str) -> None:
    """A model that no schema can express is refused at the start, naming the field and the way out."""
    with pytest.raises(TaskError, match=says):
        check_output_model(model)


def test_models_at_the_limits_are_fine() -> None:
    """24 optional fields and 16 unions still fit."""
    check_output_model(many(24, int, default=0))
    check_output_model(many(16, int | str))


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True))
def test_every_code_leads_back_to_its_value(values: list[str]) -> None:
    """Codes never differ only by case, and each leads back to its own value, also in upper case."""
    by_code = codes.values(values)
    assert list(by_code.values()) == values
    assert len({code.lower() for code in by_code}) == len(values)
    read = codes.reader(by_code)
    for code, value in by_code.items():
        assert read(code) == value
        if code.upper().lower() == code.lower():
            assert read(code.upper()) == value


@given(st.lists(st.text(max_size=6), max_size=40, unique=True))
def test_keys_are_short_and_different(names: list[str]) -> None:
    """Every name gets a key of its own, none of them reserved."""
    keys = codes.keys(names, taken=("i", "c"))
    assert len({*keys.values(), "i", "c"}) == len(names) + 2
