"""The simulator's life: in a loop of the caller's, or as a process of its own.

__main__ → [server] → http
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from typing import TYPE_CHECKING

from penstock.simulator.answers import BookError
from penstock.simulator.api import Api
from penstock.simulator.http import Connection
from penstock.simulator.options import OptionError, SimulatorOptions

if TYPE_CHECKING:
    from penstock.simulator.clock import Clock


class Server:
    """A listening simulator."""

    def __init__(self, api: Api, listener: asyncio.Server, connections: set[Connection]) -> None:
        self.api = api
        self._listener = listener
        self._connections = connections
        host, port = listener.sockets[0].getsockname()[:2]
        self.host: str = host
        self.port: int = port

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def close(self) -> None:
        """Stop listening and drop every connection; calls in flight end undelivered."""
        self._listener.close()
        for connection in [*self._connections]:
            connection.abandon()
        await self._listener.wait_closed()
        await asyncio.sleep(0)


async def serve(options: SimulatorOptions | None = None, clock: Clock | None = None) -> Server:
    """Listen on the running loop."""
    options = options or SimulatorOptions()
    try:
        api = Api(options, clock)
    except BookError as error:
        raise OptionError(str(error)) from None
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(
            lambda: Connection(api, connections), options.host, options.port, backlog=1024
        )
    except OSError as error:
        raise OptionError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror or error}; choose another host or port (0: a free one)"
        ) from None
    return Server(api, listener, connections)


def main(options: SimulatorOptions) -> None:
    """Serve until SIGTERM or SIGINT (or, if asked, until standard input ends), on a loop of its own.

    Prints one JSON line with the URL when ready.
    """
    try:
        import uvloop  # noqa: PLC0415 — not on Windows
    except ImportError:
        asyncio.run(_serve_until_told(options))
    else:
        uvloop.run(_serve_until_told(options))


async def _serve_until_told(options: SimulatorOptions) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server = await serve(options)
    # Calls leave no cycles behind; without this a third of the CPU goes into looking for some.
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    if options.exit_with_parent:
        await _watch_input(loop, told)
    sys.stdout.write(json.dumps({"url": server.url, "port": server.port, "simulator": "penstock"}) + "\n")
    sys.stdout.flush()
    await told.wait()
    await server.close()


async def _watch_input(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
    """The parent holds the other end of standard input: when it dies, by whatever death, we read its end."""

    class Ending(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 — the contract
            told.set()

        def eof_received(self) -> None:
            told.set()

    await loop.connect_read_pipe(Ending, sys.stdin.buffer)
