"""The HTTP server of `penstock serve`: listens, keeps slow senders away, and ends in order.

terminal → wiring → [server] → guard → gateway
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.errors import SettingsError
from penstock.web.guard import Guard
from penstock.web.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from penstock.web.guard import Application
    from penstock.web.options import GatewayOptions

logger = logging.getLogger("penstock.gateway")
MAX_HEADER_BYTES = 32 * 1024
BACKLOG = 512


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with an end to headers that are endless or never come."""

    options: GatewayOptions
    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.options.max_connections:
            transport.abort()
            return
        self._timer = self.loop.call_later(self.options.header_seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES and b"\r\n\r\n" not in data:
                self._refuse(431, "Request Header Fields Too Large")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        if self._timer is None:
            self._timer = self.loop.call_later(self.options.header_seconds, self._too_slow)

    def on_headers_complete(self) -> None:
        self._in_headers, self._header_bytes = False, 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        self._refuse(400, "Bad Request")

    def _too_slow(self) -> None:
        self._timer = None
        self._refuse(408, "Request Timeout")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _refuse(self, status: int, phrase: str) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        problem = Problem("malformed", "the request is no HTTP, or its headers are too long or too slow")
        body = orjson.dumps({**problem.content(), "status": status})
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's, but signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an application until told to stop; beside it run the loops that it needs."""

    def __init__(
        self,
        app: Callable[[], Application],
        options: GatewayOptions,
        *,
        around: Callable[[], AbstractAsyncContextManager[Sequence[Callable[[], Coroutine[Any, Any, None]]]]],
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._options, self._around, self._on_stop = app, options, around, on_stop
        self._stop = asyncio.Event()
        self.started = asyncio.Event()
        self.url = ""

    def stop(self) -> None:
        """Take no new requests, finish those in progress, end."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`. Raises what stopped a loop beside it."""
        with self._listening() as listening:
            async with self._around() as beside:
                server = _Server(self._config())
                loops = [asyncio.create_task(run()) for run in beside]
                serving = asyncio.create_task(server.serve([listening]))
                stopping = asyncio.create_task(self._stop.wait())
                try:
                    with self._signals():
                        await self._announce(server, serving)
                        await asyncio.wait([*loops, serving, stopping], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    server.should_exit = True
                    self._on_stop()
                    await asyncio.gather(serving, return_exceptions=True)
                    for task in (*loops, stopping):
                        task.cancel()
                    ended = await asyncio.gather(*loops, return_exceptions=True)
                    self.started.clear()
        for outcome in (serving.exception(), *ended):
            if isinstance(outcome, Exception):
                raise outcome

    async def _announce(self, server: _Server, serving: asyncio.Task[None]) -> None:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        logger.info("listening at %s", self.url)
        self.started.set()

    def _config(self) -> uvicorn.Config:
        options = self._options
        guarded = Guard(self._make(), only_local=options.auth == "none", is_tls=options.tls_certificate is not None)
        return uvicorn.Config(
            guarded,
            http=type("Protocol", (_Protocol,), {"options": options}),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=max(1, round(options.keep_alive_seconds)),
            timeout_graceful_shutdown=max(1, round(options.drain_seconds)),
            ssl_certfile=options.tls_certificate,
            ssl_keyfile=str(options.tls_private_key) if options.tls_private_key else None,
        )

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        host, port = self._options.host, self._options.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
            made = _bound(family, address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(f"gateway.port={port}: another process listens on {host}:{port}") from error
            raise SettingsError(f"gateway.host={host!r}, gateway.port={port}: {error.strerror or error}") from error
        scheme = "https" if self._options.tls_certificate else "http"
        shown, number = made.getsockname()[:2]
        self.url = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{number}"
        with made:
            yield made

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # there they cannot be caught
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _bound(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
