"""The ops port of a worker: one small HTTP server for metrics and health, beside the work on the same event loop.

Prometheus, probes → [server] → exposition, health
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from aiohttp import web

logger = logging.getLogger("penstock.ops")
USUAL_PORT = 9464
"""OpenTelemetry's and many others' choice for a Prometheus port."""
BACKLOG = 128
CLOSE_SECONDS = 1.0
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class OpsOptions:
    """Where `penstock run` answers `/metrics`, `/status`, `/livez`, `/readyz` and `/startupz`."""

    host: str = "127.0.0.1"
    """`0.0.0.0` in a container, where probes come from outside. No page holds secrets or text of events."""
    port: int | Literal["auto", "off"] = "auto"
    """`auto`: 9464, and a free one where another worker has it; 0: a free one; `off`: none. It is logged."""
    lag_interval_seconds: float = 15.0
    """How often the log is asked how much waits."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a port, naming the setting."""
        if isinstance(self.port, int) and not 0 <= self.port <= 65_535:
            raise SettingsError(f"ops.port={self.port}: write a port from 0 to 65535, 'auto' or 'off'")
        if not self.lag_interval_seconds > 0:
            raise SettingsError(
                f"ops.lag_interval_seconds={self.lag_interval_seconds!r}: write a number greater than 0"
            )


class Page(NamedTuple):
    """What a path answers."""

    body: bytes
    status: int = 200
    content_type: str = TEXT


class Ask(NamedTuple):
    """What was asked of a path."""

    is_verbose: bool
    accept: str


Pages = Mapping[str, Callable[[Ask], Page]]


def _bound(family: int, address: Any, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address[0], port, *address[2:]))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


class OpsServer:
    """Serves pages by path until closed. A page that raises is a 500 of its own; the worker goes on."""

    def __init__(self, options: OpsOptions, pages: Pages) -> None:
        self._options = options
        self._pages = pages
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen. Raises `SettingsError` where that cannot be; the text names the setting."""
        from aiohttp import web  # noqa: PLC0415 - heavy, and not needed where the port is off

        if self._options.port == "off":
            return
        app = web.Application()
        for path in self._pages:
            app.router.add_get(path, self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        try:
            listening = await self._listening()
            await web.SockSite(self._runner, listening).start()
        except BaseException:
            await self.close()
            raise
        host, port = listening.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        logger.info("metrics and health at %s (/metrics, /status, /livez, /readyz, /startupz)", self.url)

    async def close(self) -> None:
        """Stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _listening(self) -> socket.socket:
        """A socket that listens already: when workers start together, only listening tells who has the port."""
        wanted = self._options.port
        assert wanted != "off"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self._options.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            # "localhost" may name both: what asks is more often at home in the older.
            family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
            try:
                return _bound(family, address, USUAL_PORT if wanted == "auto" else wanted)
            except OSError as error:
                if wanted != "auto" or error.errno != errno.EADDRINUSE:
                    raise
                return _bound(family, address, 0)
        except OSError as error:
            raise SettingsError(self._refusal(error)) from error

    def _refusal(self, error: OSError) -> str:
        host, port = self._options.host, self._options.port
        if error.errno == errno.EADDRINUSE:
            return (
                f"ops.port={port}: another process listens on {host}:{port}; give this worker another port, 0 for a free "
                "one (it is logged), or 'off'"
            )
        return f"ops.host={host!r}, ops.port={port}: cannot listen there: {error.strerror or error}"

    async def _answer(self, request: web.Request) -> web.Response:
        from aiohttp import web  # noqa: PLC0415

        ask = Ask("verbose" in request.query, request.headers.get("accept", ""))
        page = self._pages[request.path](ask)
        headers = {"content-type": page.content_type, "cache-control": "no-store", "x-content-type-options": "nosniff"}
        return web.Response(body=page.body, status=page.status, headers=headers)
