"""Around every page: safe headers, no host but ours where no key is asked for, unread bodies, and faults without their text.

server → [guard] → gateway
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import orjson

from penstock.web.options import LOOPBACK
from penstock.web.problems import MEDIA_TYPE, Problem

logger = logging.getLogger("penstock.gateway")
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
STRICT = (b"strict-transport-security", b"max-age=31536000")
LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024
"""So much of an unread body is taken after the answer, so that its sender reads the answer before the connection ends."""


class Guard:
    """An ASGI application around another. `only_local` answers no request that names another host: a page of a foreign
    site whose name was pointed at this machine would be one."""

    def __init__(self, app: Application, *, only_local: bool, is_tls: bool) -> None:
        self._app = app
        self._only_local = only_local
        self._headers = [*SAFE, STRICT] if is_tls else [*SAFE]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._headers)
        try:
            if self._only_local and not _is_local(scope):
                detail = "without keys (gateway.auth='none') only this machine may ask: use http://127.0.0.1"
                await _answer(exchange.send, Problem("wrong-host", detail))
                return
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold an event's
            at = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("a request failed: %s at %s:%d", type(error).__name__, Path(at.filename).name, at.lineno or 0)  # noqa: TRY400
            if not exchange.has_begun:
                await _answer(
                    exchange.send, Problem("internal", "the fault is logged; the same request may work later")
                )


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._receive, self._send, self._headers = receive, send, headers
        names = {name: value for name, value in scope["headers"] if name in {b"content-length", b"transfer-encoding"}}
        self._is_unread = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        self.has_begun = False

    async def receive(self) -> Message:
        """The body, noting its end."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._is_unread = False
        return message

    async def send(self, message: Message) -> None:
        """The answer with our headers. One that comes before the body was read ends the connection, gently."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            own = {name for name, _ in message.get("headers", [])}  # a page for people has a policy of its own
            added = [
                *(pair for pair in self._headers if pair[0] not in own),
                *([(b"connection", b"close")] if self._is_unread else []),
            ]
            given = [pair for pair in message.get("headers", []) if pair[0] != b"connection"]
            await self._send({**message, "headers": [*given, *added]})
        elif self._is_unread and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def _linger(self) -> None:
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while self._is_unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _is_local(scope: Scope) -> bool:
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        return False
    host = hosts[0].rpartition(":")[0] if hosts[0].rpartition(":")[2].isdigit() else hosts[0]
    return host.strip("[]").lower() in LOOPBACK


async def _answer(send: Send, problem: Problem) -> None:
    body = orjson.dumps(problem.content())
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
