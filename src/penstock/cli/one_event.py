"""What a user types or points at, to the bytes of one event that the task can read.

terminal → [one_event] → try
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.cli.produce import opened
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

TEXT_FIELDS = ("text", "body", "message", "content", "comment", "review", "description", "title", "subject")
"""Where plain words go, if the input model has such a field."""


class OneEvent(NamedTuple):
    """The bytes of an event, and a hint about how they were come by."""

    value: bytes
    hint: str = ""


def one_event(given: str, model: type[BaseModel], *, line: int = 1) -> OneEvent:
    """`given` is a file, `-` for stdin, JSON, or plain words, which then become the text of an event."""
    if given == "-" or _is_file(given):
        return _from_file(given, model, line)
    if _is_object(given):
        return OneEvent(given.encode())
    return from_words(given, model)


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):
        return False  # words may be longer than a path may be


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _from_file(given: str, model: type[BaseModel], number: int) -> OneEvent:
    with opened(given) as stream:
        content = stream.read()
    if not content.strip():
        raise SettingsError(f"{'stdin' if given == '-' else given} is empty")
    try:
        whole = content.decode()
    except UnicodeDecodeError:
        return OneEvent(content)
    if _is_object(whole):
        return OneEvent(content.strip())
    lines = [line for line in content.splitlines() if line.strip()]
    if not _is_object(lines[0].decode()):
        return from_words(whole.strip(), model)
    if number > len(lines):
        raise SettingsError(f"--line {number}: {given} has {len(lines)} events")
    hint = f"{given} holds {len(lines):,} events; this is number {number} (--line chooses)" if len(lines) > 1 else ""
    return OneEvent(lines[number - 1], hint)


def from_words(words: str, model: type[BaseModel]) -> OneEvent:
    """An event around plain words: they are its text, what else is required gets a stand-in."""
    fields = {(field.alias or name): field for name, field in model.model_fields.items()}
    texts = [name for name, field in fields.items() if _takes_text(field) and not _is_id(name)]
    target = next((name for name in TEXT_FIELDS if name in texts), None)
    required = [name for name in texts if fields[name].is_required()]
    if target is None and len(required) == 1:
        target = required[0]
    others = [name for name, field in fields.items() if field.is_required() and name != target]
    if target is None or not all(_is_id(name) for name in others):
        raise SettingsError(
            f"{model.__name__} needs more than words: give one event as JSON, for example\n  {json.dumps(_example(fields))}"
        )
    event = dict.fromkeys(others, "try-1") | {target: words}
    return OneEvent(json.dumps(event, ensure_ascii=False).encode())


def _takes_text(field: FieldInfo) -> bool:
    return field.annotation is str or field.annotation == (str | None)


def _is_id(name: str) -> bool:
    return name == "id" or name.endswith("_id")


def _example(fields: dict[str, FieldInfo]) -> dict[str, Any]:
    """The required fields with placeholders of their types."""
    kinds: dict[Any, Any] = {int: 1, float: 1.0, bool: True, list: [], dict: {}}
    return {name: kinds.get(f.annotation, "…") for name, f in fields.items() if f.is_required()}
