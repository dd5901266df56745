"""Compiles a JSON schema into writers of values that satisfy it: recorded ones, plain-word ones, else hashed ones.

schema → [writers] → replies
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from penstock.simulator.patterns import parse_pattern
from penstock.simulator.roles import Codes, Draw, Label, chooser, clauses, flag_role, number_role, read_label, text_role

MISSING: Any = object()
"""Stands for: this value does not fit here."""
MAX_ASPECTS = 5
FORMATTED: dict[str, Callable[[int], str]] = {
    "date-time": lambda n: f"2026-0{n % 9 + 1}-1{n % 10}T0{n % 10}:30:00Z",
    "time": lambda n: f"0{n % 10}:30:00Z",
    "date": lambda n: f"2026-0{n % 9 + 1}-1{n % 10}",
    "duration": lambda n: f"P{n % 9 + 1}D",
    "email": lambda n: f"person{n % 1000}@example.com",
    "hostname": lambda n: f"host{n % 1000}.example.com",
    "uri": lambda n: f"https://example.com/{n % 1000}",
    "ipv4": lambda n: f"192.0.2.{n % 254 + 1}",
    "ipv6": lambda n: f"2001:db8::{n % 9999:x}",
    "uuid": lambda n: f"00000000-0000-4000-8000-{n % 10**12:012d}",
}


class Writer(Protocol):
    """Writes one value of a reply."""

    def write(self, draw: Draw) -> Any:
        """A value that satisfies the schema."""
        ...

    def encode(self, value: Any) -> Any:
        """A recorded value as the schema wants it (codes for meanings), or `MISSING`."""
        ...


class Const:
    """The only value there is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def write(self, draw: Draw) -> Any:  # noqa: ARG002 — the contract
        return self._value

    def encode(self, value: Any) -> Any:
        return self._value if value == self._value else MISSING


class Choice:
    """One of a few values, found by what they mean."""

    def __init__(self, values: list[Any], label: Label) -> None:
        self.codes: Codes = [(value, label.meanings.get(str(value), str(value).lower())) for value in values]
        self._by_meaning = {meaning: code for code, meaning in reversed(self.codes)}
        self._choose = chooser(label, self.codes)

    def write(self, draw: Draw) -> Any:
        return self._choose(draw)

    def encode(self, value: Any) -> Any:
        if isinstance(value, str):
            found = self._by_meaning.get(value.lower(), MISSING)
            if found is not MISSING:
                return found
        return next((code for code, _ in self.codes if code == value and type(code) is type(value)), MISSING)


class Text:
    """A string: by pattern, by format, or by what its field is called."""

    def __init__(self, schema: dict[str, Any], label: Label) -> None:
        self._pattern = parse_pattern(schema["pattern"]) if "pattern" in schema else None
        self._format = FORMATTED.get(schema.get("format", ""))
        self._say = text_role(label)
        self._free = self._pattern is None and self._format is None

    def write(self, draw: Draw) -> str:
        if self._pattern is not None:
            picks = iter(range(1, 1 << 30))
            return self._pattern.write(lambda below: draw.pick(below, next(picks)))
        if self._format is not None:
            return self._format(draw.pick(1 << 30))
        return self._say(draw)

    def encode(self, value: Any) -> Any:
        return value if isinstance(value, str) and self._free else MISSING


class Number:
    """An integer, or any number."""

    def __init__(self, label: Label, *, whole: bool) -> None:
        self._say = number_role(label)
        self._whole = whole
        self._share = not whole and bool(label.words & {"confidence", "probability", "score", "likelihood"})

    def write(self, draw: Draw) -> int | float:
        if self._share:
            return round(0.5 + draw.pick(500, 29) / 1000, 3)
        return self._say(draw)

    def encode(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return MISSING
        return value if not self._whole or value == int(value) else MISSING


class Flag:
    """True or false."""

    def __init__(self, label: Label) -> None:
        self._say = flag_role(label)

    def write(self, draw: Draw) -> bool:
        return self._say(draw)

    def encode(self, value: Any) -> Any:
        return value if isinstance(value, bool) else MISSING


class Listed:
    """An array: violated clauses, aspects spoken of, or a few of what its items are."""

    def __init__(self, item: Writer, label: Label, least: int) -> None:
        self.item = item
        self._least = least
        self._clauses = clauses(item.codes) if isinstance(item, Choice) else None
        self._aspects = bool(label.words & {"aspects", "topics", "features", "themes"})
        self._distinct = isinstance(item, Choice)

    def write(self, draw: Draw) -> list[Any]:
        if self._clauses is not None:
            values = self._clauses(draw)
        elif self._aspects:
            spoken = draw.profile.aspects[:MAX_ASPECTS]
            values = [self.item.write(Draw(draw.profile, draw.line, focus=aspect, salt=at)) for at, aspect in enumerate(spoken)]  # fmt: skip
        else:
            few = max(draw.pick(3, 31), self._least)
            values = [
                self.item.write(Draw(draw.profile, draw.line, focus=draw.focus, salt=at + 1)) for at in range(few)
            ]
        if self._distinct:
            values = list(dict.fromkeys(values))
        return values if len(values) >= self._least else [self.item.write(draw)]

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) < self._least:
            return MISSING
        encoded = [self.item.encode(entry) for entry in value]
        return MISSING if any(entry is MISSING for entry in encoded) else encoded


class Record:
    """An object: required properties first, optional ones only where they say something."""

    def __init__(self, fields: list[tuple[str, str, Writer, bool, Any]]) -> None:
        self.fields = sorted(fields, key=lambda entry: not entry[3])
        self.by_key = {key: writer for key, _, writer, _, _ in fields}

    def write(self, draw: Draw) -> dict[str, Any]:
        answers = draw.answers
        written: dict[str, Any] = {}
        for key, name, writer, required, default in self.fields:
            value = MISSING
            if answers is not None and name in answers:
                value = writer.encode(answers[name])
            if value is MISSING:
                value = writer.write(draw)
            if required or not (value is None or value in ("", []) or value == default):
                written[key] = value
        return written

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return MISSING
        encoded: dict[str, Any] = {}
        for key, name, writer, required, default in self.fields:
            given = value.get(name, value.get(key, MISSING))
            if given is MISSING:
                if required:
                    return MISSING
                continue
            part = writer.encode(given)
            if part is MISSING:
                return MISSING
            if required or part != default:
                encoded[key] = part
        return encoded


class Union:
    """One of several schemas: the first that says something, null where none does."""

    def __init__(self, ways: list[Writer]) -> None:
        self._ways = ways
        self._null = next((way for way in ways if way.encode(None) is None), None)

    def write(self, draw: Draw) -> Any:
        first = next((way for way in self._ways if way is not self._null), self._ways[0])
        value = first.write(draw)
        return None if self._null is not None and value in ("", []) else value

    def encode(self, value: Any) -> Any:
        for way in self._ways:
            encoded = way.encode(value)
            if encoded is not MISSING:
                return encoded
        return MISSING


def compile_writer(schema: dict[str, Any]) -> Writer:
    """A writer for a schema that the API accepts."""
    return _compile(schema, schema, "")


def _compile(schema: Any, root: dict[str, Any], key: str) -> Writer:
    schema = _resolved(schema, root)
    label = read_label(key, schema.get("description"))
    if "const" in schema:
        return Const(schema["const"])
    if schema.get("enum"):
        return Choice(
            [value for value in schema["enum"] if _has_type(value, schema.get("type"))] or schema["enum"], label
        )
    if "anyOf" in schema:
        rest = {name: value for name, value in schema.items() if name != "anyOf"}
        return Union([_compile(_merged(rest, _resolved(way, root)), root, key) for way in schema["anyOf"]])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        return Union([_compile({**schema, "type": name}, root, key) for name in kind])
    return _compile_type(kind, schema, root, label)


def _compile_type(kind: str, schema: dict[str, Any], root: dict[str, Any], label: Label) -> Writer:
    if kind == "object":
        return _compile_object(schema, root)
    if kind == "array":
        inherited = {"description": schema["description"]} if "description" in schema else {}
        item = _compile({**inherited, **schema.get("items", {"type": "string"})}, root, label.name)
        return Listed(item, label, int(schema.get("minItems", 0)))
    if kind in ("integer", "number"):
        return Number(label, whole=kind == "integer")
    if kind == "boolean":
        return Flag(label)
    return Const(None) if kind == "null" else Text(schema, label)


def _compile_object(schema: dict[str, Any], root: dict[str, Any]) -> Record:
    required = set(schema.get("required", ()))
    fields: list[tuple[str, str, Writer, bool, Any]] = []
    for key, part in schema.get("properties", {}).items():
        resolved = _resolved(part, root)
        name = read_label(key, resolved.get("description")).name
        fields.append((key, name, _compile(part, root, key), key in required, resolved.get("default", MISSING)))
    return Record(fields)


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference and join `allOf`; what stands beside them holds too."""
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"][2:].split("/"):
            target = target[step]
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return _resolved(_merged(target, rest), root)
    if "allOf" in schema:
        joined = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            joined = _merged(joined, _resolved(part, root))
        return joined
    return dict(schema)


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What satisfies both. Closed objects keep the properties that both know."""
    merged = {**one, **other}
    if "enum" in one and "enum" in other:
        merged["enum"] = [value for value in one["enum"] if value in other["enum"]]
    if "type" in one and "type" in other:
        merged["type"] = _common_type(one["type"], other["type"])
    if "properties" in one and "properties" in other:
        shared = one["properties"].keys() & other["properties"].keys()
        merged["properties"] = {
            key: {"allOf": [one["properties"][key], other["properties"][key]]}
            for key in one["properties"]
            if key in shared
        }
    if "required" in one or "required" in other:
        merged["required"] = [*dict.fromkeys([*one.get("required", ()), *other.get("required", ())])]
    if "minItems" in one and "minItems" in other:
        merged["minItems"] = max(one["minItems"], other["minItems"])
    return merged


def _common_type(one: Any, other: Any) -> Any:
    ones = one if isinstance(one, list) else [one]
    others = other if isinstance(other, list) else [other]
    common = [name for name in ones if name in others or (name == "integer" and "number" in others)]
    common += [name for name in others if name == "integer" and "number" in ones and name not in common]
    return common[0] if len(common) == 1 else common or one


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _has_type(value: Any, wanted: Any) -> bool:
    if wanted is None:
        return True
    names = wanted if isinstance(wanted, list) else [wanted]
    return any(
        isinstance(value, _PYTHON_TYPES.get(name, ())) and (name == "boolean" or not isinstance(value, bool))
        for name in names
    )
