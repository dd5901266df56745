"""The OpenAPI document: FastAPI's frame, the tasks' own input models, and every answer there is.

gateway → [openapi] → producers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import models_json_schema

from penstock.codecs.cloudevents import STRUCTURED
from penstock.web.bodies import BATCH, JSON, LINES
from penstock.web.problems import MEDIA_TYPE, TYPES
from penstock.web.replies import Accepted, BatchReply, EventReply, ProblemReply, RefusedBatch

if TYPE_CHECKING:
    from fastapi import FastAPI

    from penstock.task import Task
    from penstock.web.gateway import Parts

REF = "#/components/schemas/"
REPLIES: list[type[BaseModel]] = [Accepted, BatchReply, EventReply, ProblemReply, RefusedBatch]
TEXT = "Takes events over HTTP, writes them to the log before it answers, and says what became of them."
POST_REFUSALS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503)
GET_REFUSALS = (400, 401, 403, 404, 500, 503)
Schema = dict[str, Any]


def document(app: FastAPI, parts: Parts) -> Schema:
    """Made once for an application."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(title="Penstock gateway", version="1", description=TEXT, routes=[])
    topics = sorted(parts.judges)
    schemas = models_json_schema([(model, "serialization") for model in REPLIES], ref_template=REF + "{model}")[1][
        "$defs"
    ]
    paths: Schema = {}
    for topic in topics:
        tasks = [task for task in parts.tasks if task.reads == topic]
        base = "/v1/events" if len(topics) == 1 else f"/v1/topics/{topic}/events"
        name = f"event.{topic}"
        schemas |= _input(tasks, name)
        paths[base] = {"post": _post(parts, topic, name)}
        paths[base + "/{event_id}"] = {"get": _get(parts, topic)}
    paths["/livez"] = {"get": _health("alive", "Whether the process answers", {"200": "It does"})}
    told = {"200": "It can", "503": "The log does not answer"}
    paths["/readyz"] = {"get": _health("ready", "Whether events can be taken", told)}
    made |= {"paths": paths, "components": {"schemas": schemas}}
    if parts.keys is not None:
        scheme = {"type": "http", "scheme": "bearer", "description": "A key of `penstock gateway key`: psk_…"}
        made["components"]["securitySchemes"] = {"key": scheme}
    app.openapi_schema = made
    return made


def _input(tasks: Sequence[Task[Any, Any]], name: str) -> Schema:
    """The model of what the topic's events are; every task of the topic must be able to read them."""
    found: Schema = {}
    each: list[Schema] = []
    for task in tasks:
        if task.decode is not None:  # what it reads is its decoder's business
            schema: Schema = {"description": f"Whatever the decoder of task {task.name} reads"}
        else:
            schema = _schema_of(task.input)
        for inner, content in schema.pop("$defs", {}).items():
            found[inner] = content
        if schema not in each:
            each.append(schema)
    found[name] = each[0] if len(each) == 1 else {"allOf": each}
    return found


def _schema_of(model: type[BaseModel]) -> Schema:
    try:
        return model.model_json_schema(ref_template=REF + "{model}", mode="validation")
    except PydanticInvalidForJsonSchema:
        return {"description": f"{model.__name__}: one of its fields has no JSON Schema"}


def _post(parts: Parts, topic: str, name: str) -> Schema:
    event = {"$ref": REF + name}
    most = parts.options.max_batch_events

    def several(one: Schema) -> Schema:
        return {"type": "array", "minItems": 1, "maxItems": most, "items": one}

    envelope = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 1024},
            "source": {"type": "string", "minLength": 1},
            "type": {"type": "string", "minLength": 1},
            "data": event,
        },
    }
    lines = "One event a line, read as they come: any number of them"
    content = {
        JSON: {"schema": {"anyOf": [event, several(event)]}},
        LINES[0]: {"schema": {"type": "string", "description": lines}},
        STRUCTURED: {"schema": envelope},
        BATCH: {"schema": several(envelope)},
    }
    answers = {
        "202": _answer("The event, or every event of the batch, is in the log", ["Accepted", "BatchReply"]),
        "207": _answer(
            "Some events were refused, as `items` say, or a stream was stopped, as `stopped` says", ["BatchReply"]
        ),
        **_refusals(POST_REFUSALS),
    }
    answers["422"]["content"] = {MEDIA_TYPE: {"schema": _any(["ProblemReply", "RefusedBatch"])}}
    return {
        "operationId": f"post_{_word(topic)}",
        "summary": f"Send events to {topic}",
        "description": "One event, an array, NDJSON, or CloudEvents: structured, batched, or binary (`ce-` headers).",
        "parameters": _POST_HEADERS,
        "requestBody": {"required": True, "content": content},
        "responses": answers,
        **_security(parts, "events:write"),
    }


def _get(parts: Parts, topic: str) -> Schema:
    event_id = {"name": "event_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    wait = {
        "name": "wait",
        "in": "query",
        "required": False,
        "description": f"Answer when the event has ended, at the latest after this time (at most {parts.options.max_wait_seconds:g}s)",
        "schema": {"type": "string", "pattern": "^[0-9]{1,6}([.][0-9]{1,6})?(ms|s)?$"},
        "example": "5s",
    }
    return {
        "operationId": f"get_{_word(topic)}",
        "summary": f"What became of an event of {topic}",
        "parameters": [event_id, wait],
        "responses": {"200": _answer("What is known", ["EventReply"]), **_refusals(GET_REFUSALS)},
        **_security(parts, "events:read"),
    }


def _health(operation: str, summary: str, told: dict[str, str]) -> Schema:
    schema = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    answers = {status: {"description": text, "content": {JSON: {"schema": schema}}} for status, text in told.items()}
    return {"operationId": operation, "summary": summary, "responses": answers}


def _refusals(statuses: Sequence[int]) -> Schema:
    found: Schema = {}
    for status in statuses:
        titles = [f"`{kind}`: {title}" for kind, (own, title) in TYPES.items() if own == status]
        made: Schema = {
            "description": ". ".join(titles),
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{REF}ProblemReply"}}},
        }
        if status in {409, 429, 503}:
            made["headers"] = {
                "retry-after": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
            }
        if status == 401:
            made["headers"] = {"www-authenticate": {"schema": {"type": "string"}}}
        found[str(status)] = made
    return found


def _answer(text: str, models: list[str]) -> Schema:
    return {"description": text, "content": {JSON: {"schema": _any(models)}}}


def _any(models: list[str]) -> Schema:
    refs = [{"$ref": REF + model} for model in models]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _security(parts: Parts, scope: str) -> Schema:
    return {} if parts.keys is None else {"security": [{"key": []}], "x-scope": scope}


def _word(topic: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in topic)


_POST_HEADERS: list[Schema] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Makes a repeat of this request harmless for a day; else the events' own ids do",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._:-]+$"},
    },
    {
        "name": "penstock-priority",
        "in": "header",
        "required": False,
        "schema": {"enum": ["high", "normal", "low"]},
    },
    {
        "name": "penstock-deadline",
        "in": "header",
        "required": False,
        "description": "Unix time in milliseconds; where a task would get to it later, it is refused (429)",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{12}$"},
    },
]
