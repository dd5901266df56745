"""Reads a request's body within its limits: of size, of time, and of all bodies together.

request → [reading] → bodies
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from penstock.web.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from penstock.web.options import GatewayOptions

CLOSE = {"connection": "close"}
"""What is left of the body is not read: the connection cannot go on."""


class Buffers:
    """How many requests are in progress and how many bytes of their bodies there may be."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._requests = 0
        self._bytes = 0

    @asynccontextmanager
    async def room(self, headers: Mapping[str, str], *, is_stream: bool = False) -> AsyncIterator[None]:
        """Raises a `Problem` where the body is too large or there is no room for it now, before any of it is read.

        Of a stream a part is kept at a time, so that all of it may be longer.
        """
        most = self._options.max_stream_bytes if is_stream else self._options.max_body_bytes
        size = min(self._size(headers, most), self._options.max_body_bytes)
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
