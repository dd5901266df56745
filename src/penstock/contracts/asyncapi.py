"""An AsyncAPI 3 document of all topics of some tasks, made from the tasks.

records, log.topics → [asyncapi] → `penstock schema`
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from penstock.contracts import records
from penstock.contracts.records import Message, Schema
from penstock.log.base import TopicSpec
from penstock.log.state import STATE_TOPIC
from penstock.log.topics import topic_specs
from penstock.task import Task

KAFKA_BINDING = "0.5.0"


def document(
    tasks: Sequence[Task[Any, Any]], *, version: str, brokers: Sequence[str] = (), partitions: int = 12
) -> dict[str, Any]:
    """Channels, operations and messages of these tasks. `brokers`: HOST:PORT, shown as servers."""
    channels: dict[str, Any] = {}
    for task in tasks:
        specs = {spec.name: spec for spec in topic_specs(task, partitions)}
        for topic, kinds in _kinds(task).items():
            channel = channels.setdefault(topic, _channel(specs[topic]))
            channel["messages"] |= {name: {"$ref": f"#/components/messages/{name}"} for name in kinds}
    known = {_name(task, message): message for task in tasks for message in records.messages(task)}
    known |= {f"{STATE_TOPIC}.{message.name}": message for message in records.state()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": " and ".join(task.name for task in tasks),
            "version": version,
            "description": "Within a version fields are only added; readers ignore what they do not know. "
            "Readers set isolation.level=read_committed.",
        },
        "defaultContentType": "application/json",
        **(
            {"servers": {f"kafka-{n}": {"host": host, "protocol": "kafka"} for n, host in enumerate(brokers, 1)}}
            if brokers
            else {}
        ),
        "channels": channels,
        "operations": {name: one for task in tasks for name, one in _operations(task).items()},
        "components": {
            "messages": {name: _message(name, message) for name, message in known.items()},
            "schemas": {name: _local(schema, name) for name, schema in _schemas(known).items()},
        },
    }


def schema_files(tasks: Sequence[Task[Any, Any]]) -> dict[str, Schema]:
    """File name → JSON Schema, of every message that has a value of ours or of the user's."""
    known = {_name(task, message): message for task in tasks for message in records.messages(task)}
    known |= {f"{STATE_TOPIC}.{message.name}": message for message in records.state()}
    return {
        f"{name}.json": {"$schema": records.DIALECT, "title": name, "description": message.summary, **message.value}
        for name, message in known.items()
        if message.value
    }


def _kinds(task: Task[Any, Any]) -> dict[str, list[str]]:
    """Topic → names of the messages in it."""
    called = {message.name: _name(task, message) for message in records.messages(task)}
    return {
        task.reads: [called["event"]],
        task.writes: [called["result"], called["erasure"]],
        task.dead_letters: [called["dead-letter"], called["erasure"]],
        task.retry_topic: [called["hand-over"], called["erasure"]],
        STATE_TOPIC: [f"{STATE_TOPIC}.{message.name}" for message in records.state()],
    }


def _name(task: Task[Any, Any], message: Message) -> str:
    return f"{task.name}.{message.name}"


def _channel(spec: TopicSpec) -> dict[str, Any]:
    kept: dict[str, Any] = {"cleanup.policy": ["compact"] if spec.is_compacted else ["delete"]}
    if not spec.is_compacted:
        kept["retention.ms"] = spec.retention_ms if spec.retention_ms is not None else -1
    return {
        "address": spec.name,
        "messages": {},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": kept,
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _operations(task: Task[Any, Any]) -> dict[str, Any]:
    group = {"kafka": {"groupId": {"type": "string", "const": task.group}, "bindingVersion": KAFKA_BINDING}}
    found: dict[str, Any] = {}
    for topic, kinds in _kinds(task).items():
        channel = {"$ref": f"#/channels/{_escaped(topic)}"}
        messages = [{"$ref": f"{channel['$ref']}/messages/{name}"} for name in kinds]
        if topic in task.topics:
            receive = {"action": "receive", "channel": channel, "messages": messages, "bindings": group}
            found[f"{task.name}.receive.{topic}"] = receive
        if topic != task.reads:
            found[f"{task.name}.send.{topic}"] = {"action": "send", "channel": channel, "messages": messages}
    return found


def _message(name: str, message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "summary": message.summary, "headers": message.headers}
    if message.value is None:
        return found | {"payload": {"type": "null"}, "bindings": _keyed("the deletion's key")}
    if not message.value:
        return found | {
            "payload": True,
            "contentType": "application/octet-stream",
            "bindings": _keyed("the event's key"),
        }
    return found | {
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "contentType": message.content_type,
        "bindings": _keyed("JSON array [task, kind, id]" if name.startswith(STATE_TOPIC) else "the event's key"),
    }


def _keyed(told: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "description": told}, "bindingVersion": KAFKA_BINDING}}


def _schemas(known: dict[str, Message]) -> dict[str, Schema]:
    return {name: message.value for name, message in known.items() if message.value}


def _local(schema: Schema, name: str) -> Schema:
    """References of a schema of its own, as they must read inside the document."""

    def moved(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: _moved_ref(value, name) if key == "$ref" else moved(value) for key, value in part.items()}
        return [moved(one) for one in part] if isinstance(part, list) else part

    found: Schema = moved(copy.deepcopy(schema))
    return found


def _moved_ref(ref: str, name: str) -> str:
    return f"#/components/schemas/{_escaped(name)}/{ref.removeprefix('#/')}"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
