"""Reads the state topic to its end again and again, so that the spend guard knows what all workers have claimed.

penstock-state → [tail] → spend
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Self

from penstock.errors import LogDamaged, PenstockError
from penstock.flow.claims import Claims, Entry, read_entry
from penstock.log.state import STATE_TOPIC, read_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.flow.base import Clock
    from penstock.flow.spend import Spend
    from penstock.log.base import Bounds, EventLog
    from penstock.record import Partition, Record

logger = logging.getLogger("penstock.spend")
LOOK_SECONDS = 0.5
AGAIN_SECONDS = 1.0
PAGE = 2_000
_MARK = b'"spend"'


class Topic:
    """The state topic from its beginning; each look goes on where the last one ended. `run`: whose claims it is read for."""

    def __init__(self, log: EventLog, run: str = "") -> None:
        self._log = log
        self._run = run
        self._offsets: dict[Partition, int] = {}
        self._found: list[Entry] = []
        """Read, and not handed over yet: a look that the log interrupts loses nothing."""
        self._told: set[str] = set()

    async def look(self) -> list[Entry]:
        """Everything about spending up to the end of every partition, in order; raises what the log raises."""
        bounds = await self._log.bounds(STATE_TOPIC)
        await self._read_all(bounds)
        late: list[Entry] = []
        if len(bounds) > 1:
            # Our own record must be behind us when the other partitions are read to their ends (decision 9): one that
            # turns up while they are counts with the next look.
            first = len(self._found)
            await self._read_all(bounds)
            late = [entry for entry in self._found[first:] if entry.key.is_of(self._run)]
            self._found[first:] = [entry for entry in self._found[first:] if not entry.key.is_of(self._run)]
        found, self._found = self._found, late
        return found

    async def _read_all(self, bounds: Mapping[Partition, Bounds]) -> None:
        for partition, kept in bounds.items():
            while True:
                offset = max(self._offsets.get(partition, 0), kept.low)
                records = await self._log.read(partition, offset, PAGE)
                if not records:
                    break
                self._found += [entry for record in records if (entry := self._read(record)) is not None]
                self._offsets[partition] = records[-1].offset + 1

    def _read(self, record: Record) -> Entry | None:
        if record.key is None or _MARK not in record.key:
            return None
        try:
            state = read_state(record)
            return read_entry(state) if state.kind == "spend" else None
        except LogDamaged as error:  # no worker of ours wrote it: it claims nothing
            if str(error) not in self._told:
                self._told.add(str(error))
                logger.error("%s", error)  # noqa: TRY400 - the text says all
            return None


class SpendTail:
    """Looks for as long as its context is open; at once when something was written by us, else now and then."""

    def __init__(self, log: EventLog, spend: Spend, look_seconds: float = LOOK_SECONDS) -> None:
        self._topic = Topic(log, spend.run)
        self._spend = spend
        self._look_seconds = look_seconds
        self._wake = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._trouble = ""

    async def __aenter__(self) -> Self:
        if self._spend.is_shared:
            self._spend.on_written = self._wake.set
            self._work = asyncio.create_task(self._keep_looking(), name="spend tail")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while True:
            self._wake.clear()
            try:
                entries = await self._topic.look()
            except Exception as error:  # noqa: BLE001 - whatever it is: calls wait for ever if nobody looks again
                self._say(error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if self._trouble:
                self._trouble = ""
                logger.warning("what all workers spend can be read again")
            self._spend.hear(entries)
            self._spend.caught_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._wake.wait()

    def _say(self, error: Exception) -> None:
        """Once: nothing new may be spent meanwhile, and claims say so too."""
        if repr(error) != self._trouble:
            self._trouble = repr(error)
            bug = None if isinstance(error, PenstockError) else error
            logger.warning("what all workers spend can't be read, calls wait: %s", error, exc_info=bug)


async def read_claims(log: EventLog, unix: Clock = time.time) -> Claims:
    """All that is written of spending, as of now: for who looks once and from outside."""
    claims = Claims(time.monotonic, unix)
    for entry in await Topic(log).look():
        claims.hear(entry, age_seconds=max(0.0, unix() - entry.at))
    claims.look()
    return claims
