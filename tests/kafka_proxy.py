"""Stands between a client and the broker and loses what a test wants lost: an answer to one kind of request, or the request;
or answers that a transaction has ended, and keeps the request back.

KafkaLog → [kafka proxy] → broker
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Literal

END_TRANSACTION = 26
"""Kafka's number of the request that commits or aborts a transaction."""
ADD_OFFSETS = 25
"""Of the request that makes a group's progress part of a transaction."""
START_PRODUCER = 22
"""Of the request by which a transactional producer starts, and ends what its predecessor left open."""


class Proxy:
    """Passes everything on, except the first request of the kind to be lost, or its answer, and every request of kinds that are swallowed."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._lost: Literal["request", "answer", "truth"] | None = None
        self._kind = -1
        self._swallowed: frozenset[int] = frozenset()
        self._kept_back: tuple[asyncio.StreamWriter, bytes] | None = None
        self.has_lost = asyncio.Event()
        self._is_gone = False
        self._tasks: set[asyncio.Task[None]] = set()

    def lose(self, what: Literal["request", "answer", "truth"], kind: int = END_TRANSACTION) -> None:
        """From now on, once. The truth: the client hears that its transaction has ended, and the broker only by `let_on`."""
        self._lost, self._kind = what, kind
        self.has_lost.clear()

    def swallow(self, *kinds: int) -> None:
        """From now on, every request of these kinds is lost: to its client the broker is slow. None: all pass again."""
        self._swallowed = frozenset(kinds)

    async def let_on(self) -> None:
        """The broker hears now what was kept back."""
        assert self._kept_back is not None
        to_broker, frame = self._kept_back
        to_broker.write(frame)
        await to_broker.drain()

    async def connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection of a client, for as long as both ends hold it."""
        if self._is_gone:
            to_client.close()
            return
        try:
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:  # it is away
            to_client.close()
            return
        mute_answers: set[bytes] = set()
        ways = [
            asyncio.create_task(self._requests(client, to_broker, to_client, mute_answers)),
            asyncio.create_task(self._answers(broker, to_client, mute_answers)),
        ]
        self._tasks.update(ways)
        _, open_ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in open_ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._tasks.difference_update(ways)
        to_broker.close()
        to_client.close()

    def vanish(self) -> None:
        """Nobody gets through any more."""
        self._is_gone = True
        self.stop()

    def stop(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()

    async def _requests(
        self,
        client: asyncio.StreamReader,
        to_broker: asyncio.StreamWriter,
        to_client: asyncio.StreamWriter,
        mute_answers: set[bytes],
    ) -> None:
        async for frame in _frames(client):
            kind, correlation = struct.unpack_from(">h", frame, 4)[0], frame[8:12]
            if self._lost is not None and kind == self._kind:
                what, self._lost = self._lost, None
                self.has_lost.set()
                if what == "truth":
                    assert kind == END_TRANSACTION
                    assert int.from_bytes(frame[6:8]) < 3, "its answer looks otherwise"
                    to_client.write(struct.pack(">i4sih", 10, correlation, 0, 0))  # not throttled, no error
                    self._kept_back = to_broker, frame
                if what != "answer":
                    continue
                mute_answers.add(correlation)
            elif kind in self._swallowed:
                continue
            to_broker.write(frame)
            await to_broker.drain()

    async def _answers(
        self, broker: asyncio.StreamReader, to_client: asyncio.StreamWriter, mute_answers: set[bytes]
    ) -> None:
        async for frame in _frames(broker):
            if frame[4:8] in mute_answers:
                continue
            to_client.write(frame)
            await to_client.drain()


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            size = await reader.readexactly(4)
            yield size + await reader.readexactly(int.from_bytes(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return


@contextlib.asynccontextmanager
async def running_proxy(port: int, broker_port: int) -> AsyncIterator[Proxy]:
    """A proxy on `port`, in front of the broker."""
    proxy = Proxy(broker_port)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        proxy.stop()
        await asyncio.sleep(0)
