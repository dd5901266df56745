"""The terse reply schema of a user's output model, and the way back from an entry to that model's input.

task → [schema] → prompt → reply
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from penstock.claude import codes, hints, readers
from penstock.claude.readers import Read
from penstock.errors import TaskError
from penstock.outcome import CONFIDENCES, Confidence

MAX_OPTIONAL = 24
MAX_UNIONS = 16
"""The API's limits per schema."""

_CONFIDENCE_CODES: dict[str, Confidence] = {"s": "sure", "l": "likely", "u": "unsure"}
_NO_CONFIDENCE = "c: not one of s, l, u"
_CONFIDENCE = {
    "type": "string",
    "enum": list(_CONFIDENCE_CODES),
    "description": "confidence: " + ", ".join(f"{code}={word}" for code, word in _CONFIDENCE_CODES.items()),
}
_ID = {"type": "string", "description": "id of the event"}


class Size(NamedTuple):
    """Output tokens of a value: a first guess, until replies have taught better."""

    typical: int
    ceiling: int


class Node(NamedTuple):
    """One value of the schema: how it is written, and how it is read back."""

    schema: dict[str, Any]
    read: Read
    size: Size
    codes: str = ""


class Form:
    """How entries of one output model look: their JSON schema, their size, and `read` for the way back."""

    __slots__ = ("_properties", "has_confidence", "schema", "size")

    def __init__(self, schema: dict[str, Any], properties: _Properties, size: Size, *, has_confidence: bool) -> None:
        self.schema = schema
        """The whole reply's schema."""
        self.size = size
        """Of one entry."""
        self.has_confidence = has_confidence
        """The output model has a field `confidence` of the same three words: it is asked for once."""
        self._properties = properties

    def read(self, entry: dict[str, Any]) -> tuple[dict[str, Any], Confidence]:
        """The output model's input and the confidence; raises ValueError where the entry is not of this form."""
        code = entry.get("c")
        if not isinstance(code, str):
            raise ValueError(_NO_CONFIDENCE)  # noqa: TRY004  # the reply is at fault, not the caller
        confidence = _CONFIDENCE_CODES.get(code) or _CONFIDENCE_CODES.get(code.strip().lower()[:1])
        if confidence is None:
            raise ValueError(_NO_CONFIDENCE)
        content = self._properties.read(entry)
        if self.has_confidence:
            content["confidence"] = confidence
        return content, confidence


class _Properties:
    """Reads an object of short keys into one of full names."""

    __slots__ = ("_beside", "_fields")

    def __init__(self, by_key: dict[str, tuple[str, Read]], required: Iterable[str], beside: Iterable[str]) -> None:
        needed = frozenset(required)
        self._fields = [
            (key, name, read, read.exact if isinstance(read, codes.Reader) else {}, key in needed)
            for key, (name, read) in by_key.items()
        ]
        self._beside = frozenset(beside)
        """Keys of an entry that are read elsewhere."""

    def read(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("not an object")  # noqa: TRY004  # the reply is at fault, not the caller
        content: dict[str, Any] = {}
        for key, name, read, exact, is_needed in self._fields:
            if key in value:
                part = value[key]
                known = exact.get(part) if type(part) is str else None
                content[name] = read(part) if known is None else known
            elif is_needed:
                raise ValueError(f"{name}: missing")
        if len(value) != len(content) + len(self._beside) or not value.keys() >= self._beside:
            self._refuse_unknown(value)
        return content

    def _refuse_unknown(self, value: dict[str, Any]) -> None:
        if value.keys() - self._beside - {field[0] for field in self._fields}:
            raise ValueError("a key that the schema lacks")


def check_output_model(model: type[BaseModel]) -> None:
    """Raise TaskError, saying what to change, where a model can't be expressed in what the API takes as a schema."""
    make_form(model)


def make_form(model: type[BaseModel]) -> Form:
    """Derive the form of a reply from an output model."""
    try:
        source = model.model_json_schema(by_alias=model.model_config.get("validate_by_alias") is not False)
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError) as error:
        raise TaskError(
            f"output model {model.__name__}: {error.message.rstrip('.')}. Use defined types that JSON can hold"
        ) from error
    return _Compiler(model.__name__, source).form()


class _Compiler:
    def __init__(self, name: str, source: dict[str, Any]) -> None:
        self._name = name
        self._source = source
        self._definitions: dict[str, Any] = source.get("$defs", {})
        self._open: list[str] = []
        self._optional: list[str] = []
        self._unions: list[str] = []

    def form(self) -> Form:
        source, name = self._resolve(self._source)
        self._open.append(name)
        if "properties" not in source:
            raise self._error("", "give it named fields; a bare list or value is no record")
        fields = dict(source["properties"])
        has_confidence = set(_enumerated(fields.get("confidence", {}), self._definitions)) == set(CONFIDENCES)
        if has_confidence:
            del fields["confidence"]
        entry, properties, size = self._object({**source, "properties": fields}, "", taken=("i", "c"))
        entry["required"] = ["i", "c", *entry["required"]]
        entry["properties"] = {"i": _ID, "c": _CONFIDENCE, **entry["properties"]}
        self._check_limits()
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": ["r"],
            "properties": {"r": {"type": "array", "items": entry}},
        }
        frame = 14  # braces, id and confidence
        return Form(schema, properties, Size(size.typical + frame, size.ceiling + frame), has_confidence=has_confidence)

    def _object(
        self, source: dict[str, Any], path: str, taken: tuple[str, ...] = (), *, terse: bool = True
    ) -> tuple[dict[str, Any], _Properties, Size]:
        fields: dict[str, Any] = source["properties"]
        required = set(source.get("required", ()))
        ordered = sorted(fields, key=lambda name: name not in required)  # as the API writes them
        keys = codes.keys(ordered, taken) if terse else {name: name for name in ordered}
        properties: dict[str, Any] = {}
        by_key: dict[str, tuple[str, Read]] = {}
        typical = ceiling = 0
        for name in ordered:
            where = f"{path}.{name}" if path else name
            node = self._field(fields[name], name, where, optional=name not in required, terse=terse)
            properties[keys[name]] = node.schema
            by_key[keys[name]] = (name, node.read)
            typical += (node.size.typical + 3) // (1 if name in required else 3)
            ceiling += node.size.ceiling + 5
        needed = [keys[name] for name in ordered if name in required]
        schema = {"type": "object", "additionalProperties": False, "required": needed, "properties": properties}
        return schema, _Properties(by_key, needed, taken), Size(typical, ceiling)

    def _field(self, source: dict[str, Any], name: str, path: str, *, optional: bool, terse: bool) -> Node:
        if optional:
            self._optional.append(path)
            source = _without_null_default(source)
        node = self._node(source, path, terse=terse)
        about = " ".join(str(source.get("description") or self._resolve(source)[0].get("description") or "").split())
        texts = [about.rstrip("."), hints.limits(source), hints.default(source) if optional else ""]
        text = ". ".join(t for t in texts if t)
        described = f"{name}{': ' + node.codes if node.codes else ''}{'. ' + text if text else ''}"
        return node._replace(schema={**node.schema, "description": described})

    def _node(self, source: dict[str, Any], path: str, *, terse: bool) -> Node:
        source, name = self._resolve(source)
        if name and name in self._open:
            raise self._error(path, f"{name} contains itself; the API takes no recursion: say how deep it may go")
        if name:
            self._open.append(name)
        try:
            return self._resolved(source, path, terse=terse)
        finally:
            if name:
                self._open.pop()

    def _resolved(self, source: dict[str, Any], path: str, *, terse: bool) -> Node:
        values = [source["const"]] if "const" in source else source.get("enum")
        if values is not None:
            return self._enum(values, path, terse=terse)
        branches = source.get("anyOf") or source.get("oneOf")
        if branches:
            return self._union(branches, path, terse=terse)
        kind = source.get("type")
        if kind == "array":
            return self._array(source, path, terse=terse)
        if kind == "object":
            if not source.get("properties"):
                raise self._error(path, "a dict is open and the API takes closed objects only: use a list of a model")
            schema, properties, size = self._object(source, path, terse=terse)
            return Node(schema, properties.read, Size(size.typical + 2, size.ceiling + 2))
        if kind not in hints.SCALARS:
            raise self._error(path, "its type says nothing; write str, int, a Literal, a list or a model")
        return Node(
            hints.scalar(source), partial(readers.one_of_kinds, hints.SCALARS[kind]), Size(*hints.sizes(source))
        )

    def _enum(self, values: list[Any], path: str, *, terse: bool) -> Node:
        if not all(isinstance(v, str | int | float | bool | None) for v in values):
            raise self._error(path, "its values are no strings or numbers")
        size = Size(3, 4) if terse else Size(4, 8)
        if not all(isinstance(v, str) for v in values):
            return Node({"enum": values}, partial(readers.exactly, values), size)
        terse = terse and len(values) > 1
        by_code = codes.values(values) if terse else {value: value for value in values}
        legend = ", ".join(f"{code}={value}" for code, value in by_code.items())
        return Node({"type": "string", "enum": list(by_code)}, codes.reader(by_code), size, legend if terse else "")

    def _array(self, source: dict[str, Any], path: str, *, terse: bool) -> Node:
        if "prefixItems" in source or "items" not in source:
            raise self._error(path, "the API takes lists of one type: write list[…] or a model")
        item = self._node(source["items"], path, terse=terse)
        many = min(int(source.get("maxItems", 6)), 20)
        size = Size(2 + min(2, many) * item.size.typical, 2 + many * item.size.ceiling)
        return Node({"type": "array", "items": item.schema}, partial(readers.list_of, item.read), size, item.codes)

    def _union(self, branches: list[dict[str, Any]], path: str, *, terse: bool) -> Node:
        real = [branch for branch in branches if branch.get("type") != "null"]
        # Only one thing may hide behind a short key or code; several alternatives are written out.
        nodes = [self._node(branch, path, terse=terse and len(real) == 1) for branch in real]
        reads: list[Read] = [node.read for node in nodes]
        schemas = [node.schema for node in nodes]
        if len(real) < len(branches):
            schemas.append({"type": "null"})
            reads.append(partial(readers.exactly, [None]))
        if len(schemas) == 1:
            return nodes[0]
        self._unions.append(path)
        size = Size(max(n.size.typical for n in nodes), max(n.size.ceiling for n in nodes))
        return Node({"anyOf": schemas}, partial(readers.any_of, reads), size, nodes[0].codes if len(real) == 1 else "")

    def _resolve(self, source: dict[str, Any]) -> tuple[dict[str, Any], str]:
        name = ""
        while "$ref" in source or len(source.get("allOf", ())) == 1:
            target = source["allOf"][0] if "allOf" in source else source
            name = target["$ref"].rpartition("/")[2] if "$ref" in target else name
            source = self._definitions[name] if "$ref" in target else target
        return source, name

    def _check_limits(self) -> None:
        if len(self._optional) > MAX_OPTIONAL:
            raise self._error(
                self._optional[MAX_OPTIONAL],
                f"{len(self._optional)} fields have a default and the API takes {MAX_OPTIONAL}: "
                "take the default away from fields that are mostly filled",
            )
        if len(self._unions) > MAX_UNIONS:
            raise self._error(
                self._unions[MAX_UNIONS],
                f"{len(self._unions)} fields are unions (X | Y, or X | None without a default) and the API takes "
                f"{MAX_UNIONS}: give them the default None, or one type",
            )

    def _error(self, path: str, text: str) -> TaskError:
        return TaskError(f"output model {self._name}{f', field {path}' if path else ''}: {text}")


def _enumerated(source: dict[str, Any], definitions: dict[str, Any]) -> list[Any]:
    if "$ref" in source:
        source = definitions[source["$ref"].rpartition("/")[2]]
    return [v for v in source.get("enum", ()) if isinstance(v, str)]


def _without_null_default(source: dict[str, Any]) -> dict[str, Any]:
    """`X | None = None` is an X that may be left out: no union is needed."""
    if "anyOf" not in source or source.get("default", ...) is not None:
        return source
    return {**source, "anyOf": [b for b in source["anyOf"] if b.get("type") != "null"]}
