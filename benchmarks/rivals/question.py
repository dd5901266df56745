"""The question that all rivals ask: one event a call, or many with an id each. Same model, rules and codes as Penstock's task."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import orjson

RULES = "Decide whether this customer review may be published, and what its sentiment is."
POLICY = os.environ.get("BENCH_POLICY", "")
MODEL = "claude-haiku-5-5"
CALLS_IN_FLIGHT = 256
FIELDS = {
    "d": {"type": "string", "enum": ["p", "h", "r"], "description": "decision: p=publish, h=hold, r=reject"},
    "s": {"type": "string", "enum": ["1", "2", "3"], "description": "sentiment: 1=positive, 2=negative, 3=neutral"},
    "r": {"type": "string", "description": "reason. Left out where there is none"},
}
LEGEND = "\n".join(f"- {key}: {field['description']}" for key, field in FIELDS.items())
DECISIONS = {"p": "publish", "h": "hold", "r": "reject"}
SENTIMENTS = {"1": "positive", "2": "negative", "3": "neutral"}


class Place(NamedTuple):
    """Where to read, ask and write."""

    bootstrap: str
    api_url: str
    topic: str
    results: str
    group: str


def place() -> Place:
    return Place(*sys.argv[1:6])


def request(text: str, answer: dict[str, Any], system: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": max_tokens,
        "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": text}],
        "output_config": {"format": {"type": "json_schema", "schema": answer}, "effort": "low"},
        "thinking": {"type": "disabled"},
    }


def about_one(event: dict[str, Any]) -> dict[str, Any]:
    """One event a call."""
    schema = {"type": "object", "additionalProperties": False, "required": ["d", "s"], "properties": FIELDS}
    system = f"{RULES}\n{POLICY}\nReply with:\n{LEGEND}"
    return request(shown(event), schema, system, 200)


def about_many(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Many events a call, numbered."""
    entry = {
        "type": "object",
        "additionalProperties": False,
        "required": ["i", "d", "s"],
        "properties": {"i": {"type": "string", "description": "id of the event"}, **FIELDS},
    }
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["r"],
        "properties": {"r": {"type": "array", "items": entry}},
    }
    system = f"{RULES}\n{POLICY}\nGive one entry for each event, under its id:\n- i: id of the event\n{LEGEND}"
    lines = [f'{{"id":"{number}","event":{shown(event)}}}' for number, event in enumerate(events)]
    return request("\n".join(["Give one entry for each of these events.", *lines]), schema, system, 8_000)


def shown(event: dict[str, Any]) -> str:
    return orjson.dumps({"text": event["text"], "rating": event["rating"]}).decode()


def result(event: dict[str, Any], entry: dict[str, Any]) -> bytes:
    """What is written to the results topic."""
    return orjson.dumps(
        {
            "event_id": event["review_id"],
            "decision": DECISIONS[entry["d"]],
            "sentiment": SENTIMENTS[entry["s"]],
            "reason": entry.get("r", ""),
        }
    )
