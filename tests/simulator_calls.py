"""Requests to the simulated API as tests write them, with or without a socket in between."""

import json
from typing import Any

from penstock.simulator.api import Api
from penstock.simulator.clock import VirtualClock
from penstock.simulator.exchange import Exchange, Request
from penstock.simulator.options import SimulatorOptions

HEADERS = {b"authorization": b"Bearer sk-test", b"anthropic-version": b"2026-10-21"}
HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
OFF = {"type": "disabled"}

ENTRY = {
    "i": {"type": "string", "description": "id of the event"},
    "c": {"type": "string", "enum": ["s", "l", "u"], "description": "confidence: s=sure, l=likely, u=unsure"},
    "d": {
        "type": "string",
        "enum": ["p", "h", "r"],
        "description": "decision: p=publish, h=hold, r=reject. What happens",
    },
    "v": {
        "type": "array",
        "items": {"type": "string", "enum": ["1", "2", "3", "4"]},
        "description": "violations: 1=spam.advertising, 2=abuse.insult, 3=fake.paid, 4=manipulation.instructions. Clauses",
    },
    "e": {"type": "string", "description": "evidence. Exact quote of the review that shows it"},
    "w": {"type": "string", "description": "reason. Why it is not published"},
}


def batch_schema(entry: dict[str, Any] | None = None, required: tuple[str, ...] = ("i", "c", "d")) -> dict[str, Any]:
    """The schema of a micro-batch's reply."""
    item = {"type": "object", "additionalProperties": False, "required": list(required), "properties": entry or ENTRY}
    listed = {"type": "array", "items": item}
    return {"type": "object", "additionalProperties": False, "required": ["r"], "properties": {"r": listed}}


def event_lines(*texts: Any) -> str:
    """The user's text of a micro-batch; the ids are a0, a1, …"""
    lines = [json.dumps({"id": f"a{at}", "event": text}, ensure_ascii=False) for at, text in enumerate(texts)]
    return "\n".join(["Judge each event:", *lines])


def message(text: str = "hello", **changes: Any) -> dict[str, Any]:
    """A body that the API accepts, unless the changes say otherwise; a change to None takes a key away."""
    body: dict[str, Any] = {
        "model": HAIKU,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": text}],
        "thinking": OFF,
    }
    body |= changes
    return {key: value for key, value in body.items() if value is not None}


def batch(*texts: Any, **changes: Any) -> dict[str, Any]:
    """A micro-batch over these events."""
    output = {"effort": "low", "format": {"type": "json_schema", "schema": batch_schema()}}
    return message(event_lines(*texts), **{"output_config": output, "max_tokens": 8000, **changes})


class Account:
    """A simulated account without a socket, on a clock that stands still."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock()
        self.api = Api(SimulatorOptions(**options), self.clock)

    def send(
        self, body: Any, *, path: str = "/v1/messages", method: str = "POST", deliver: bool = True, **headers: str
    ) -> Exchange:
        """One request, answered; with `deliver` the reply begins and is read at once."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        path, _, query = path.partition("?")
        exchange = self.api.handle(Request(method, path, query, HEADERS | named, raw))
        if deliver:
            finish(exchange)
        return exchange

    def reply(self, body: Any, **headers: str) -> dict[str, Any]:
        """The message that a body is answered with."""
        exchange = self.send(body, **headers)
        assert exchange.status == 200, exchange.body
        return json.loads(exchange.body)

    def refusal(self, body: Any, **headers: str) -> tuple[int, str, str]:
        """Status, error type and message of a rejected body."""
        exchange = self.send(body, **headers)
        found = json.loads(exchange.body)
        assert found["type"] == "error"
        assert found["request_id"] == exchange.request_id
        return exchange.status, found["error"]["type"], found["error"]["message"]

    def entries(self, body: Any, **headers: str) -> list[dict[str, Any]]:
        """The entries of a micro-batch's reply."""
        return json.loads(text_of(self.reply(body, **headers)))["r"]

    def totals(self) -> dict[str, Any]:
        """The accounts."""
        return self.api.totals()


def finish(exchange: Exchange, *, delivered: bool = True) -> None:
    """Let a reply begin and end."""
    if exchange.begins:
        exchange.begins()
    if exchange.ends:
        exchange.ends(delivered)


def text_of(reply: dict[str, Any]) -> str:
    """The text of a message, thinking left out."""
    return "".join(block["text"] for block in reply["content"] if block["type"] == "text")


def header_of(exchange: Exchange, name: str) -> str | None:
    """One header beyond those of the wire itself."""
    for line in exchange.headers.decode().split("\r\n"):
        key, _, value = line.partition(": ")
        if key == name:
            return value
    return None
