"""A receiver of webhooks as the standard wants one: verifies with the standard's own library, takes each message once, obeys."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from penstock.sinks.webhook.options import WebhookOptions
from penstock.sinks.webhook.signing import new_secret

SECRET = new_secret()
LOOPBACK = ("127.0.0.0/8",)


@dataclass
class Received:
    """One message whose signature is right."""

    id: str
    type: str
    data: dict[str, Any]
    headers: dict[str, str] = field(repr=False)


Script = Callable[[Received], "web.StreamResponse | Awaitable[web.StreamResponse] | None"]


class Receiver:
    """In a thread of its own, so that a test may block. `script` says what is answered; None is 204."""

    def __init__(self, script: Script | None = None, secret: str = SECRET) -> None:
        self.script = script
        self.tried: list[Received] = []
        """Every attempt, in the order of arrival."""
        self.taken: list[Received] = []
        """Those that were answered 2xx, each id once."""
        self.port = 0
        self._webhook = Webhook(secret)
        self._held: dict[str, dict[str, Any]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Listen, on the same port again."""
        self._await(self._start())

    def stop(self) -> None:
        """Nobody is there."""
        self._await(self._runner.cleanup())

    def close(self) -> None:
        self.stop()
        self._await(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the receiver's loop did not end within 30 s"
        self._loop.close()

    def options(self, **changed: Any) -> WebhookOptions:
        given = {"url": f"http://127.0.0.1:{self.port}/hooks/s3cr3t-path", "secrets": secret_of(SECRET)}
        return WebhookOptions(
            **{**given, "allow_http": True, "allow_networks": LOOPBACK, "timeout_seconds": 5.0, **changed}
        )

    def labels(self) -> dict[str, Any]:
        """What holds by the messages taken: each once, results replaced, erasures obeyed."""
        return {event: data["output"]["label"] for event, data in self._held.items()}

    def ids(self) -> list[str]:
        return [one.id for one in self.taken]

    def events(self) -> list[str]:
        return [one.data.get("event_id", "") for one in self.taken]

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _end(self) -> None:
        """Who hangs goes."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        assert len(body) < 20_001
        headers = {name.lower(): value for name, value in request.headers.items()}
        value = self._webhook.verify(body, headers)
        found = Received(headers["webhook-id"], value["type"], value["data"], headers)
        self.tried.append(found)
        answer = self.script(found) if self.script is not None else None
        if isinstance(answer, Awaitable) and not isinstance(answer, web.StreamResponse):
            answer = await answer
        response = answer or web.Response(status=204)
        if 200 <= response.status < 300 and found.type != "penstock.ping.v1" and found.id not in self.ids():
            self.taken.append(found)
            self._obey(found)
        return response

    def _obey(self, found: Received) -> None:
        data = found.data
        if found.type == "penstock.erased.v1":
            name = data["scope"]
            self._held = {event: one for event, one in self._held.items() if one.get(name) != data.get(name)}
        elif found.type in ("penstock.result.v1", "penstock.provisional.v1"):
            self._held[data["event_id"]] = data


def secret_of(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


def of_event(event: str, status: int, times: int = 10**9) -> Script:
    """Answers so to this event's messages, so often."""
    left = [times]

    def script(found: Received) -> web.StreamResponse | None:
        if found.data.get("event_id") != event or not left[0]:
            return None
        left[0] -= 1
        return web.Response(status=status, text=json.dumps({"no": "not this one"}))

    return script
