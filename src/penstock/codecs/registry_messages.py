"""Protobuf messages to plain values of Python: what the task's model is validated from.

registry_formats → [registry_messages] → the task's input
Not by the JSON mapping of Protobuf: it makes text of 64-bit numbers and Base64 of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from google.protobuf.message import Message

Convert = Callable[[Any], Any]

_WRAPPERS = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
_AS_JSON = ("Struct", "Value", "ListValue", "FieldMask", "Any")


class _Field(NamedTuple):
    """How one field is read."""

    name: str
    is_absent_unless_set: bool
    convert: Convert | None


class Messages:
    """Reads messages of one pool; each type is looked at once. Enum values become their names."""

    def __init__(self, special: Mapping[str, Convert], as_json: Convert) -> None:
        self._special: dict[str, Convert] = {
            "google.protobuf.Timestamp": lambda message: message.ToDatetime(tzinfo=UTC),
            "google.protobuf.Duration": lambda message: message.ToTimedelta(),
            **{f"google.protobuf.{name}Value": lambda message: message.value for name in _WRAPPERS},
            **{f"google.protobuf.{name}": as_json for name in _AS_JSON},
            **special,
        }
        self._plans: dict[str, list[_Field]] = {}

    def values(self, message: Message) -> Any:
        """Field name to value. Fields that know whether they were set are left out where they were not."""
        name = message.DESCRIPTOR.full_name
        special = self._special.get(name)
        if special is not None:
            return special(message)
        plan = self._plans.get(name)
        if plan is None:
            plan = self._plans[name] = [self._field(field) for field in message.DESCRIPTOR.fields]
        found: dict[str, Any] = {}
        for field, is_absent_unless_set, convert in plan:
            if is_absent_unless_set and not message.HasField(field):
                continue
            value = getattr(message, field)
            found[field] = value if convert is None else convert(value)
        return found

    def _field(self, field: Any) -> _Field:
        one = self._one(field)
        if not field.is_repeated:
            return _Field(field.name, field.has_presence, one)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return _Field(field.name, False, _each_value(self._one(field.message_type.fields_by_name["value"])))
        return _Field(field.name, False, list if one is None else lambda values: [one(value) for value in values])

    def _one(self, field: Any) -> Convert | None:
        if field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
            return self.values
        if field.enum_type is not None:
            names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
            return lambda number: names.get(number, number)
        return None


def _each_value(convert: Convert | None) -> Convert:
    if convert is None:
        return dict
    return lambda values: {key: convert(value) for key, value in values.items()}
