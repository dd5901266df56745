"""The lines of a body as they come, a bounded part at a time: whoever sends a million events needs no room for them here.

request → [lines] → streaming
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from penstock.web.problems import Problem
from penstock.web.reading import CLOSE

if TYPE_CHECKING:
    from penstock.web.options import GatewayOptions
    from penstock.web.reading import Place


LINE_BYTES = 48
"""What Python needs for one besides its own bytes, in figures that are good enough."""


class Lines:
    """Of one request. Empty ones do not count."""

    def __init__(self, parts: AsyncIterator[bytes], options: GatewayOptions, place: Place) -> None:
        self._parts, self._options, self._place = parts, options, place
        self._lines: deque[bytes] = deque()
        self._bytes = self._read = 0
        self._rest = b""
        self._is_cut = self._is_over = False
        self._too_long = b"\0" * (options.max_event_bytes + 1)
        """Stands for a line that is longer than an event may be: of that no more is kept."""
        self._next: asyncio.Task[bytes | None] | None = None

    async def take(self) -> list[bytes]:
        """As many as one append takes, those that came in time or those there is room for; none at the end.

        Raises a `Problem`. Those taken are held until the next are.
        """
        end = time.monotonic() + self._options.body_seconds
        while not self._is_over and not self._is_enough():
            has_room = self._place.holds(self._held())
            if self._lines and not has_room:
                break
            part = await self._part(end - time.monotonic())
            if part is not None:
                self._keep(part)
            elif not self._is_over and self._lines:
                break
            elif not self._is_over:
                detail = f"no whole line came within {self._options.body_seconds:g} s (gateway.body_seconds)"
                raise Problem("too-slow", detail, headers=CLOSE)
        self._place.holds(self._held())
        taken: list[bytes] = []
        size = 0
        while self._lines and len(taken) < self._options.max_batch_events and size <= self._options.max_body_bytes:
            line = self._lines.popleft()
            size += len(line)
            taken.append(line)
        self._bytes -= size
        return taken

    async def close(self) -> None:
        """What is not read stays unread."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)

    def _held(self) -> int:
        return self._bytes + LINE_BYTES * len(self._lines) + len(self._rest)

    def _is_enough(self) -> bool:
        return len(self._lines) >= self._options.max_batch_events or self._bytes >= self._options.max_body_bytes

    async def _part(self, seconds: float) -> bytes | None:
        """None: the time, or the body, is over. Who waits in vain goes on waiting for the same part next time."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._parts, None))
        done, _ = await asyncio.wait({self._next}, timeout=max(0.0, seconds))
        if not done:
            return None
        task, self._next = self._next, None
        try:
            part = task.result()
        except ClientDisconnect:
            raise Problem("malformed", "the sender hung up", headers=CLOSE) from None
        if part is None:
            self._is_over = True
            self._add(self._rest)
        return part

    def _keep(self, part: bytes) -> None:
        self._read += len(part)
        if self._read > self._options.max_stream_bytes:
            limit = (
                f"a request of lines has at most {self._options.max_stream_bytes:,} bytes (gateway.max_stream_bytes)"
            )
            raise Problem("too-large", f"{limit}: send several", headers=CLOSE)
        *whole, rest = (self._rest + part).split(b"\n")
        for line in whole:
            self._add(line)
        self._is_cut |= len(rest) > self._options.max_event_bytes
        self._rest = b"" if self._is_cut else rest

    def _add(self, line: bytes) -> None:
        line, self._is_cut = self._too_long if self._is_cut else line.strip(), False
        if line:
            self._lines.append(line)
            self._bytes += len(line)
