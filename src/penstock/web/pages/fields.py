"""What of a task's output has few known values: what lists can be filtered by.

tasks → [fields] → filters, overview
"""

from __future__ import annotations

import types
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin

from penstock.sinks.reading import label_of

if TYPE_CHECKING:
    from penstock.store.queries import FieldIs
    from penstock.task import Task

MOST_VALUES = 200
Shape = Literal["text", "bool", "number", "list"]


class Choice(NamedTuple):
    """One field of the output and the values that it may have."""

    name: str
    values: tuple[str, ...]
    kind: Shape
    is_label: bool

    def holds(self, value: str) -> FieldIs:
        """The filter for one of them."""
        from penstock.store.queries import FieldIs  # noqa: PLC0415 - the database's driver is for who has one

        return FieldIs(self.name, value, self.kind, self.is_label)


def choices(task: Task[Any, Any]) -> list[Choice]:
    """The verdict in a word first."""
    label = label_of(task)
    found = []
    for name, field in task.output.model_fields.items():
        values, kind = _values(field.annotation)
        if values and len(values) <= MOST_VALUES:
            found.append(Choice(name, values, kind, name == label))
    return sorted(found, key=lambda one: not one.is_label)


def _values(annotation: Any) -> tuple[tuple[str, ...], Shape]:
    origin = get_origin(annotation)
    if origin is Literal:
        return _told(get_args(annotation))
    if annotation is bool:
        return ("true", "false"), "bool"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _told([one.value for one in annotation])
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if origin in {Union, types.UnionType} and len(inner) == 1:
        return _values(inner[0])
    if origin in {list, set, frozenset} and len(inner) == 1:
        values, kind = _values(inner[0])
        return (values, "list") if kind == "text" else ((), "text")
    return (), "text"


def _told(values: Any) -> tuple[tuple[str, ...], Shape]:
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known):
        return tuple(str(value).lower() for value in known), "bool"
    is_text = all(isinstance(value, str) for value in known)
    return tuple(str(value) for value in known), "text" if is_text else "number"
