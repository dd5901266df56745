"""Concurrency-only control: the number of calls in flight grows by one a round and falls by a tenth when one is turned away.

As the usual adaptive limiters do it (their AIMD and its numbers); latency says nothing here, because the API's does not
grow under load. It knows of no tokens and no headers but `retry-after`, after which the call that was turned away comes back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anthropic
import uvloop

from benchmarks.rivals.limited import TURNED_AWAY, once, run

FIRST, MOST = 20.0, 200.0
FALLS_TO = 0.9


class Aimd:
    """One drop for all calls that were in flight together."""

    max_retries = 0

    def __init__(self) -> None:
        self.limit = FIRST
        self._in_flight = 0
        self._dropped_at = 0.0
        self._left = asyncio.Event()

    async def enter(self) -> None:
        while self._in_flight >= int(self.limit):
            self._left.clear()
            await self._left.wait()
        self._in_flight += 1

    def leave(self) -> None:
        self._in_flight -= 1
        self._left.set()

    async def ask(self, claude: anthropic.AsyncAnthropic, question: dict[str, Any]) -> bytes:
        while True:
            began = time.monotonic()
            try:
                body = await once(claude, question)
            except TURNED_AWAY as refusal:
                if began >= self._dropped_at:
                    self.limit, self._dropped_at = max(1.0, self.limit * FALLS_TO), time.monotonic()
                response = getattr(refusal, "response", None)
                self.leave()
                await asyncio.sleep(float(response.headers.get("retry-after", 1)) if response is not None else 1.0)
                await self.enter()
            else:
                if self._in_flight * 2 >= self.limit:
                    self.limit = min(MOST, self.limit + 1.0 / self.limit)
                return body


async def main() -> None:
    await run(Aimd())


if __name__ == "__main__":
    uvloop.run(main())
