"""Tries again what an endpoint did not take, on the standard's schedule, until it is taken or given up.

outbox → [resender] → post

Weather uses no attempt here either: while nobody answers, or all is throttled, a message only waits longer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.errors import SinkAway
from penstock.sinks.reading import read_delivery
from penstock.sinks.webhook.courier import Courier, Parcel, is_weather, may_be_the_message
from penstock.sinks.webhook.message import TooLarge, message_of
from penstock.sinks.webhook.schedule import next_delay_seconds

if TYPE_CHECKING:
    from penstock.sinks.webhook.options import WebhookOptions
    from penstock.sinks.webhook.post import Reply
    from penstock.store.outbox import Outbox, Waiting

logger = logging.getLogger("penstock.deliver")
LOOK_SECONDS = 1.0
WEATHER_SECONDS = 60.0
PRUNE_SECONDS = 600.0
Delay = Callable[[int, float | None], float | None]
"""After so many attempts, with the receiver's wish: seconds, or None for no more."""


def standard_delay(attempts: int, wish_seconds: float | None) -> float | None:
    """The schedule of Standard Webhooks, with jitter."""
    return next_delay_seconds(attempts, wish_seconds, random.Random())


class Resender:
    """Of one endpoint in one process. `ask` calls the outbox on its thread; `gone` is told that the endpoint answered 410."""

    def __init__(
        self,
        outbox: Outbox,
        courier: Courier,
        options: WebhookOptions,
        ask: Callable[..., Awaitable[Any]],
        gone: Callable[[str], Awaitable[None]],
        delay: Delay = standard_delay,
        look_seconds: float = LOOK_SECONDS,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._outbox, self._courier, self._options = outbox, courier, options
        self._ask, self._gone, self._delay = ask, gone, delay
        self._look_seconds, self._is_paused = look_seconds, is_paused
        self._pruned_at = 0.0
        self.standing: tuple[int, datetime | None] = (0, None)
        """How many wait and since when, as of the last look."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            is_busy = False
            try:
                is_busy = not self._is_paused() and await self.once()
                await self._look()
            except SinkAway as away:
                logger.debug("webhook %s: the outbox waits: %s", self._outbox.endpoint, away)
            except Exception:
                logger.exception("webhook %s: the outbox could not be worked on", self._outbox.endpoint)
            await asyncio.sleep(0.0 if is_busy else self._look_seconds)

    async def once(self) -> bool:
        """Try what is due; whether there was anything."""
        if await self._ask(self._outbox.disabled) is not None:
            return False
        lease_seconds = 2 * self._options.timeout_seconds + WEATHER_SECONDS
        due = await self._claimed(lease_seconds)
        untried = {one.id: one for one in due}
        try:
            await self._try(untried)
        finally:
            if untried:  # told to stop, or their lane stands
                await self._ask(self._outbox.release, list(untried))
        return bool(due)

    async def _claimed(self, lease_seconds: float) -> list[Waiting]:
        claim = asyncio.ensure_future(self._ask(self._outbox.claim, self._options.max_concurrent, lease_seconds))
        try:
            found: list[Waiting] = await asyncio.shield(claim)
        except asyncio.CancelledError:
            # It goes on in its thread, and nobody would get what it claims before the lease is over.
            if late := await claim:
                await self._ask(self._outbox.release, [one.id for one in late])
            raise
        return found

    async def _try(self, untried: dict[str, Waiting]) -> None:
        """What was tried is taken out."""
        ready = []
        for one in list(untried.values()):
            try:
                message = message_of(read_delivery(one.record))
                ready.append(Parcel(message, message.body(), one.attempts))
            except (TooLarge, ValueError) as error:  # another version of this program may have taken it
                await self._ask(self._outbox.again, untried.pop(one.id), None, str(error), one.attempts)
        found = await self._courier.round(ready)
        await self._ask(self._outbox.note, found.attempts)
        taken = [parcel.message.id for parcel in found.taken]
        await self._ask(self._outbox.done, taken)
        for message_id in taken:
            del untried[message_id]
        for parcel, reply in found.failed:
            await self._failed(untried[parcel.message.id], reply)
            del untried[parcel.message.id]
        if found.is_bad_weather:
            for one in list(untried.values()):
                await self._wait(untried.pop(one.id), "waits for the weather", WEATHER_SECONDS)
        if found.gone:
            await self._gone(found.gone)

    async def _failed(self, one: Waiting, reply: Reply) -> None:
        if is_weather(reply) and not (may_be_the_message(reply) and await self._courier.is_there()):
            await self._wait(one, reply.detail, max(WEATHER_SECONDS, reply.retry_after_seconds or 0.0))
            return
        attempts = one.attempts + 1
        delay = self._delay(attempts, reply.retry_after_seconds)
        next_at = None if delay is None else datetime.now(UTC) + timedelta(seconds=delay)
        await self._ask(self._outbox.again, one, next_at, reply.detail, attempts)

    async def _wait(self, one: Waiting, why: str, seconds: float) -> None:
        next_at = datetime.now(UTC) + timedelta(seconds=seconds)
        await self._ask(self._outbox.again, one, next_at, why, one.attempts)

    async def _look(self) -> None:
        self.standing = await self._ask(self._outbox.standing)
        if time.monotonic() - self._pruned_at > PRUNE_SECONDS or not self._pruned_at:
            self._pruned_at = time.monotonic()
            await self._ask(self._outbox.prune, self._options.keep_log_days)
