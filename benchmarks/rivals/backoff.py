"""SDK-style back-off: a semaphore, and the SDK's own retries as they come (two, after `retry-after` or a growing wait).

What is still turned away after them is asked again, with the SDK's retries anew.
"""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import uvloop

from benchmarks.rivals.limited import TURNED_AWAY, once, run

CALLS_IN_FLIGHT = 64


class Backoff:
    """So many calls at once; whoever is turned away comes back later."""

    max_retries = anthropic.DEFAULT_MAX_RETRIES

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT)

    async def enter(self) -> None:
        await self._slots.acquire()

    def leave(self) -> None:
        self._slots.release()

    async def ask(self, claude: anthropic.AsyncAnthropic, question: dict[str, Any]) -> bytes:
        while True:
            try:
                return await once(claude, question)
            except TURNED_AWAY:
                continue


async def main() -> None:
    await run(Backoff())


if __name__ == "__main__":
    uvloop.run(main())
