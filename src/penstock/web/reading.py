"""Reads a request's body within its limits: of size, of time, and of all bodies together.

request → [reading] → bodies
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from penstock.web.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from penstock.web.options import GatewayOptions

CLOSE = {"connection": "close"}
"""What is left of the body is not read: the connection cannot go on."""
PART_BYTES = 320 * 1024
"""The most that comes of a body at once: what the server gathers before it stops a sender, and one read of a socket."""


class Place:
    """What one stream has of the room."""

    def __init__(self, buffers: Buffers, least: int) -> None:
        self._buffers, self._least = buffers, least
        self._size = least

    def holds(self, size: int) -> bool:
        """It holds so much now; whether it should read more before that is gone."""
        size, before = max(self._least, size), self._size
        self._size = size
        return self._buffers.add(size - before)


class Buffers:
    """How many requests are in progress and how many bytes of their bodies there may be."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._requests = self._streams = 0
        self._bytes = self._stream_bytes = 0

    @asynccontextmanager
    async def room(self, headers: Mapping[str, str]) -> AsyncIterator[None]:
        """Raises a `Problem` where the body is too large or there is no room for it now, before any of it is read."""
        with self._place(self._size(headers, self._options.max_body_bytes)):
            yield

    @asynccontextmanager
    async def stream(self, headers: Mapping[str, str]) -> AsyncIterator[Place]:
        """The same for a body of which a part is kept at a time: it has room for a line, and as much more as there is.

        Streams go on for long. All of them have at most half of the room, so that other requests find some.
        """
        most = self._options.max_stream_bytes
        least = min(self._options.max_event_bytes + PART_BYTES, self._options.max_body_bytes, self._size(headers, most))
        if self._streams and (
            self._streams >= self._options.max_requests // 2
            or self._stream_bytes + least > self._options.max_buffered_bytes // 2
        ):
            detail = (
                "streams of lines have at most half of gateway.max_requests and of gateway.max_buffered_bytes, and others "
                "have it now: send it again, or single events and arrays meanwhile"
            )
            raise Problem("busy", detail, retry_after_seconds=5, headers=CLOSE)
        with self._place(least):
            place = Place(self, least)
            self._streams += 1
            self._stream_bytes += least
            try:
                yield place
            finally:
                place.holds(0)
                self._streams -= 1
                self._stream_bytes -= least

    @contextmanager
    def _place(self, size: int) -> Iterator[None]:
        is_full = self._requests >= self._options.max_requests
        if is_full or (self._requests and self._bytes + size > self._options.max_buffered_bytes):
            detail = "too many requests are in progress: send it again, with the same id or Idempotency-Key"
            raise Problem("busy", detail, retry_after_seconds=1, headers=CLOSE)
        self._requests += 1
        self._bytes += size
        try:
            yield
        finally:
            self._requests -= 1
            self._bytes -= size

    def add(self, size: int) -> bool:
        """A stream holds so much more, or less; whether streams may hold still more."""
        self._bytes += size
        self._stream_bytes += size
        most = self._options.max_buffered_bytes
        return self._stream_bytes <= most // 2 and self._bytes <= most

    def _size(self, headers: Mapping[str, str], most: int) -> int:
        given = headers.get("content-length")
        if given is None:
            return self._options.max_body_bytes
        if not given.isascii() or not given.isdigit():
            raise Problem("malformed", "content-length is no number", headers=CLOSE)
        if len(given) > 15 or int(given) > most:
            raise too_large(most, "max_body_bytes" if most == self._options.max_body_bytes else "max_stream_bytes")
        return int(given)


def too_large(most: int, setting: str = "max_body_bytes") -> Problem:
    """The body is longer than it may be."""
    limit = (
        f"a request has at most {most:,} bytes (gateway.{setting}): send several, or NDJSON, which is read as it comes"
    )
    return Problem("too-large", limit, headers=CLOSE)


async def read_all(request: Request, options: GatewayOptions) -> bytes:
    """The whole body. A sender who is too slow is not waited for."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(options.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > options.max_body_bytes:
                    raise too_large(options.max_body_bytes)
                parts.append(part)
    except TimeoutError:
        detail = f"the body did not come within {options.body_seconds:g} s (gateway.body_seconds)"
        raise Problem("too-slow", detail, headers=CLOSE) from None
    except ClientDisconnect:
        raise Problem("malformed", "the sender hung up", headers=CLOSE) from None
    return b"".join(parts)
