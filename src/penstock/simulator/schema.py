"""Which JSON schemas structured output takes, and which it rejects: the API's subset, its limits and its words.

validation → [schema] → compiler
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator.compiler import compile_writer
from penstock.simulator.failures import BadRequest
from penstock.simulator.patterns import PatternError, parse_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.simulator.writers import Writer

MAX_OPTIONAL = 24
MAX_UNIONS = 16
MAX_NODES = 5_000
KEPT_GRAMMARS = 512

ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id"})  # fmt: skip
GENERAL = ANNOTATIONS | {"type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions"}
BY_TYPE = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems"}),
    "string": frozenset({"format", "pattern"}),
    "integer": frozenset[str](),
    "number": frozenset[str](),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
WHERE = "output_config.format.schema"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A schema that was checked and compiled."""

    canonical: bytes
    optional: int
    unions: int
    writer: Writer


_known: OrderedDict[bytes, Grammar] = OrderedDict()


def grammar_of(schema: dict[str, Any]) -> Grammar:
    """Check and compile a schema of `output_config.format`; the API keeps compiled ones, and so do we."""
    canonical = orjson.dumps(schema)
    grammar = _known.get(canonical)
    if grammar is None:
        walk = _Walk(schema)
        walk.check(schema, WHERE, ())
        grammar = Grammar(canonical, walk.optional, walk.unions, compile_writer(schema))
        _check_limits(grammar.optional, grammar.unions)
        _known[canonical] = grammar
        while len(_known) > KEPT_GRAMMARS:
            _known.popitem(last=False)
    return grammar


def grammar_of_tool(schema: dict[str, Any]) -> Grammar:
    """A tool's input schema, which need not be strict."""
    return Grammar(orjson.dumps(schema), 0, 0, compile_writer(schema))


def strict_grammars(grammar: Grammar | None, tools: list[dict[str, Any]]) -> None:
    """Check strict tools, and the limits that all strict schemas of a request share."""
    if not tools:
        return
    optional = grammar.optional if grammar else 0
    unions = grammar.unions if grammar else 0
    for index, schema in enumerate(tools):
        walk = _Walk(schema)
        walk.check(schema, f"tools.{index}.custom.input_schema", ())
        optional += walk.optional
        unions += walk.unions
    _check_limits(optional, unions)


def _check_limits(optional: int, unions: int) -> None:
    if optional > MAX_OPTIONAL:
        raise BadRequest(
            f"Schemas contains too many optional parameters ({optional}), which would make grammar compilation inefficient. "
            f"Reduce the number of optional parameters in your tool schemas (limit: {MAX_OPTIONAL})."
        )
    if unions > MAX_UNIONS:
        raise BadRequest(
            f"Schemas contains too many parameters with union types ({unions} parameters with type arrays or anyOf). "
            f"This causes exponential compilation cost. Reduce the number of nullable or union-typed parameters (limit: {MAX_UNIONS})."
        )


class _Walk:
    """One pass over a schema; counts what the limits count."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._nodes = 0
        self.optional = 0
        self.unions = 0

    def check(self, schema: Any, where: str, refs: tuple[str, ...]) -> None:
        """Raise `BadRequest` at the first thing that is not supported."""
        if not isinstance(schema, dict):
            raise BadRequest(f"{where}: Input should be a valid dictionary")
        self._nodes += 1 + len(schema.get("enum") or ())
        if self._nodes > MAX_NODES:
            raise BadRequest("Schema is too complex for compilation.")
        self._check_keywords(schema, where)
        self._check_values(schema, where)
        if "$ref" in schema:
            self._check_ref(schema["$ref"], where, refs)
        for part, at in self._parts(schema, where):
            self.check(part, at, refs)

    def _check_keywords(self, schema: dict[str, Any], where: str) -> None:
        types = _types(schema, where)
        allowed = GENERAL.union(*(BY_TYPE[name] for name in types)) if types else GENERAL
        strange = sorted(key for key in schema if key not in allowed)
        if strange:
            named = f"For '{types[0]}' type, " if types else ""
            plural = "property '{}' is" if len(strange) == 1 else "properties {} are"
            raise BadRequest(f"{where}: {named}{plural.format(', '.join(strange))} not supported")
        if not types and not schema.keys() & {"enum", "const", "anyOf", "allOf", "$ref"}:
            raise BadRequest(f"{where}: Schema must have a 'type', 'enum', 'const', 'anyOf', 'allOf' or '$ref'")
        if len(types) > 1 or "anyOf" in schema:
            self.unions += 1
        if "object" in types:
            self._check_object(schema, where)
        if "array" in types:
            _check_array(schema, where)

    def _check_object(self, schema: dict[str, Any], where: str) -> None:
        if schema.get("additionalProperties") is not False:
            raise BadRequest(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise BadRequest(f"{where}: 'properties' must be an object and 'required' a list")
        unknown = [key for key in required if key not in properties]
        if unknown:
            raise BadRequest(f"{where}: 'required' names properties that do not exist: {', '.join(map(str, unknown))}")
        self.optional += len(properties) - len(set(required))

    def _check_values(self, schema: dict[str, Any], where: str) -> None:
        enum = schema.get("enum")
        if enum is not None and (not isinstance(enum, list) or not enum):
            raise BadRequest(f"{where}: 'enum' must be a list with at least one value")
        for value in [*(enum or ()), schema.get("const")]:
            if isinstance(value, (dict, list)):
                raise BadRequest(f"{where}: 'enum' and 'const' support strings, numbers, booleans and null only")
        for key in ("anyOf", "allOf"):
            if key in schema and (not isinstance(schema[key], list) or not schema[key]):
                raise BadRequest(f"{where}: '{key}' must be a list with at least one schema")
        if "format" in schema and schema["format"] not in FORMATS:
            raise BadRequest(f"{where}: format '{schema['format']}' is not supported")
        if "pattern" in schema:
            try:
                parse_pattern(str(schema["pattern"]))
            except PatternError as error:
                raise BadRequest(f"{where}: pattern is not supported: {error}") from None

    def _check_ref(self, ref: Any, where: str, refs: tuple[str, ...]) -> None:
        if not isinstance(ref, str) or not ref.startswith("#/"):
            raise BadRequest(f"{where}: External schema references are not supported: '{ref}'")
        if ref in refs:
            raise BadRequest(f"{where}: Circular/recursive schema definitions are not supported: '{ref}'")
        target: Any = self._root
        for step in ref[2:].split("/"):
            target = target.get(step) if isinstance(target, dict) else None
        if target is None:
            raise BadRequest(f"{where}: '$ref' leads nowhere: '{ref}'")
        self.check(target, where, (*refs, ref))

    @staticmethod
    def _parts(schema: dict[str, Any], where: str) -> Iterator[tuple[Any, str]]:
        for key, part in schema.get("properties", {}).items():
            yield part, f"{where}.properties.{key}"
        if "items" in schema:
            yield schema["items"], f"{where}.items"
        for index, part in enumerate(schema.get("anyOf", ())):
            yield part, f"{where}.anyOf.{index}"
        for index, part in enumerate(schema.get("allOf", ())):
            if isinstance(part, dict) and "$ref" in part:
                raise BadRequest(f"{where}: 'allOf' with '$ref' is not supported")
            yield part, f"{where}.allOf.{index}"


def _types(schema: dict[str, Any], where: str) -> list[str]:
    value = schema.get("type")
    types = [] if value is None else value if isinstance(value, list) else [value]
    if isinstance(value, list) and not value:
        raise BadRequest(f"{where}.type: must name at least one type")
    for name in types:
        if not isinstance(name, str) or name not in BY_TYPE:
            raise BadRequest(f"{where}.type: '{name}' is not a supported type")
    return types


def _check_array(schema: dict[str, Any], where: str) -> None:
    if "items" not in schema:
        raise BadRequest(f"{where}: For 'array' type, 'items' is required")
    least = schema.get("minItems", 0)
    if isinstance(least, bool) or least not in (0, 1):
        raise BadRequest(f"{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
