"""The records of every topic as JSON Schemas, made from the code that writes them.

[records] → asyncapi, evolution

A test validates real records against these, and refuses fields that are written and not declared.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import Field, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from penstock.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.task import Task

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = 1
"""Of everything here; stands in `ce_type`. Within it fields are only added."""
Count = Annotated[int, Field(ge=0)]
Millis = Annotated[int, Field(ge=0, description="Unix time in milliseconds")]
NanoUsd = Annotated[int, Field(ge=0, description="Billionths of a US dollar")]
Schema = dict[str, Any]


class AsWritten(GenerateJsonSchema):
    """A result holds every field of its output, those with a default too: readers may rely on it."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 - pydantic's own
        """As pydantic has it, but for models that are written."""
        if self.mode == "serialization" and field["type"] == "model-field":
            return not field.get("serialization_exclude")
        return super().field_is_required(field, total)


class Usage(TypedDict):
    """This event's share of every call that it was part of."""

    input_tokens: Count
    cache_write_tokens: Count
    cache_read_tokens: Count
    output_tokens: Count


class Source(TypedDict):
    """Where the event stands."""

    topic: str
    partition: Count
    offset: Count


class Times(TypedDict):
    """Unix time in milliseconds."""

    produced: Millis
    taken: Millis
    asked: Annotated[int, Field(ge=0, description="First call; 0 where nobody was asked")]
    answered: Annotated[int, Field(ge=0, description="Last reply")]
    committed: Millis


class Result(TypedDict):
    """What became of one event."""

    id: Annotated[str, Field(description="The same for the same task, event and position, whoever answered")]
    event_id: str
    subject: Annotated[str, Field(description="What the event is about; an erasure names it")]
    task: str
    output: dict[str, Any]
    confidence: Literal["sure", "likely", "unsure"]
    provisional: Annotated[bool, Field(description="Another result will supersede this one")]
    lane: NotRequired[Annotated[str, Field(description="Only where provisional: who gives the final one")]]
    tier: Annotated[str, Field(description="The step of the route that answered")]
    model: Annotated[str, Field(description="As the API reported it; empty where no model answered")]
    prompt: Annotated[str, Field(description="Short hash of prompt, schema and policy version")]
    policy: str
    simulated: Annotated[bool, Field(description="An offline stand-in answered; nobody judged")]
    attempts: Count
    usage: Usage
    nanousd: NanoUsd
    calls: Annotated[list[tuple[str, Count]], Field(description="Request id and nanodollars of every billed call")]
    source: Source
    times: Times


class Waste(TypedDict):
    """Money for an answer that nobody will see."""

    why: str
    call: str
    model: str
    items: Count
    nanousd: NanoUsd


class Loss(TypedDict):
    """Offsets that retention deleted unread."""

    topic: str
    partition: Count
    first: Count
    stop: Annotated[int, Field(ge=1, description="The next offset that is there")]
    unread: Count


class Message(NamedTuple):
    """One kind of record: its value, its headers, and what it is called."""

    name: str
    """`result`, `dead-letter` …: with the task's name it names a file."""
    summary: str
    value: Schema | None
    """None: the record has no value."""
    headers: Schema
    content_type: str = "application/json"


LETTER_HEADERS = {
    "id": "deterministic, made as a result's id",
    "task": "the task's name",
    "event-id": "what names the event; its position where that could not be read",
    "subject": "what the event is about",
    "topic": "where the event stands",
    "partition": "where the event stands",
    "offset": "where the event stands",
    "timestamp": "the event's own, Unix time in milliseconds",
    "group": "the consumer group",
    "stage": "intake (never asked) or answer",
    "reason": "one of a closed list, see the reference of errors",
    "message": "for people, at most 500 characters; no text of the event",
    "attempts": "attempts used up",
    "nanousd": "what was paid for it, billionths of a US dollar",
    "calls": "JSON list of [request id, nanodollars]",
    "first-at": "when it was taken, Unix time in milliseconds",
    "last-at": "when it was given up, Unix time in milliseconds",
}
ERASURE_HEADERS = {
    "id": "deterministic; copies of one erasure have the same",
    "scope": "subject, or key",
    "task": "whose results and dead letters",
    "event-id": "what names the deletion itself",
    "topic": "the deletion's own place",
    "partition": "the deletion's own place",
    "offset": "the deletion's own place",
    "timestamp": "the deletion's own time",
    "why": "what the hook gave",
}
HAND_OVER_HEADERS = {
    "topic": "the event's own place",
    "partition": "the event's own place",
    "offset": "the event's own place",
    "timestamp": "the event's own time",
    "reason": "why it must wait",
    "not-before": "not to be asked before then, Unix time in milliseconds",
    "attempts": "attempts used up",
    "step": "index of the route's step",
    "charges": "JSON list of what it has cost so far",
}


def event(task: Task[Any, Any]) -> Message:
    """What a producer writes: the task's input."""
    headers = _texts({"penstock.priority": "high, normal or low", "penstock.deadline": "Unix time in milliseconds"})
    summary = f"An event of {task.name}."
    if task.decode is not None:
        summary += " Its bytes are read by the task's own decode=, which may take other forms."
    return Message("event", summary, model_schema(task, "input", "validation"), headers)


def result(task: Task[Any, Any]) -> Message:
    """What a reader gets: all that is required here is always there."""
    return Message("result", f"What {task.name} made of one event.", _result(task, "serialization"), _result_headers())


def result_as_read(task: Task[Any, Any]) -> Schema:
    """What a reader of today must be able to take: results of yesterday, without fields that have a default."""
    return _result(task, "validation")


def dead_letter(task: Task[Any, Any]) -> Message:
    """The event byte for byte, and why it could not be answered."""
    headers = _texts(_prefixed("penstock.errors.", LETTER_HEADERS), required=True)
    headers["properties"]["penstock.errors.pointer"] = {
        "type": "string",
        "description": "1 where the event did not fit: the value says where it stands, and its sha256",
    }
    return Message("dead-letter", f"An event that {task.name} could not answer, as it came.", {}, headers)


def erasure(task: Task[Any, Any]) -> Message:
    """A record without a value."""
    ce = {"ce_type": "penstock.erased.v1", "ce_specversion": "", "ce_source": "", "ce_id": ""}
    headers = _texts(ce | _prefixed("penstock.erased.", ERASURE_HEADERS), required=True)
    headers["properties"]["ce_type"]["const"] = f"penstock.erased.v{VERSION}"
    headers["properties"] |= _texts({"ce_subject": "", "penstock.erased.subject": "what is erased"})["properties"]
    return Message("erasure", f"Delete what {task.name} made of a subject, or of all with this key.", None, headers)


def hand_over(task: Task[Any, Any]) -> Message:
    """The task's own business; here so that nobody is surprised by the topic."""
    headers = _texts(_prefixed("penstock.retry.", HAND_OVER_HEADERS), required=True)
    return Message("hand-over", f"An event that {task.name} asks again later, as it came.", {}, headers)


STATE: Mapping[str, type] = {"waste": Waste, "loss": Loss}


def state() -> list[Message]:
    """What readers may want of the state topic; other kinds are for workers alone."""
    return [Message(kind, (of.__doc__ or "").strip(), _schema_of(of), {"type": "object"}) for kind, of in STATE.items()]


def messages(task: Task[Any, Any]) -> list[Message]:
    """All of one task."""
    return [event(task), result(task), dead_letter(task), erasure(task), hand_over(task)]


def model_schema(
    task: Task[Any, Any], which: Literal["input", "output"], mode: Literal["validation", "serialization"]
) -> Schema:
    """Of the user's model. Raises `UserError` where it cannot be told."""
    model = getattr(task, which)
    try:
        return dict(model.model_json_schema(mode=mode, schema_generator=AsWritten))
    except PydanticInvalidForJsonSchema as error:
        raise UserError(
            f"Task {task.name!r}: {which}={model.__name__} has no JSON Schema ({error.message}); "
            "give that field a JSON type, or __get_pydantic_json_schema__"
        ) from error


def _result(task: Task[Any, Any], mode: Literal["validation", "serialization"]) -> Schema:
    schema = _schema_of(Result)
    output = model_schema(task, "output", mode)
    schema["$defs"] = {**schema.get("$defs", {}), **output.pop("$defs", {})}
    schema["properties"]["output"] = output
    schema["properties"]["task"] = {"type": "string", "const": task.name}
    return schema


def _schema_of(of: type) -> Schema:
    return copy.deepcopy(TypeAdapter(of).json_schema())


def _result_headers() -> Schema:
    headers = _texts(
        {
            "content-type": "",
            "ce_specversion": "",
            "ce_type": "",
            "ce_source": "",
            "ce_id": "the result's id",
            "ce_subject": "",
        },
        required=True,
    )
    headers["properties"]["content-type"]["const"] = "application/json"
    headers["properties"]["ce_type"]["const"] = f"penstock.result.v{VERSION}"
    return headers


def _prefixed(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    return {prefix + name: told for name, told in names.items()}


def _texts(names: Mapping[str, str], *, required: bool = False) -> Schema:
    properties = {name: {"type": "string"} | ({"description": told} if told else {}) for name, told in names.items()}
    return {"type": "object", "properties": properties} | ({"required": list(names)} if required else {})
