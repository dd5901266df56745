"""Structured output: schemas that the API takes are satisfied, all others are rejected in its words."""

import json
import re
import uuid
from datetime import date, datetime, time
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.simulator.patterns import PatternError, parse_pattern
from simulator_calls import Account, batch, message, text_of


def closed(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """An object that the API takes."""
    names = list(properties) if required is None else required
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": names, **more}


def asking(schema: Any) -> dict[str, Any]:
    return message("some text to judge", output_config={"format": {"type": "json_schema", "schema": schema}})


STRING = {"type": "string"}
MANY = {f"f{at}": STRING for at in range(25)}
REJECTED = {
    "open object": ({"type": "object", "properties": {}}, "'additionalProperties' must be explicitly set to false"),
    "open object inside": (closed({"a": {"type": "object"}}), "'additionalProperties' must be explicitly set to false"),
    "minimum": (closed({"a": {"type": "integer", "minimum": 1}}), "property 'minimum' is not supported"),
    "two keywords": (closed({"a": {"type": "integer", "minimum": 1, "maximum": 2}}), "maximum, minimum"),
    "maxLength": (closed({"a": {"type": "string", "maxLength": 5}}), "property 'maxLength' is not supported"),
    "maxItems": (closed({"a": {"type": "array", "items": STRING, "maxItems": 2}}), "property 'maxItems' is not supported"),
    "minItems above one": (closed({"a": {"type": "array", "items": STRING, "minItems": 2}}), "other than 0 or 1"),
    "array without items": (closed({"a": {"type": "array"}}), "'items' is required"),
    "oneOf": (closed({"a": {"oneOf": [STRING]}}), "not supported"),
    "format": (closed({"a": {"type": "string", "format": "colour"}}), "format 'colour' is not supported"),
    "lookahead": (closed({"a": {"type": "string", "pattern": "(?=x)x"}}), "pattern is not supported"),
    "back reference": (closed({"a": {"type": "string", "pattern": r"(a)\1"}}), "pattern is not supported"),
    "recursion": (closed({"a": {"$ref": "#/$defs/n"}}, **{"$defs": {"n": closed({"b": {"$ref": "#/$defs/n"}})}}), "recursive"),
    "foreign reference": (closed({"a": {"$ref": "https://example.com/s"}}), "External schema references"),
    "reference to nothing": (closed({"a": {"$ref": "#/$defs/none"}}), "leads nowhere"),
    "enum of objects": (closed({"a": {"enum": [{}]}}), "'enum' and 'const' support"),
    "empty enum": (closed({"a": {"enum": []}}), "at least one value"),
    "25 optional": (closed(MANY, []), "too many optional parameters (25)"),
    "17 unions": (closed({f"u{at}": {"type": ["string", "null"]} for at in range(17)}), "union types (17"),
    "required of nothing": (closed({}, ["x"]), "'required' names properties"),
    "strange type": (closed({"a": {"type": "date"}}), "'date' is not a supported type"),
    "no type": (closed({"a": {}}), "must have a 'type'"),
    "allOf of references": (closed({"a": {"allOf": [{"$ref": "#/$defs/x"}]}}, **{"$defs": {"x": STRING}}), "'allOf' with '$ref'"),
    "too large": (closed({"a": {"enum": [str(at) for at in range(6000)]}}), "too complex"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED)
def test_rejects_schemas_outside_the_subset(case):
    """Each keyword and limit of the subset is a 400 that names it."""
    schema, words = REJECTED[case]
    status, kind, said = Account().refusal(asking(schema))
    assert (status, kind) == (400, "invalid_request_error")
    assert words in said


def test_limits_count_strict_tools_too():
    """24 optional parameters are the limit over all strict schemas of a request."""
    half = closed(dict.fromkeys([*MANY][:13], STRING), [])
    tool = {"name": "t", "input_schema": half}
    account = Account()
    body = asking(half)
    assert account.send(body | {"tools": [tool]}).status == 200
    assert "(26)" in account.refusal(body | {"tools": [tool | {"strict": True}]})[2]


scalars = st.one_of(
    st.just({"type": "integer"}),
    st.just({"type": "number"}),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just(STRING),
    st.sampled_from(["date-time", "time", "date", "email", "uri", "ipv4", "ipv6", "uuid"]).map(lambda f: {"type": "string", "format": f}),
    st.sampled_from(["[a-z]{2,4}-[0-9]+", r"^\d{3}$", "(?:ab|cd)*x?", r"[^a-c]\.\w", "a{2}b{1,}|z"]).map(lambda p: {"type": "string", "pattern": p}),
    st.lists(st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none()), min_size=1, max_size=4).map(lambda v: {"enum": v}),
    st.one_of(st.text(max_size=5), st.integers()).map(lambda value: {"const": value}),
    st.lists(st.sampled_from(["string", "integer", "null", "boolean"]), min_size=1, max_size=3, unique=True).map(lambda t: {"type": t}),
    st.just({"$ref": "#/$defs/shared"}),
    st.just({"allOf": [{"type": "string"}, {"enum": ["a", "b"]}]}),
    st.just({"type": ["integer", "string"], "enum": [1, "x"], "description": "d: 1=one. Words"}),
)  # fmt: skip
NAMES = [
    "decision",
    "violations",
    "evidence",
    "reason",
    "sentiment",
    "aspects",
    "summary",
    "language",
    "confidence",
    "i",
    "r",
    "zz",
]


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.dictionaries(st.sampled_from(NAMES), inner, max_size=4).flatmap(
        lambda fields: st.lists(st.sampled_from([*fields] or [""]), unique=True).map(
            lambda names: closed(fields, [name for name in names if name in fields])
        )
    )
    arrays = st.tuples(inner, st.sampled_from([0, 1])).map(
        lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1]}
    )
    unions = st.lists(inner, min_size=1, max_size=3).map(lambda ways: {"anyOf": ways})
    return st.one_of(objects, arrays, unions)


schemas = st.dictionaries(st.sampled_from(NAMES), st.recursive(scalars, nested, max_leaves=6), max_size=4).map(
    lambda fields: closed(fields, [*fields][:2], **{"$defs": {"shared": {"type": "string", "enum": ["p", "q"]}}})
)
CHECKS = {
    "date-time": datetime.fromisoformat,
    "time": time.fromisoformat,
    "date": date.fromisoformat,
    "uuid": uuid.UUID,
    "ipv4": ip_address,
    "ipv6": ip_address,
}
TYPES = {"string": str, "boolean": bool, "null": type(None), "object": dict, "array": list}


def faults_of(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """An independent reading of JSON Schema, as far as the subset goes."""
    if "$ref" in schema:
        return faults_of(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    found = []
    if "const" in schema and value != schema["const"]:
        found.append(f"{value!r} is not {schema['const']!r}")
    if "enum" in schema and not any(value == each and type(value) is type(each) for each in schema["enum"]):
        found.append(f"{value!r} not in {schema['enum']}")
    for part in schema.get("allOf", []):
        found += faults_of(value, part, root)
    if "anyOf" in schema and all(faults_of(value, way, root) for way in schema["anyOf"]):
        found.append(f"{value!r} fits no way")
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if types and not any(_is(value, name) for name in types):
        found.append(f"{value!r} is no {types}")
    return found + _inner_faults(value, schema, root)


def _is(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def _inner_faults(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{key} is missing" for key in schema["required"] if key not in value]
        found += [f"{key} is strange" for key in value if key not in schema["properties"]]
        for key in value.keys() & schema["properties"].keys():
            found += faults_of(value[key], schema["properties"][key], root)
    if isinstance(value, list) and "items" in schema:
        found += [fault for each in value for fault in faults_of(each, schema["items"], root)]
        found += ["too few"] * (len(value) < schema.get("minItems", 0))
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{value!r} does not match")
        CHECKS.get(schema.get("format", ""), str)(value)
    return found


@settings(max_examples=150)
@given(schemas, st.text(max_size=60))
def test_reply_satisfies_any_supported_schema(schema, text):
    """Whatever the schema and the text, the reply is JSON that an independent validator takes."""
    body = asking(schema) | {"messages": [{"role": "user", "content": text or "x"}], "max_tokens": 100_000}
    exchange = Account(seed=len(text)).send(body)
    if exchange.status == 400:
        assert b"too many" in exchange.body
        return
    value = json.loads(text_of(json.loads(exchange.body)))
    assert faults_of(value, schema, schema) == []


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(st.text(max_size=80), st.dictionaries(st.text(max_size=4), st.text(max_size=9), max_size=3)),
        max_size=8,
    )
)
def test_micro_batch_reply_satisfies_its_schema(events):
    """One entry per event under its id, in order, and each satisfies the schema, whatever the texts are."""
    body = batch(*events, max_tokens=100_000)
    schema = body["output_config"]["format"]["schema"]
    value = json.loads(text_of(Account().reply(body)))
    assert faults_of(value, schema, schema) == []
    if events:
        assert [entry["i"] for entry in value["r"]] == [f"a{at}" for at in range(len(events))]


@given(st.from_regex(r"(?:[a-f]{1,3}|[0-9]|x\?|\(y\)){1,4}", fullmatch=True), st.integers(0, 1 << 40))
def test_written_strings_match_their_pattern(pattern, seed):
    """What the pattern writer writes, Python's own engine accepts."""
    written = parse_pattern(f"^(?:{pattern}|[^-\\]a]+\\d{{2,3}})$").write(lambda below: seed % below)
    assert re.fullmatch(f"(?:{pattern}|[^-\\]a]+\\d{{2,3}})", written)


@pytest.mark.parametrize("pattern", ["(", "a)", "[", "[b-a]", "*a", "a{3,1}", "a{x}", r"\b", "a$b", "(?P<n>a)", r"\1"])
def test_patterns_that_are_not_simple(pattern):
    """Each is named as not supported rather than read wrongly."""
    with pytest.raises(PatternError):
        parse_pattern(pattern)


def test_schema_is_compiled_once():
    """The first use of a schema takes longer, as at the API; the second does not."""
    account = Account(schema_compile_ms=500)
    first, second = account.send(batch("x")), account.send(batch("y"))
    assert (first.delay_seconds, second.delay_seconds) == (0.5, 0.0)
