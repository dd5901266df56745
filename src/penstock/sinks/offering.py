"""Offers a batch until all of it is settled: weather is waited out, a fault is taken apart until its culprit stands alone.

batch → [offering] → sink
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING

from penstock.errors import SinkAway, UserError
from penstock.sinks.base import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.sinks.base import Delivery, Sink
    from penstock.sinks.batch import Batch
    from penstock.sinks.counts import DeliveryCounts
    from penstock.sinks.options import DeliveryOptions
    from penstock.telemetry.pulse import Trouble

logger = logging.getLogger("penstock.deliver")
FAULTS_IN_A_ROW = 10
"""When so many fail alone and none passes, it is the sink that fails."""


class Offering:
    """One batch at a time to one sink."""

    def __init__(
        self,
        sink: Sink,
        options: DeliveryOptions,
        counts: DeliveryCounts,
        trouble: Trouble,
        bury: Callable[[Batch, Refused, int], None],
    ) -> None:
        self._sink = sink
        self._options = options
        self._counts = counts
        self._trouble = trouble
        self._bury = bury
        self._call: asyncio.Task[object] | None = None
        self._wake = asyncio.Event()
        self._tries = 0
        self.held_until = 0.0
        """Monotonic time until which the sink is left alone; 0 while it is offered something or nothing waits."""
        self.is_stopping = False

    async def open(self) -> None:
        """Connect, whatever the weather; returns early only where it is to stop."""
        while not self.is_stopping:
            try:
                await self._sink.open()
            except UserError:
                raise
            except Exception as error:
                if not isinstance(error, SinkAway):
                    logger.exception("sink %s could not be opened", self._sink.name)
                await self._hold(error)
            else:
                self._trouble.end()
                self._tries = 0
                return

    async def offer(self, batch: Batch) -> None:
        """Until nothing of it is open, or until told to stop."""
        while batch.is_open and not self.is_stopping:
            fault = await self._try(batch, batch.open())
            if fault is not None and not isinstance(fault, SinkAway):
                fault = await self._take_apart(batch)
            if fault is not None:
                await self._hold(fault)

    def stop(self) -> None:
        """Finish the call under way, begin no other."""
        self.is_stopping = True
        self._wake.set()

    async def wait_for_call(self, deadline: float) -> None:
        """What the sink is about to take it may still take until then."""
        if self._call is not None and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait({self._call}, timeout=left)

    def cut(self) -> None:
        """What is under way may go on no longer; what is left of the batch is offered again at once."""
        if self._call is not None:
            self._call.cancel()
        self._wake.set()

    async def _try(self, batch: Batch, items: Sequence[Delivery]) -> Exception | None:
        """Offer these once. What was cut off is neither settled nor a fault."""
        call: asyncio.Task[object] = asyncio.create_task(self._taken(batch, items))
        self._call = call
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            raise
        finally:
            self._call = None
        if call.cancelled():
            return None
        error = call.exception()
        if error is None:
            self._trouble.end()
            self._tries = 0
            return None
        if not isinstance(error, Exception) or isinstance(error, UserError):
            raise error
        if isinstance(error, SinkAway):
            self._counts.troubles["away"] += 1
            done = set(error.delivered)
            self._settle(batch, [one for one in items if one in done])
        else:
            self._counts.troubles["fault"] += 1
            logger.error("sink %s failed on %d deliveries", self._sink.name, len(items), exc_info=error)
        return error

    async def _taken(self, batch: Batch, items: Sequence[Delivery]) -> None:
        started = time.monotonic()
        refused = list(await self._sink.deliver(items) or ())
        self._counts.batch_seconds.observe(time.monotonic() - started)
        known = {item.position for item in items}
        for one in refused:
            if not isinstance(one, Refused) or one.delivery.position not in known:
                raise TypeError(f"deliver() returned {type(one).__name__} where Refused of this batch is wanted")
        not_taken = {one.delivery.position for one in refused}
        self._settle(batch, [item for item in items if item.position not in not_taken])
        for one in refused:
            if batch.has(one.delivery):
                self._bury(batch, one, one.attempts)

    def _settle(self, batch: Batch, items: Sequence[Delivery]) -> None:
        now_ms = time.time_ns() / 1_000_000
        for item in items:
            self._counts.delivered[item.kind] += 1
        self._counts.delay_seconds.observe_all(max(0.0, now_ms - item.committed_ms) / 1000 for item in items)
        batch.settle(items)

    async def _take_apart(self, batch: Batch) -> Exception | None:
        """One by one. Behind one that fails its key waits, so that nothing is overtaken.

        A failure speaks against its delivery only when something of the batch has passed before: until then the sink may be what fails.
        """
        waiting: set[tuple[str, int, bytes]] = set()
        failed: list[tuple[Delivery, Exception]] = []
        for item in batch.open():
            lane = (item.record.topic, item.record.partition, item.record.key or b"")
            if self.is_stopping or not batch.has(item) or (item.record.key is not None and lane in waiting):
                continue
            error = await self._try(batch, [item])
            if isinstance(error, SinkAway):
                return error
            if error is None:
                batch.passed += 1
                continue
            waiting.add(lane)
            failed.append((item, error))
            batch.attempts[item.position] += bool(batch.passed)
            if not batch.passed and len(failed) >= FAULTS_IN_A_ROW:
                break
        for item, error in failed:
            attempts = batch.attempts[item.position]
            if batch.passed and attempts >= self._options.max_attempts and batch.has(item):
                self._bury(batch, Refused(item, f"the sink raised {type(error).__name__}", "sink_failed"), attempts)
        still = [error for item, error in failed if batch.has(item)]
        return still[-1] if still else None

    async def _hold(self, error: Exception) -> None:
        """Leave the sink alone for as long as it wants, or for a while that grows."""
        wanted = error.after_seconds if isinstance(error, SinkAway) else None
        longest = min(self._options.first_wait_seconds * 2.0**self._tries, self._options.max_wait_seconds)
        seconds = longest * random.uniform(0.5, 1.0) if wanted is None else max(0.0, wanted)
        self._tries = min(self._tries + 1, 30)
        why = str(error) if isinstance(error, SinkAway) else f"it raised {type(error).__name__}"
        if not self._trouble.why:
            logger.warning("sink %s takes nothing: %s; trying again in %.1f s", self._sink.name, why, seconds)
        self._trouble.begin(why)
        self._wake.clear()
        self.held_until = time.monotonic() + seconds
        if not self.is_stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)
        self.held_until = 0.0
