"""What the API's schemas cannot say (lengths, bounds, defaults) as words of the description; pydantic checks it later.

schema → [hints] → prompt
"""

from __future__ import annotations

import json
from typing import Any

SCALARS: dict[Any, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matching {}",
}
_CHARS_PER_TOKEN = 2.5
_STRING_TYPICAL, _STRING_CEILING = 20, 120


def scalar(source: dict[str, Any]) -> dict[str, Any]:
    """The part of a scalar's schema that the API takes."""
    schema = {"type": source["type"]}
    if source.get("format") in _FORMATS:
        schema["format"] = source["format"]
    return schema


def sizes(source: dict[str, Any]) -> tuple[int, int]:
    """Typical and highest output tokens of a scalar: a first guess."""
    if source["type"] != "string":
        return 2, 8
    if "maxLength" not in source:
        return _STRING_TYPICAL, _STRING_CEILING
    most = int(source["maxLength"] / _CHARS_PER_TOKEN) + 2
    return min(most // 2 + 1, _STRING_TYPICAL), min(most, 4 * _STRING_CEILING)


def limits(source: dict[str, Any]) -> str:
    """The limits of a value, in words."""
    bounds = dict(source)
    for branch in source.get("anyOf", ()):
        bounds.update(branch)
    return ", ".join(text.format(bounds[key]) for key, text in _LIMITS.items() if key in bounds)


def default(source: dict[str, Any]) -> str:
    """When a field may be left out, in words."""
    value = source.get("default", ...)
    if value is ...:
        return "May be left out"
    if value is None or value in ("", [], {}):
        return "Left out where there is none"
    return f"Left out where {json.dumps(value, ensure_ascii=False)}"
