"""Compiles a JSON schema of the API's subset into writers: references followed, `allOf` joined, labels read.

schema → [compiler] → writers
"""

from __future__ import annotations

from typing import Any

from penstock.simulator.roles import Label, read_label
from penstock.simulator.writers import MISSING, Choice, Const, Flag, Listed, Number, Record, Text, Union, Writer


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
