"""A fixed request rate: so many calls a minute and no more, evenly spaced (`BENCH_CALLS_PER_MINUTE`), set by a careful person.

The SDK's own retries stand behind it for what is turned away all the same.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import anthropic
import uvloop

from benchmarks.rivals.limited import TURNED_AWAY, once, run

CALLS_PER_MINUTE = float(os.environ.get("BENCH_CALLS_PER_MINUTE", "800"))
CALLS_IN_FLIGHT = 256


class FixedRate:
    """Each call has its turn; a turn that nobody took is gone."""

    max_retries = anthropic.DEFAULT_MAX_RETRIES

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._next = 0.0

    async def enter(self) -> None:
        await self._slots.acquire()
        await asyncio.sleep(self._next - time.monotonic())

    def leave(self) -> None:
        self._slots.release()

    async def ask(self, claude: anthropic.AsyncAnthropic, question: dict[str, Any]) -> bytes:
        while True:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 60.0 / CALLS_PER_MINUTE
            await asyncio.sleep(turn - now)
            try:
                return await once(claude, question)
            except TURNED_AWAY:
                continue


async def main() -> None:
    await run(FixedRate())


if __name__ == "__main__":
    uvloop.run(main())
