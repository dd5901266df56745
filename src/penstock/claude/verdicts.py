"""What an entry of a reply says. Of short verdicts there are few, and most events get one that was given before.

schema → [verdicts] → reply
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import BaseModel

if TYPE_CHECKING:
    from penstock.claude.schema import Form
    from penstock.outcome import Confidence
    from penstock.task import Task

MOST_KNOWN = 512
LONGEST_KNOWN_BYTES = 200
"""An entry with a sentence of its own comes once."""
_RUN_CODE = frozenset({"default_factory", "serialization", "computed_fields", "post_init", "custom_init"})
_RUN_CODE_TYPES = ("function", "call", "custom", "generator")
"""Of pydantic's own schemas: where code of the user's may run when an output is made or written."""
_EMPTY = (list, dict, set, tuple)


class Verdict(NamedTuple):
    """An output, and the same as JSON."""

    output: Any
    confidence: Confidence
    json: bytes


class Verdicts:
    """Reads the entries of one task's replies.

    An entry that was read before, but for its id, gives the same object: only where no code of the user's runs when
    an output is made, written, or shown to a hook.
    """

    def __init__(self, task: Task[Any, Any], form: Form) -> None:
        self._validate = task.output.__pydantic_validator__.validate_json
        self._form = form
        self._has_memory = task.validate is None and task.finish is None and is_plain(task.output)
        self._known: dict[bytes, Verdict] = {}

    def read(self, entry: dict[str, Any]) -> Verdict:
        """Raises ValueError (a `ValidationError` too) where it is not of the form, or what the output model raises."""
        if not self._has_memory:
            return self._made(entry)
        written = orjson.dumps({**entry, "i": ""})
        known = self._known.get(written)
        if known is None:
            known = self._made(entry)
            if len(written) <= LONGEST_KNOWN_BYTES:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[written] = known
        return known

    def _made(self, entry: dict[str, Any]) -> Verdict:
        content, confidence = self._form.read(entry)
        # What `model_validate_json` does, without its arguments: this may run for every event.
        output = self._validate(orjson.dumps(content))
        return Verdict(output, confidence, output.__pydantic_serializer__.to_json(output) if self._has_memory else b"")


def is_plain(model: type[BaseModel]) -> bool:
    """Whether the same JSON makes the same output, and that the same JSON again: nothing in it is code of the user's."""
    schema = model.__pydantic_core_schema__
    return isinstance(schema, dict) and not any(_runs_code(key, value) for key, value in _pairs(schema))


def _runs_code(key: str, value: Any) -> bool:
    if key == "type":
        return isinstance(value, str) and value.startswith(_RUN_CODE_TYPES)
    if key == "discriminator":
        return callable(value)
    return key in _RUN_CODE and bool(value) and value not in _EMPTY


def _pairs(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key, value
            yield from _pairs(value)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _pairs(part)
