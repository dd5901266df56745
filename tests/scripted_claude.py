"""A Messages API that answers exactly as a test says: for faults that must be precise."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from penstock.claude.client import ClaudeClient, ClaudeOptions

Script = Callable[[dict[str, Any]], web.StreamResponse | Awaitable[web.StreamResponse]]


class ScriptedApi:
    """Keeps every request that arrived; `script` makes the response to it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.base_url = ""
        self.respond_raw: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def respond(self, request: web.Request) -> web.StreamResponse:
        if self.respond_raw is not None:
            return await self.respond_raw(request)
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        response = self.script(body)
        return response if isinstance(response, web.StreamResponse) else await response


@asynccontextmanager
async def scripted(script: Script, **options: Any):
    """A client of a scripted API, both closed at the end."""
    api = ScriptedApi(script)
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/v1/messages", api.respond)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = ClaudeClient(ClaudeOptions(api_key="test-key", base_url=api.base_url, **options))
    try:
        yield api, client
    finally:
        await client.close()
        await runner.cleanup()


def asked_events(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """The ids and events of a request, as the wire format has them."""
    text = body["messages"][0]["content"][0]["text"]
    lines = [json.loads(line) for line in text.split("\n")[1:]]
    return [(line["id"], line["event"]) for line in lines]


def message(text: str | None, *, stop_reason: str | None = "end_turn", headers=None, blocks=None, **usage: Any):
    """A response with HTTP 200, complete as the API's."""
    content = blocks if blocks is not None else []
    if text is not None:
        content = [*content, {"type": "text", "text": text, "citations": None}]
    counts = {"input_tokens": 800, "output_tokens": 100, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {**counts, "cache_creation": None, "inference_geo": "global", **usage},
    }
    return web.json_response(body, headers={"request-id": "req_1", **(headers or {})})


def error(status: int, kind: str = "", text: str = "no", code: str = "", headers=None, **details: Any):
    """An error response, as the API's."""
    inner: dict[str, Any] = {"type": kind, "message": text}
    if code:
        inner["details"] = {"error_code": code, **details}
    body = {"type": "error", "error": inner, "request_id": "req_e"}
    return web.json_response(body, status=status, headers={"request-id": "req_e", **(headers or {})})


def entries(*rows: dict[str, Any]) -> str:
    """The text of a reply with these entries."""
    return json.dumps({"r": list(rows)})
