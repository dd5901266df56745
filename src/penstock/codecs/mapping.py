"""Producers' field names to the task's: `Task(…, decode=FieldMapping({"text": "body", "review_id": "payload.id"}))`.

intake → [codecs] → batcher
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from penstock.codecs.cloudevents import data_of
from penstock.codecs.json import Undecodable, explain, not_json
from penstock.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.record import Record

ModelT = TypeVar("ModelT", bound=BaseModel)
_ABSENT = object()


class FieldMapping:
    """A codec that reads the task's field from the producer's path; fields not named keep their own name.

    A path is a name or names joined by dots; a number counts into a list (`items.0.body`). A name that itself holds
    dots wins over the path where the event has it.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        for field, path in paths.items():
            if not (isinstance(path, str) and all(path.split("."))):
                raise TaskError(f"FieldMapping: {field!r} needs a path such as 'body' or 'payload.body', got {path!r}")
        self._paths = {field: (path, tuple(path.split("."))) for field, path in paths.items()}
        self._keys: dict[type[BaseModel], dict[str, str]] = {}

    def check(self, model: type[BaseModel]) -> None:
        """Raise `TaskError` where a field is mapped that the task's input does not have."""
        unknown = [field for field in self._paths if field not in model.model_fields]
        if unknown:
            raise TaskError(
                f"FieldMapping: {model.__name__} has no field {', '.join(map(repr, unknown))}; "
                f"write {{field of {model.__name__}: producer's path}}, its fields are {', '.join(model.model_fields)}"
            )
        self._keys[model] = {name: _key(model, name) for name in model.model_fields}

    def __call__(self, record: Record, model: type[ModelT]) -> ModelT:
        """Read the record as the model. Raises `Undecodable`; a tombstone raises `Skip`."""
        if model not in self._keys:
            self.check(model)
        value = data_of(record)
        try:
            event = from_json(value)
        except ValueError as broken:
            raise Undecodable(not_json(value, f"Invalid JSON: {str(broken)[:120]}")) from None
        if not isinstance(event, dict):
            raise Undecodable("(event): is no JSON object, so that it has no fields to map")
        try:
            return model.model_validate_json(to_json(self._mapped(event, model), inf_nan_mode="constants"))
        except ValidationError as invalid:
            raise Undecodable(explain(invalid, model) + self._origin(invalid)) from None

    def _mapped(self, event: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, key in self._keys[model].items():
            mapped = self._paths.get(name)
            found = event.get(key, _ABSENT) if mapped is None else _walk(event, *mapped)
            if found is not _ABSENT:
                fields[key] = found
        return fields

    def _origin(self, invalid: ValidationError) -> str:
        """Where the fields at fault were looked for, in the producer's own names."""
        at_fault = {str(error["loc"][0]) for error in invalid.errors(include_url=False) if error["loc"]}
        looked = [f"{field} from {self._paths[field][0]}" for field in self._paths if field in at_fault]
        return f" (mapped: {', '.join(looked)})" if looked else ""


def _walk(event: Any, path: str, names: tuple[str, ...]) -> Any:
    if path in event:
        return event[path]
    for name in names:
        if isinstance(event, dict):
            event = event.get(name, _ABSENT)
        elif isinstance(event, list) and name.isdigit() and int(name) < len(event):
            event = event[int(name)]
        else:
            return _ABSENT
    return event


def _key(model: type[BaseModel], name: str) -> str:
    """What the model itself wants to read the field under."""
    field = model.model_fields[name]
    alias = field.validation_alias or field.alias
    if alias is None:
        return name
    if not isinstance(alias, str):
        raise TaskError(f"FieldMapping: {model.__name__}.{name} has several aliases; give it one name")
    return alias
