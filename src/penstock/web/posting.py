"""The act of taking events: claim, append, mark. What this returns for an event is true whoever dies next.

judge → [posting] → ledger, log
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogUnavailable, PenstockError, RecordTooLarge
from penstock.web.ledger_file import LedgerUnavailable
from penstock.web.problems import Problem

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.web.backlog import Backlog
    from penstock.web.bodies import Offer
    from penstock.web.judge import Event, Judge
    from penstock.web.ledger import Claimed, Ledger

logger = logging.getLogger("penstock.gateway")
BUSY_SECONDS = 10.0
"""How long a repeat waits for the one that is being written."""
LOOK_SECONDS = 0.05


class Fate(NamedTuple):
    """What became of one offered event."""

    id: str = ""
    is_repeat: bool = False
    problem: Problem | None = None


class Posting:
    """Writes what judges let pass. Its acts go on when their callers hang up."""

    def __init__(self, log: EventLog, ledger: Ledger, backlog: Backlog) -> None:
        self._log = log
        self._ledger = ledger
        self._backlog = backlog
        self._acts: set[asyncio.Task[list[Fate]]] = set()

    async def post(
        self, judge: Judge, offers: Sequence[Offer], client: str, idempotency_key: str, *, first: int = 0
    ) -> list[Fate]:
        """The fate of each offer, in their order. Raises a `Problem` where none of them has one yet.

        `first`: how many of the request came before.
        """
        now_ms = time.time_ns() // 1_000_000
        events: list[Event | None] = []
        fates: list[Fate] = []
        for number, offer in enumerate(offers, first):
            try:
                event = judge.judge(offer, client, idempotency_key, number, now_ms)
            except Problem as problem:
                events.append(None)
                fates.append(Fate(problem=problem))
            else:
                events.append(event)
                fates.append(Fate(event.id))
        act = asyncio.create_task(self._write([event for event in events if event is not None]))
        self._acts.add(act)
        act.add_done_callback(self._ended)
        written = iter(await asyncio.shield(act))
        return [fate if event is None else next(written) for event, fate in zip(events, fates, strict=True)]

    async def drain(self) -> None:
        """Wait for what is being written."""
        if self._acts:
            await asyncio.wait(self._acts)

    def _ended(self, act: asyncio.Task[list[Fate]]) -> None:
        self._acts.discard(act)
        if not act.cancelled():
            act.exception()  # its caller may have hung up: then nobody else asks

    async def _write(self, events: Sequence[Event]) -> list[Fate]:
        """Each claim once, however often it stands in the batch."""
        unique: dict[str, Event] = {}
        for event in events:
            unique.setdefault(event.claim or f"-{event.id}", event)
        try:
            fates = await self._write_unique(unique)
        except LedgerUnavailable as weather:
            logger.error("%s", weather)  # noqa: TRY400 - the text says it all
            raise Problem("log-unavailable", _AGAIN, retry_after_seconds=2) from weather
        answers: list[Fate] = []
        for event in events:
            name = event.claim or f"-{event.id}"
            first = unique[name]
            if first is event:
                answers.append(fates[name])
            elif first.digest != event.digest:
                answers.append(_conflict(event))
            else:
                answers.append(fates[name]._replace(is_repeat=fates[name].problem is None))
        return answers

    async def _write_unique(self, unique: dict[str, Event]) -> dict[str, Fate]:
        named = [event for event in unique.values() if event.claim]
        fates = {name: Fate(event.id) for name, event in unique.items() if not event.claim}
        mine = [event for event in unique.values() if not event.claim]
        busy: list[Event] = []
        self._sort(named, await self._ledger.claim(named), fates, mine, busy)
        await self._append(mine)
        give_up = time.monotonic() + BUSY_SECONDS
        while busy and time.monotonic() < give_up:
            await asyncio.sleep(LOOK_SECONDS)
            asked, busy, mine = busy, [], []
            self._sort(asked, await self._ledger.claim(asked), fates, mine, busy)
            await self._append(mine)
        for event in busy:
            detail = "the same event is being written by another request: ask again"
            fates[event.claim] = Fate(event.id, problem=Problem("in-progress", detail, retry_after_seconds=1))
        return fates

    def _sort(
        self,
        events: Sequence[Event],
        claims: Sequence[Claimed],
        fates: dict[str, Fate],
        mine: list[Event],
        busy: list[Event],
    ) -> None:
        for event, claimed in zip(events, claims, strict=True):
            if claimed.standing == "other":
                fates[event.claim] = _conflict(event)
            elif claimed.standing == "written":
                fates[event.claim] = Fate(claimed.event_id, is_repeat=True)
            elif claimed.standing == "busy":
                busy.append(event)
            else:
                fates[event.claim] = Fate(claimed.event_id)
                mine.append(event)

    async def _append(self, events: Sequence[Event]) -> None:
        """Durable and marked when it returns. Where it raises, a repeat writes them again, with the same ids."""
        if not events:
            return
        token = self._backlog.appending()
        try:
            positions = await self._log.append([event.record for event in events])
            await self._ledger.mark(events, [(place.partition, place.offset) for place in positions])
        except BaseException as error:
            await self._ledger.release(events)
            if isinstance(error, RecordTooLarge):
                raise Problem("too-large", f"the log does not take one of the events: {error}") from error
            if isinstance(error, PenstockError) and not isinstance(error, LedgerUnavailable):
                if not isinstance(error, LogUnavailable):
                    logger.error("events cannot be written: %s", error)  # noqa: TRY400
                raise Problem("log-unavailable", _AGAIN, retry_after_seconds=2) from error
            raise
        finally:
            self._backlog.appended(token)


_AGAIN = "it is not known whether the events were written: send them again, with the same ids or Idempotency-Key"


def _conflict(event: Event) -> Fate:
    if event.by_header:
        detail = "this Idempotency-Key came with another content within the last day: use a new one for a new event"
        return Fate(event.id, problem=Problem("key-conflict", detail))
    detail = (
        "an event with this id and another content was accepted within the last day: give the new one its own id, or an "
        "Idempotency-Key if it is meant to be another event"
    )
    return Fate(event.id, problem=Problem("id-conflict", detail))
