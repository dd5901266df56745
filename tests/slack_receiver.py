"""Slack, as far as posting goes: an incoming webhook and `chat.postMessage` on this machine, for tests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from penstock.sinks.slack.options import SlackOptions

Script = Callable[[dict[str, Any]], "web.Response | None"]


class SlackReceiver:
    """In a thread of its own. `script` says what is answered; None takes the message."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script
        self.tried = 0
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Listen, on the same port again."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """Nobody is there."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the receiver's loop did not end within 10 s"
        self._loop.close()

    def options(self, **more: Any) -> SlackOptions:
        """A channel that is told here at once."""
        quick = {
            "group_wait_seconds": 0.01,
            "group_interval_seconds": 0.01,
            "allow_http": True,
            "start_from": "earliest",
        }
        if "token" not in more:
            more["webhook_secret"] = SecretStr(f"http://127.0.0.1:{self.port}/services/T0/B0/x")
        return SlackOptions(**{**quick, "base_url": f"http://127.0.0.1:{self.port}/api/", **more})

    def titles(self) -> list[str]:
        return [message["text"] for message in self.taken]

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/services/{rest:.*}", self._webhook)
        app.router.add_post("/api/chat.postMessage", self._api)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def _webhook(self, request: web.Request) -> web.Response:
        return self._answer(request, await request.json()) or web.Response(text="ok")

    async def _api(self, request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            body = await request.json()
        else:
            body = dict(await request.post())
            body["blocks"] = json.loads(body["blocks"])
        return self._answer(request, body) or web.json_response({"ok": True, "ts": "1.0"})

    def _answer(self, request: web.Request, body: dict[str, Any]) -> web.Response | None:
        self.tried += 1
        self.headers.append(dict(request.headers))
        said = self.script(body) if self.script is not None else None
        if said is None:
            self.taken.append(body)
        return said
