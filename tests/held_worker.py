"""A worker whose calls for chosen events do not come back until they are let: in a test's own process, or in one to be killed.

test → [held worker] → log
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes import ScriptedTier, make_task
from penstock import Item, Outcome, Task
from penstock.engine.pipeline import Pipeline
from penstock.settings import load_settings
from penstock.wiring import open_log


class HeldTier(ScriptedTier):
    """Holds every call with an item whose `hold` is set, until `let`; with a directory, until a file of that name is there."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(max_calls=100_000)
        self.is_let = asyncio.Event()
        self._is_let_in: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._directory = directory

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        """One attempt."""
        if self._directory is not None:
            with (self._directory / "asked").open("a") as asked:
                asked.writelines(f"{item.partition.number} {item.offset}\n" for item in items)
        if any(item.input.text.startswith("hold") for item in items):
            await self._until_let(items[0].partition.number)
        return await super().answer(task, items)

    def let(self, partition: int | None = None) -> None:
        """Answer; or only what is asked for one partition."""
        (self.is_let if partition is None else self._is_let_in[partition]).set()

    async def _until_let(self, partition: int) -> None:
        while self._directory is not None and not (self._directory / "let").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if self._directory is None:
            either = [asyncio.ensure_future(event.wait()) for event in (self.is_let, self._is_let_in[partition])]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in either:
                    waiting.cancel()


async def main(log_setting: str, directory: Path, options: dict[str, Any]) -> None:
    """Work until killed."""
    log = open_log(load_settings(assignments=[f"log={log_setting}"]).settings)
    tier = HeldTier(directory)
    pipeline = Pipeline(make_task(tier, **options), [tier], log)
    await pipeline.run(asyncio.Event(), slot="the-same")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
