"""A record of a results or dead-letter topic, as a sink is handed it.

log → [reading] → delivery → sink
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_origin

import orjson

from penstock.deadletters.letter import PREFIX, read_letter
from penstock.erasure import read_erasure
from penstock.outcome import CONFIDENCES
from penstock.record import Position, Record, header
from penstock.sinks.base import Content, Delivery, Result, Times, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.sinks.base import Reads
    from penstock.task import Task


@dataclass(frozen=True, slots=True)
class Feed:
    """The topics of one task that sinks read."""

    task: str
    results: str
    letters: str
    label: str = ""
    """The output field that says in a word what was decided: the first of closed values (Literal, Enum, bool)."""


def feeds_of(tasks: Sequence[Task[Any, Any]]) -> list[Feed]:
    """What these tasks write."""
    return [Feed(task.name, task.writes, task.dead_letters, label_of(task)) for task in tasks]


def label_of(task: Task[Any, Any]) -> str:
    """The field of the task's output that is its verdict in a word; empty where it has none."""
    fields: dict[str, Any] = task.output.model_fields
    for name, field in fields.items():
        kind: Any = field.annotation
        if kind is bool or get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
            return name
    return ""


def topics_of(feeds: Sequence[Feed], reads: frozenset[Reads]) -> list[str]:
    """What a sink subscribes to."""
    results = [feed.results for feed in feeds] if "results" in reads else []
    letters = [feed.letters for feed in feeds] if "letters" in reads else []
    return list(dict.fromkeys([*results, *letters]))


def read_delivery(record: Record) -> Delivery:
    """What the record is. Raises ValueError where it is nothing of ours."""
    return Delivery(_content(record), record)


def _content(record: Record) -> Content:
    if record.headers:
        if (erasure := read_erasure(record)) is not None:
            return erasure
        if header(record.headers, PREFIX + "id") is not None:
            return read_letter(record)
    if record.value is None:
        raise ValueError("a record without a value that is no erasure of Penstock")
    try:
        return _result(orjson.loads(record.value))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no result of Penstock: {type(error).__name__} {error}") from None


def _result(value: dict[str, Any]) -> Result:
    usage, times, source = value["usage"], value["times"], value["source"]
    result = Result(
        id=value["id"],
        event_id=value["event_id"],
        subject=value["subject"],
        task=value["task"],
        output=value["output"],
        confidence=value["confidence"],
        provisional=value["provisional"],
        supersedes=value.get("supersedes", ""),
        generation=value.get("generation", 0),
        lane=value.get("lane", ""),
        tier=value["tier"],
        model=value["model"],
        prompt=value["prompt"],
        policy=value["policy"],
        simulated=value["simulated"],
        attempts=value["attempts"],
        usage=Usage(*(usage[name] for name in Usage._fields)),
        nanousd=value["nanousd"],
        source=Position(source["topic"], source["partition"], source["offset"]),
        times=Times(*(times[name] for name in Times._fields)),
    )
    texts = (result.id, result.event_id, result.subject, result.task, result.model, result.policy)
    numbers = (result.nanousd, result.attempts, result.generation, *result.times, *result.usage)
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(isinstance(number, int) for number in numbers)
        or not isinstance(result.output, dict)
        or result.confidence not in CONFIDENCES
    ):
        raise ValueError("no result of Penstock: a field has another type")
    return result
