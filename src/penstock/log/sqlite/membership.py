"""A consumer's life in its group: heartbeats, and partitions that come and go.

group → [membership] → listener

Two tasks: one beats and looks, so that a long drain never silences the heart; one serves the listener, one call at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from penstock.errors import LogError, LogUnavailable
from penstock.log.losses import stop_after
from penstock.log.sqlite import group
from penstock.log.sqlite.liveness import Liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.log.base import Listener
    from penstock.log.sqlite.consumer import Held, SqliteConsumer
    from penstock.log.sqlite.group import Beat, Seat
    from penstock.log.sqlite.shared import Shared

logger = logging.getLogger("penstock.log")

_SHORTEST_BETWEEN_BEATS_SECONDS = 0.02


class Membership:
    """Keeps one consumer's seat."""

    def __init__(
        self, shared: Shared, consumer: SqliteConsumer, listener: Listener, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._consumer = consumer
        self._listener = listener
        self._options = shared.options
        self._liveness = Liveness(self._options.session_timeout_seconds, self._options.heartbeat_seconds, clock)
        self._serving: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._is_idle = False
        self._is_cut_off = False

    @property
    def _seat(self) -> Seat:
        return self._consumer.seat

    async def enter(self) -> None:
        """Take the seat and start to beat."""
        await self._join()
        self._consumer.leave = self.leave
        self._consumer.passed = self._listener.passed
        self._beating = asyncio.create_task(self._beat_on(), name=f"heartbeat of {self._seat.member}")

    async def leave(self) -> None:
        """Finish what is being served, give everything back, go. A second call does nothing."""
        if self._is_leaving:
            return
        self._is_leaving = True
        if self._serving is not None:
            await asyncio.wait((self._serving,))
        held = list(self._consumer.held.values())
        if self._consumer.failure is None:
            await self._revoke(held)
        elif held:
            await self._listener.lost([one.partition for one in held])
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait((self._beating,))
        self._consumer.held.clear()
        self._consumer.fail(LogError(f"{self._seat.member} has left group {self._seat.group!r}"))
        try:
            await self._shared.writer.run(group.leave, self._seat)
        except LogUnavailable as error:
            logger.warning("%s could not sign off, its neighbours will notice: %s", self._seat.member, error)
        self._shared.news.happened()

    async def _join(self) -> None:
        now_ms = self._shared.wall_ms()
        await self._shared.writer.run(group.join, self._shared.write_catalogue, self._seat, now_ms)
        self._shared.news.happened()

    async def _beat_on(self) -> None:
        try:
            while True:
                await self._beat_once()
                await self._rest()
        except Exception as error:  # noqa: BLE001 - handed to whoever polls or commits next
            self._consumer.fail(error)

    async def _rest(self) -> None:
        """Until the next heartbeat is due, or the group changed."""
        await asyncio.sleep(_SHORTEST_BETWEEN_BEATS_SECONDS)
        try:
            async with asyncio.timeout(self._options.heartbeat_seconds):
                await self._consumer.groups_changed.wait()
        except TimeoutError:
            return

    async def _beat_once(self) -> None:
        consumer = self._consumer
        consumer.groups_changed.clear()
        is_busy = self._is_leaving or (self._serving is not None and not self._serving.done())
        held = {one.row: one.epoch for one in consumer.held.values() if not one.is_leaving}
        now_ms = self._shared.wall_ms()
        try:
            seen = await self._shared.writer.run(
                group.beat, self._shared.write_catalogue, self._seat, self._liveness, held, now_ms, settles=not is_busy
            )
        except LogUnavailable as error:
            if not self._is_cut_off:
                logger.warning("heartbeat of %s failed, trying on: %s", self._seat.member, error)
            self._is_cut_off = True
            return
        self._is_cut_off = False
        consumer.groups_version = max(consumer.groups_version, seen.groups_version)
        if seen.is_expelled and not self._is_leaving:
            if seen.is_replaced:
                raise group.replaced(self._seat)
            logger.warning("%s was taken for dead by its group and joins again", self._seat.member)
            await self._rejoin()
        elif not is_busy and (seen.lost or seen.surplus or seen.taken or seen.losses):
            self._serving = asyncio.create_task(self._serve(seen), name=f"rebalance of {self._seat.member}")
        self._note_idleness(seen)

    async def _rejoin(self) -> None:
        if self._serving is not None:
            await asyncio.wait((self._serving,))
        await self._lose(list(self._consumer.held.values()))
        await self._join()
        self._consumer.groups_changed.set()

    async def _serve(self, seen: Beat) -> None:
        """What one beat brought: what is lost, what is to be given back, what is new."""
        try:
            rows = {one.row: one for one in self._consumer.held.values()}
            await self._lose([rows[row] for row in seen.lost])
            surplus = [rows[row] for row in seen.surplus]
            await self._revoke(surplus)
            await self._give_back(surplus)
            for loss in seen.losses:
                loss.tell()
            if seen.losses and self._seat.goes_on_after_loss:
                await self._listener.passed(seen.losses)
            if seen.taken:
                taken = [self._consumer.take(lease) for lease in seen.taken]
                await self._listener.assigned([lease.assignment for lease in seen.taken])
                for one in taken:
                    one.is_open = True
            if seen.losses and not self._seat.goes_on_after_loss:
                raise stop_after(seen.losses)
        except Exception as error:  # noqa: BLE001 - handed to whoever polls or commits next
            self._consumer.fail(error)
        finally:
            self._consumer.groups_changed.set()
            self._shared.news.happened()

    async def _lose(self, gone: Sequence[Held]) -> None:
        if gone:
            for one in gone:
                self._consumer.held.pop(one.partition, None)
            await self._listener.lost([one.partition for one in gone])

    async def _revoke(self, leaving: Sequence[Held]) -> None:
        """Let the listener finish; when it does not, what it still holds is lost."""
        if not leaving:
            return
        for one in leaving:
            one.is_open, one.is_leaving = False, True
        partitions = [one.partition for one in leaving]
        try:
            async with asyncio.timeout(self._options.revoke_seconds):
                await self._listener.revoked(partitions, time.monotonic() + self._options.revoke_seconds)
        except TimeoutError:
            logger.warning("%s did not finish with %d partitions in time", self._seat.member, len(partitions))
            await self._listener.lost(partitions)

    async def _give_back(self, surplus: Sequence[Held]) -> None:
        """The end of ownership. If the log cannot be written the neighbours wait; ours it is no more either way."""
        if not surplus:
            return
        rows = [one.row for one in surplus]
        for one in surplus:
            self._consumer.held.pop(one.partition, None)
        while True:
            try:
                await self._shared.writer.run(group.give_back, self._seat, rows)
            except LogUnavailable as error:
                logger.warning("%s cannot give partitions back yet: %s", self._seat.member, error)
                await asyncio.sleep(self._options.heartbeat_seconds)
            else:
                return

    def _note_idleness(self, seen: Beat) -> None:
        is_idle = not seen.has_share and not self._consumer.held
        if is_idle and not self._is_idle and not seen.is_expelled:
            logger.info(
                "%s owns nothing: group %r has more workers than partitions; it waits as a reserve",
                self._seat.member,
                self._seat.group,
            )
        self._is_idle = is_idle
