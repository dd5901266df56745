"""JSON bytes to the user's model in one pass, and what is said of bytes that are not one.

base → [json] → the task's input
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ModelT = TypeVar("ModelT", bound=BaseModel)

_BOM = b"\xef\xbb\xbf"
_MAX_PROBLEMS = 4
_MAX_WORDS = 160
# These of pydantic's messages repeat what stood in the event.
_QUOTING = frozenset({"union_tag_invalid", "uuid_parsing", "url_parsing", "url_syntax_violation", "json_type"})


class Undecodable(ValueError):
    """The bytes are not the task's input. The text names fields and bytes and never repeats the event's own text."""


def decode_json(value: bytes, model: type[ModelT]) -> ModelT:
    """Read one JSON document as the model. Raises `Undecodable`."""
    value = value.removeprefix(_BOM)
    try:
        # What `model_validate_json` does, without its arguments: this runs for every event.
        event: ModelT = model.__pydantic_validator__.validate_json(value)
    except ValidationError as invalid:
        raise Undecodable(explain(invalid, model, value)) from None
    return event


def explain(invalid: ValidationError, model: type[BaseModel], value: bytes = b"") -> str:
    """What is wrong, field by field: `rating: Input should be a valid integer; text: is empty`."""
    errors = invalid.errors(include_url=False, include_context=False)
    if errors[0]["type"] == "json_invalid":
        return not_json(value, errors[0]["msg"])
    known = _names(model)
    problems = [f"{_path(error['loc'], known)}: {_words(error)}" for error in errors[:_MAX_PROBLEMS]]
    more = len(errors) - _MAX_PROBLEMS
    return "; ".join(problems) + (f"; and {more} more" if more > 0 else "")


def not_json(value: bytes, why: str) -> str:
    """Name the usual reasons why bytes are no JSON, else repeat the parser's."""
    if not value.strip():
        return "the value is empty: 0 bytes of JSON"
    if value[0] == 0:
        return "byte 0 is 0x00, as schema registries write it: give the task a decode= for that format"
    try:
        value.decode()
    except UnicodeDecodeError as broken:
        return f"not UTF-8: byte 0x{value[broken.start]:02x} at {broken.start}"
    return why


def _path(location: tuple[int | str, ...], known: frozenset[str]) -> str:
    """Keys that the model does not declare are the event's own text: they are shown as `*`."""
    return ".".join(str(part) if isinstance(part, int) or part in known else "*" for part in location) or "(event)"


def _words(error: ErrorDetails) -> str:
    kind, words, given = error["type"], error["msg"], error["input"]
    if kind in _QUOTING:
        return f"does not fit ({kind})"
    if kind in ("value_error", "assertion_error"):
        words = words.split(", ", 1)[-1]
        if isinstance(given, str) and given.strip():
            words = words.replace(given, "…")
    return words[:_MAX_WORDS]


@lru_cache(maxsize=256)
def _names(model: type[BaseModel]) -> frozenset[str]:
    """Every field name and alias of the model and of the models inside it."""
    names: set[str] = set()
    try:
        _collect(model.model_json_schema(), names)
    except (ValueError, TypeError):  # a field type without a JSON schema: the outer names must do
        names.update(model.model_fields)
    return frozenset(names)


def _collect(schema: Any, names: set[str]) -> None:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            names.update(properties)
        for part in schema.values():
            _collect(part, names)
    elif isinstance(schema, list):
        for part in schema:
            _collect(part, names)
