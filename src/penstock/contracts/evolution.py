"""What a change of a contract breaks: every record that a writer may write must be one that its readers can take.

records → [evolution] → `penstock schema --check`

Knows the part of JSON Schema that pydantic writes. What it does not know it compares word for word, so that nothing passes unseen.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
Pair = tuple[Schema, Schema]

_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "multipleOf", "uniqueItems", "not", "patternProperties", "propertyNames", "contains")
_MOST_DEEP = 40
"""Models that contain themselves are compared so far down."""


def breaks(writer: Schema, reader: Schema) -> list[str]:
    """Why a record of the writer may be none that the reader takes; empty where every one is."""
    return list(dict.fromkeys(_breaks(writer, reader, (writer, reader), "", 0)))


def _breaks(writer: Schema, reader: Schema, whole: Pair, at: str, depth: int) -> list[str]:
    writer, reader = _resolved(writer, whole[0]), _resolved(reader, whole[1])
    if depth > _MOST_DEEP or not _means(reader):
        return []
    for choice in ("anyOf", "oneOf"):
        if choice in writer:
            return [text for one in writer[choice] for text in _breaks(one, reader, whole, at, depth + 1)]
    for choice in ("anyOf", "oneOf"):
        if choice in reader:
            tried = [_breaks(writer, one, whole, at, depth + 1) for one in reader[choice]]
            return min(tried, key=len, default=[])
    found = _of_type(writer, reader, at) or [*_of_values(writer, reader, at), *_of_bounds(writer, reader, at)]
    return found or [*_of_object(writer, reader, whole, at, depth), *_of_items(writer, reader, whole, at, depth)]


def _resolved(schema: Schema, whole: Schema) -> Schema:
    while (ref := schema.get("$ref")) is not None:
        found: Any = whole
        for part in str(ref).removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        schema = found
    if len(schema.get("allOf", ())) == 1:  # so pydantic hangs a description on a reference
        return _resolved(schema["allOf"][0], whole)
    return schema


def _means(schema: Schema) -> bool:
    return bool(set(schema) - {"title", "description", "default", "examples", "deprecated", "$comment"})


def _of_type(writer: Schema, reader: Schema, at: str) -> list[str]:
    taken, written = _types(reader), _types(writer)
    if taken is None or (written is not None and written <= taken | ({"integer"} if "number" in taken else set())):
        return []
    said = " or ".join(sorted(written)) if written else "anything"
    return [f"{at or 'the value'} may be {said}, readers take {' or '.join(sorted(taken))}"]


def _types(schema: Schema) -> set[str] | None:
    named = schema.get("type")
    if named is not None:
        return {named} if isinstance(named, str) else set(named)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return None if values is None else {names.get(type(value), "object") for value in values}


def _of_values(writer: Schema, reader: Schema, at: str) -> list[str]:
    taken = reader.get("enum", [reader["const"]] if "const" in reader else None)
    if taken is None:
        return []
    written = writer.get("enum", [writer["const"]] if "const" in writer else None)
    if written is None:
        return [f"{at} may be any value, readers take {', '.join(map(str, taken))} only"]
    new = [str(value) for value in written if value not in taken]
    return [f"{at} may be {', '.join(new)}, which readers do not take"] if new else []


def _of_bounds(writer: Schema, reader: Schema, at: str) -> list[str]:
    found = []
    for name in (*_LEAST, *_MOST):
        limit, held = reader.get(name), writer.get(name)
        if limit is None:
            continue
        is_kept = held is not None and (held >= limit if name in _LEAST else held <= limit)
        if not is_kept:
            found.append(
                f"{at}: readers ask for {name} {limit}, writers keep {'no such limit' if held is None else held}"
            )
    found += [
        f"{at}: readers ask for {name} {reader[name]}, writers keep {writer.get(name, 'none')}"
        for name in _SAME
        if name in reader and reader[name] != writer.get(name)
    ]
    return found


def _of_object(writer: Schema, reader: Schema, whole: Pair, at: str, depth: int) -> list[str]:
    written, taken = writer.get("properties", {}), reader.get("properties", {})
    always = set(writer.get("required", ()))
    found = [
        f"{_under(at, name)} is needed by readers and {'may be missing' if name in written else 'is not written'}"
        for name in reader.get("required", ())
        if name not in always
    ]
    others = reader.get("additionalProperties", True)
    for name, schema in written.items():
        if name in taken:
            found += _breaks(schema, taken[name], whole, _under(at, name), depth + 1)
        elif others is False:
            found.append(f"{_under(at, name)} is written, and readers refuse what they do not know")
        elif isinstance(others, dict):
            found += _breaks(schema, others, whole, _under(at, name), depth + 1)
    if isinstance(others, dict) and isinstance(more := writer.get("additionalProperties"), dict):
        found += _breaks(more, others, whole, _under(at, "*"), depth + 1)
    return found


def _of_items(writer: Schema, reader: Schema, whole: Pair, at: str, depth: int) -> list[str]:
    found = []
    written, taken = writer.get("prefixItems", []), reader.get("prefixItems", [])
    for number, schema in enumerate(taken):
        if number < len(written):
            found += _breaks(written[number], schema, whole, f"{at}[{number}]", depth + 1)
    items = reader.get("items")
    if isinstance(items, dict):
        found += _breaks(writer.get("items", {}), items, whole, f"{at}[]", depth + 1)
    return found


def _under(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
