"""Results to one endpoint: signed, in order, tried again on the standard's schedule; what is bad weather holds its group alone.

delivery → [sink] → courier, outbox

Who fails decides what happens. The endpoint (nobody answers, 429, 502, 503, 504): the log keeps everything, and no attempt is
used. One message, while others pass: it waits in the outbox, and the others go on. 410: a person must enable the endpoint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from penstock.erasure import Erasure
from penstock.errors import SinkAway, UserError
from penstock.sinks.base import Delivery, Refused, Sink, SinkOptions
from penstock.sinks.reading import read_delivery
from penstock.sinks.webhook.courier import Courier, Parcel, Round, is_weather, may_be_the_message
from penstock.sinks.webhook.message import TooLarge, is_wanted, message_of
from penstock.sinks.webhook.post import Post
from penstock.sinks.webhook.resender import LOOK_SECONDS, Delay, Resender, standard_delay
from penstock.store.cutting import Cutter
from penstock.store.faults import StoreAway
from penstock.store.outbox import Full, Outbox
from penstock.store.schema import check, connect
from penstock.telemetry import metrics as m
from penstock.telemetry.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Engine

    from penstock.sinks.webhook.options import WebhookOptions
    from penstock.store.options import DatabaseOptions
    from penstock.store.outbox import Waiting

logger = logging.getLogger("penstock.deliver")
PREFIX = "webhook."
BATCH_ITEMS = 200
ALONE = 3
"""Failures of one message in a row, before it is asked whether it is the message that fails."""
LONGEST_WISH_SECONDS = 3_600.0
GIVEN_UP_AT_ONCE = 100
ERASURE_WAIT_SECONDS = 1.0


class EndpointDisabled(UserError):
    """The receiver said that it wants no more; the text says how it is enabled again."""


class WebhookSink(Sink):
    """Posts to the endpoint `[sinks.webhooks.NAME]`; its outbox is in the database of `[sinks.database]`."""

    close_seconds = 10.0
    """So long what is being asked of the database may still take when the sink is closed."""

    def __init__(
        self,
        endpoint: str,
        options: WebhookOptions,
        database: DatabaseOptions,
        *,
        delay: Delay = standard_delay,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.name = PREFIX + endpoint
        self.reads = frozenset({"results", "letters"} if "letter" in options.kinds else {"results"})
        self.options = SinkOptions(max_batch_items=BATCH_ITEMS)
        self._endpoint, self._webhook, self._database = endpoint, options, database
        self._post = Post(options.target(endpoint), options.signer(endpoint), options.post_options(endpoint))
        self._courier = Courier(self._post, options.max_concurrent)
        self._delay, self._look_seconds = delay, look_seconds
        self._thread = ThreadPoolExecutor(1, "penstock-webhook")
        self._engine: Engine | None = None
        self._resending: asyncio.Task[None] | None = None
        self._failures: Counter[str] = Counter()
        """Failures in a row of messages that are offered again."""
        self._is_disabled = False

    async def open(self) -> None:
        """See that the outbox is there and the endpoint enabled."""
        if self._engine is None:
            self._engine = connect(self._database)
            self._cutter = Cutter(self._engine)
            self._outbox = Outbox(self._engine, self._endpoint)
            self._resender = Resender(
                self._outbox, self._courier, self._webhook, self._ask, self._disable, self._delay, self._look_seconds,
                lambda: self.is_paused,
            )  # fmt: skip
        await self._ask(check, self._engine, self._database)
        await self._see_enabled()
        await self._post.open()
        if self._resending is None:
            self._resending = asyncio.create_task(self._resender.run(), name=f"{self.name}: outbox")

    async def deliver(self, batch: Sequence[Delivery]) -> list[Refused]:
        """Post all of it, or put into the outbox what fails while others pass."""
        await self._see_enabled()
        refused: list[Refused] = []
        settled: list[Delivery] = []
        for is_erasure, some in groupby(batch, key=lambda one: isinstance(one.content, Erasure)):
            deliveries = list(some)
            if is_erasure:
                await self._erase(deliveries, settled)
            wanted = [one for one in deliveries if is_wanted(one, self._webhook)]
            parcels, too_large = _packed(wanted)
            refused += too_large
            not_posted = {one.delivery.position for one in too_large} | {
                one.message.delivery.position for one in parcels
            }
            settled += [one for one in deliveries if one.position not in not_posted]
            await self._post_all(parcels, settled)
        self._failures.clear()
        return refused

    async def given_up(self) -> list[Refused]:
        """After its last attempt a message becomes a dead letter."""
        await self._see_enabled()
        dead: list[Waiting] = await self._ask(self._outbox.dead, GIVEN_UP_AT_ONCE)
        return [
            Refused(
                read_delivery(one.record),
                f"webhook {self._endpoint} did not take it in {one.attempts} attempts; the last: {one.detail}",
                "not_taken",
                one.attempts,
            )
            for one in dead
        ]

    async def buried(self, refused: Sequence[Refused]) -> None:
        """They leave the outbox."""
        await self._ask(self._outbox.done, [message_of(one.delivery).id for one in refused])

    async def close(self) -> None:
        """What waits stays in the database."""
        resending, self._resending = self._resending, None
        if resending is not None:
            resending.cancel()
            await asyncio.wait([resending], timeout=self.close_seconds / 2)  # it gives back what it has claimed
        await self._post.close()
        if self._engine is not None:
            await self._cutter.end(self._thread, seconds=self.close_seconds / 2)
        if resending is not None:
            await asyncio.gather(resending, return_exceptions=True)

    def samples(self) -> Iterable[Sample]:
        """Attempts, and what waits."""
        for verdict, count in self._courier.verdicts.items():
            yield Sample(m.WEBHOOK_ATTEMPTS, (self.name, verdict), count)
        yield Sample(m.WEBHOOK_DISABLED, (self.name,), int(self._is_disabled))
        if self._engine is not None:
            count, oldest = self._resender.standing
            yield Sample(m.WEBHOOK_WAITING, (self.name,), count)
            age_seconds = 0.0 if oldest is None else max(0.0, time.time() - oldest.timestamp())
            yield Sample(m.WEBHOOK_OLDEST, (self.name,), age_seconds)

    # --- posting ---------------------------------------------------------------------------------------------------

    async def _post_all(self, parcels: list[Parcel], settled: list[Delivery]) -> None:
        """Raises `SinkAway` with what needs not be offered again."""
        try:
            left = parcels
            # Asked anew after each round: what failed and waits by now must not be overtaken by what supersedes it.
            while left := await self._admitted(left, settled):
                found = await self._courier.round(left)
                settled += [parcel.message.delivery for parcel in found.taken]
                await self._ask(self._outbox.note, found.attempts)
                if found.gone:
                    await self._disable(found.gone)
                    await self._see_enabled()
                held = await self._sorted_out(found, settled)
                done = {one.position for one in settled}
                left = [parcel for parcel in left if parcel.message.delivery.position not in done]
                if held is not None:
                    raise held
        except SinkAway as away:
            raise SinkAway(str(away), away.after_seconds, delivered=settled) from away

    async def _sorted_out(self, found: Round, settled: list[Delivery]) -> SinkAway | None:
        """What failed by its own fault goes to the outbox; for the rest the endpoint is left alone."""
        for parcel in found.taken:
            del self._failures[parcel.message.id]
        held: SinkAway | None = None
        for parcel, reply in found.failed:
            self._failures[parcel.message.id] += 1
            if await self._is_its_own(parcel, found):
                delay = self._delay(1, reply.retry_after_seconds)
                await self._put([parcel.message.waiting(1, delay or 0.0, reply.detail)])
                settled.append(parcel.message.delivery)
                logger.warning("webhook %s: a message waits in the outbox: %s", self._endpoint, reply.detail)
            else:
                wish = reply.retry_after_seconds
                held = SinkAway(reply.detail, None if wish is None else min(wish, LONGEST_WISH_SECONDS))
        return held

    async def _is_its_own(self, parcel: Parcel, found: Round) -> bool:
        """Whether it is the message that fails, and not the endpoint."""
        reply = next(reply for one, reply in found.failed if one is parcel)
        is_alone = self._failures[parcel.message.id] >= ALONE
        if not is_weather(reply):
            return bool(found.taken) or is_alone
        return is_alone and may_be_the_message(reply) and await self._courier.is_there()

    async def _admitted(self, parcels: list[Parcel], settled: list[Delivery]) -> list[Parcel]:
        """Those to post now. What waits already goes on waiting, and is not sent before or after what replaces it."""
        known = await self._ask(self._outbox.of_events, [one.message.event for one in parcels])
        admitted: list[Parcel] = []
        for parcel in parcels:
            message = parcel.message
            waiting = known.get(message.event, ())
            if any(one.id == message.id or one.rank > message.rank for one in waiting if not one.is_dead):
                settled.append(message.delivery)
            elif waiting and not await self._ask(self._outbox.supersede, message.event, message.rank):
                await self._put([message.waiting(0, 0.0, "waits for an earlier one of its event")])
                settled.append(message.delivery)
            else:
                admitted.append(parcel)
        return admitted

    async def _erase(self, erasures: Sequence[Delivery], settled: list[Delivery]) -> None:
        for delivery in erasures:
            if not await self._ask(self._outbox.erase, delivery.content):
                raise SinkAway("an erasure waits for a message under way", ERASURE_WAIT_SECONDS, delivered=settled)

    async def _put(self, waiting: Sequence[Waiting]) -> None:
        try:
            await self._ask(self._outbox.put, waiting, self._webhook.max_waiting)
        except Full:
            raise SinkAway(f"{self._webhook.max_waiting:,} messages wait in the outbox already (max_waiting)") from None

    # --- the endpoint ----------------------------------------------------------------------------------------------

    async def _disable(self, why: str) -> None:
        logger.error("webhook %s is disabled: %s", self._endpoint, why)
        await self._ask(self._outbox.disable, why)

    async def _see_enabled(self) -> None:
        found = await self._ask(self._outbox.disabled)
        self._is_disabled = found is not None
        if found is not None:
            since, why = found
            raise EndpointDisabled(
                f"webhook {self._endpoint} is disabled since {since:%Y-%m-%d %H:%M:%S} UTC: {why}. Nothing is lost: its results "
                f"wait in the log. When the receiver is ready: penstock webhook enable {self._endpoint}"
            )

    async def _ask(self, act: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)
        except StoreAway as away:
            raise SinkAway(str(away)) from away


def _packed(deliveries: Sequence[Delivery]) -> tuple[list[Parcel], list[Refused]]:
    parcels, refused = [], []
    for delivery in deliveries:
        message = message_of(delivery)
        try:
            parcels.append(Parcel(message, message.body()))
        except TooLarge as error:
            refused.append(Refused(delivery, str(error), "too_large"))
    return parcels, refused
