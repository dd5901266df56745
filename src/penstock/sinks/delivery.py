"""Delivers what a group of its own reads to one sink, at least once and in order; every sink is fed by such a loop.

log → [delivery] → offering → sink

Two loops: *reading* takes from the log what there is room for and serves rebalances, *delivering* offers one batch at a
time and commits behind it. Only the log is asked what was done before, and only the state topic what a person wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from penstock.errors import LogUnavailable, PartitionsLost, SettingsError
from penstock.log.base import Progress
from penstock.record import Partition
from penstock.sinks.base import Refused
from penstock.sinks.batch import Batch
from penstock.sinks.buffer import Buffer
from penstock.sinks.counts import DeliveryCounts
from penstock.sinks.given_up import GivenUp
from penstock.sinks.held import Held
from penstock.sinks.offering import Offering
from penstock.sinks.options import DEFAULTS, NAME, DeliveryOptions
from penstock.sinks.orders import Again, Orders
from penstock.sinks.reading import topics_of
from penstock.sinks.screen import Screen
from penstock.telemetry.pulse import Pulse, Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.log.base import Assignment, Consumer, EventLog
    from penstock.log.losses import Loss
    from penstock.log.offset_map import OffsetMap
    from penstock.record import NewRecord
    from penstock.sinks.base import Sink
    from penstock.sinks.reading import Feed

logger = logging.getLogger("penstock.deliver")
POLL_SECONDS = 1.0
SERVE_SECONDS = 0.1
LOG_WAIT_SECONDS = 1.0
LOG_PATIENCE_SECONDS = 300.0
COMMIT_MARGIN_SECONDS = 2.0
"""Of the time that a rebalance gives, what is kept for the last commit."""


class DeliveryLoop:
    """One sink on one log. `run` works until `stop` is set; it is the log's `Listener`."""

    def __init__(
        self,
        sink: Sink,
        feeds: Sequence[Feed],
        log: EventLog,
        options: DeliveryOptions = DEFAULTS,
    ) -> None:
        if not isinstance(sink.name, str) or not NAME.fullmatch(sink.name):
            raise SettingsError(f"sink {type(sink).__name__}: name={sink.name!r}: letters, digits, '.', '_', '-'")
        if not sink.reads or not sink.reads <= {"results", "letters"}:
            raise SettingsError(f"sink {sink.name}: reads={set(sink.reads)!r}: of 'results' and 'letters' at least one")
        self.sink = sink
        self.group = options.group_prefix + sink.name
        self.topics = topics_of(feeds, sink.reads)
        self.counts = DeliveryCounts()
        self.trouble = Trouble()
        """The sink takes nothing."""
        self.log_trouble = Trouble()
        self.pulse = Pulse("reading")
        self._wake = asyncio.Event()
        self.orders = Orders(log, self.group, self._ordered)
        self.has_joined = self.is_draining = False
        self.fault: BaseException | None = None
        """What stopped it."""
        self._log = log
        self._options = options
        self._screen = Screen(sink, feeds, self.group, self.counts, simulated=options.simulated == "deliver")
        self._offering = Offering(sink, options, self.counts, self.trouble, self._bury)
        self._held = Held(sink)
        self._given_up = GivenUp(sink, self._bury, self._commit_letters, self._commit_held)
        self._buffer = Buffer(sink.options.max_batch_items, options.max_buffer_bytes, sink.options.max_wait_seconds)
        self._owned: dict[Partition, OffsetMap] = {}
        self._batch: Batch | None = None
        self._again: tuple[Partition, Again] | None = None
        """What the batch under way repeats."""
        self._losses: list[NewRecord] = []
        self._is_new = True
        self._commits = asyncio.Lock()
        self._stop = asyncio.Event()

    @property
    def name(self) -> str:
        """The sink's."""
        return self.sink.name

    def positions(self) -> dict[Partition, OffsetMap]:
        """How far the owned partitions are delivered."""
        return dict(self._owned)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way here and what a person wanted again is delivered."""
        is_known = self.has_joined and not self._is_new and self._batch is None
        return is_known and not self.orders.is_repeating(self._owned)

    async def run(self, stop: asyncio.Event, *, slot: str = "") -> None:
        """Work until `stop`; then finish the batch under way and leave the group. Raises what made it impossible."""
        self._stop = stop
        self.sink.is_paused = True  # until the orders are known
        ending = asyncio.create_task(self._end(stop))
        try:
            await self._offering.open()
            if not stop.is_set():
                await self._work(slot)
        except Exception as error:
            self.fault = error
            raise
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
            await self._close_sink()

    async def _close_sink(self) -> None:
        try:
            await self.sink.close()
        except Exception:
            logger.exception("sink %s could not be closed", self.name)

    async def _end(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.is_draining = True
        self._offering.stop()
        self._wake.set()

    async def _work(self, slot: str) -> None:
        consumer = await self._joined(slot)
        if consumer is None:
            return
        self._consumer = consumer
        self.has_joined = True
        delivering = asyncio.create_task(self._deliver_loop(), name=f"{self.name}: delivering")
        beside = [
            asyncio.create_task(self._read_loop(), name=f"{self.name}: reading"),
            asyncio.create_task(self.orders.run(self._options.look_seconds), name=f"{self.name}: orders"),
            asyncio.create_task(self._given_up.run(self._options.look_seconds), name=f"{self.name}: given up"),
        ]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([stopping, delivering, *beside], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                await asyncio.wait([delivering], timeout=self._options.drain_seconds)
        finally:
            self.pulse.rest()
            for task in (stopping, delivering, *beside):
                task.cancel()
            ended = await asyncio.gather(delivering, *beside, stopping, return_exceptions=True)
            with contextlib.suppress(LogUnavailable):
                await consumer.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _joined(self, slot: str) -> Consumer | None:
        while not self._stop.is_set():
            try:
                start_from = self.sink.options.start_from
                return await self._log.join(self.group, self.topics, self, start_from=start_from, slot=slot)
            except LogUnavailable as weather:
                await self._weather("join", weather)
        return None

    # --- reading ---------------------------------------------------------------------------------------------------

    async def _read_loop(self) -> None:
        while True:
            room = 0 if self.orders.is_paused else self._buffer.room()
            self.pulse.expect(LOG_PATIENCE_SECONDS)
            try:
                records = await self._consumer.poll(room, POLL_SECONDS if room else SERVE_SECONDS)
            except LogUnavailable as weather:
                await self._weather("poll", weather)
                continue
            self.log_trouble.end()
            self._buffer.keep(
                [record for record in records if Partition(record.topic, record.partition) in self._owned]
            )
            if records:
                self._wake.set()

    async def _weather(self, operation: str, weather: LogUnavailable) -> None:
        self.counts.log_errors[operation] += 1
        if not self.log_trouble.why:
            logger.warning("sink %s: %s; trying again", self.name, weather)
        self.log_trouble.begin(str(weather))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), LOG_WAIT_SECONDS)

    # --- delivering ------------------------------------------------------------------------------------------------

    async def _deliver_loop(self) -> None:
        while not self._stop.is_set():
            if self._is_new and not await self._looked():
                continue
            batch = await self._next_batch()
            if batch is None:
                await self._wait()
                continue
            self._batch = batch
            try:
                await self._offering.offer(batch)
                await self._commit(batch)
            finally:
                self._batch = self._again = None

    async def _looked(self) -> bool:
        """Whether the orders are known as of now: an earlier owner may have gone on with one."""
        self._is_new = False
        try:
            await self.orders.look()
        except LogUnavailable as weather:
            self._is_new = True
            await self._weather("read", weather)
        else:
            self.sink.is_paused = self.orders.is_paused
        return not self._is_new

    def _ordered(self) -> None:
        self.sink.is_paused = self.orders.is_paused
        self._wake.set()

    async def _wait(self) -> None:
        """For records, orders, or the end of the wait for company."""
        due = None if self.orders.is_paused else self._buffer.due_seconds()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), due)
        self._wake.clear()

    async def _next_batch(self) -> Batch | None:
        """What a person wants again comes first, so that nothing of a partition overtakes."""
        if self.orders.is_paused:
            return None
        try:
            for partition, done in list(self._owned.items()):
                if (again := await self.orders.again(partition, done.base)) is not None:
                    return await self._read_again(partition, again)
        except LogUnavailable as weather:
            await self._weather("read", weather)
            return None
        return self._read_on() if self._buffer.due_seconds() == 0 else None

    def _read_on(self) -> Batch:
        batch = Batch()
        for record in self._buffer.take():
            done = self._owned.get(Partition(record.topic, record.partition))
            if done is not None and record.offset in done:
                batch.add(record, None)
            elif done is not None:
                self._screen.add(batch, record, self._consumer.max_record_bytes)
        return batch

    async def _read_again(self, partition: Partition, again: Again) -> Batch:
        is_left = again.next < again.end
        found = await self._log.read(partition, again.next, self.sink.options.max_batch_items) if is_left else []
        wanted = [record for record in found if record.offset < again.end]
        batch = Batch()
        for record in wanted:
            self._screen.add(batch, record, self._consumer.max_record_bytes)
        is_last = len(wanted) < len(found) or not found
        self._again = partition, again._replace(next=again.end if is_last else wanted[-1].offset + 1)
        return batch

    def _bury(self, batch: Batch, refused: Refused, attempts: int) -> None:
        self._screen.refuse(batch, refused, attempts, self._consumer.max_record_bytes)

    # --- committing ------------------------------------------------------------------------------------------------

    async def _commit(self, batch: Batch) -> None:
        """As far as it is settled. Weather is waited out; what is lost meanwhile is left out."""
        while True:
            async with self._commits:
                try:
                    return await self._commit_now(batch, set(self._owned))
                except PartitionsLost as lost:
                    batch.drop(lost.partitions)
                    continue
                except LogUnavailable as weather:
                    error = weather
            await self._weather("commit", error)
            if self._stop.is_set():
                return None

    async def _commit_now(self, batch: Batch, partitions: set[Partition]) -> None:
        if self._again is not None:
            return await self._commit_again(batch, *self._again)
        parts, letters = [], 0
        for partition, (stop, appends) in batch.progress().items():
            done = self._owned.get(partition)
            if done is not None and partition in partitions and stop > done.base:
                parts.append(self._held.part(partition, stop, done, appends))
                letters += len(appends)
        losses = tuple(self._losses)
        if parts or losses:
            await self._consumer.commit(Progress(tuple(parts), losses))
        del self._losses[: len(losses)]
        self.counts.letters += letters
        for part in parts:
            if part.partition in self._owned:
                self._owned[part.partition] = part.done
        return None

    async def _commit_again(self, batch: Batch, partition: Partition, again: Again) -> None:
        found = batch.progress().get(partition)
        if partition not in self._owned:
            return
        stop, letters = found or (again.next, ())
        so_far = again._replace(next=stop) if batch.is_open else again
        if self.orders.is_noted(partition, so_far):
            return
        await self._consumer.commit(Progress((), (*letters, so_far.record(self.group, partition))))
        self.counts.letters += len(letters)
        self.orders.note(partition, so_far)

    async def _commit_held(self) -> None:
        """What the sink held back and has sent since."""
        async with self._commits:
            if parts := tuple(self._held.due(self._owned)):
                await self._consumer.commit(Progress(parts))
            self._owned.update({part.partition: part.done for part in parts if part.partition in self._owned})

    async def _commit_letters(self, letters: Sequence[NewRecord]) -> None:
        async with self._commits:
            await self._consumer.commit(Progress((), tuple(letters)))
        self.counts.letters += len(letters)

    # --- the log's listener ----------------------------------------------------------------------------------------

    async def assigned(self, assignments: Sequence[Assignment]) -> None:
        """These are ours; what an earlier owner has delivered again is looked up before anything is offered."""
        for assignment in assignments:
            self._owned[assignment.partition] = assignment.done
        self.sink.took([assignment.partition for assignment in assignments])
        self._is_new = True
        self._wake.set()

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        """The call under way may end, and is committed; then they go."""
        gone = set(partitions)
        self._buffer.forget(gone)
        batch = self._batch
        if batch is not None and not gone.isdisjoint(batch.partitions):
            await self._offering.wait_for_call(deadline - COMMIT_MARGIN_SECONDS)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())), self._commits:
                    await self._commit_now(batch, gone)
            except (TimeoutError, LogUnavailable, PartitionsLost) as error:
                logger.info("sink %s: the last batch of %d partitions comes again: %s", self.name, len(gone), error)
        self._let_go(gone)

    async def lost(self, partitions: Sequence[Partition]) -> None:
        """Somebody else delivers them already."""
        self._buffer.forget(set(partitions))
        self._let_go(set(partitions))

    async def passed(self, losses: Sequence[Loss]) -> None:
        """Never delivered: told where losses are told."""
        self._losses += [loss.state(self.group) for loss in losses]

    def _let_go(self, gone: set[Partition]) -> None:
        for partition in gone:
            self._owned.pop(partition, None)
        self._held.forget(gone)
        if self._batch is not None and not gone.isdisjoint(self._batch.partitions):
            self._batch.drop(gone)
            self._offering.cut()
