"""**Read me first.** The whole way of an event through a worker; only this page knows the order.

log → [pipeline]: intake → fetching → batcher → cascade → tier → cascade → checkpoint → publish → log

Three loops share one event loop: *intake* reads what there is room for, *calls* starts a call whenever a tier has
capacity and a batch is due, *commits* writes whatever was resolved, at most every `commit_interval_seconds`, in one act.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.engine.batcher import BatchLimits
from penstock.engine.calling import answer
from penstock.engine.cascade import Cascade, Ending
from penstock.engine.checkpoint import Checkpoint
from penstock.engine.commit import LOG_PATIENCE_SECONDS, Committer
from penstock.engine.erasing import erased_by, take_out
from penstock.engine.explain import Explainer
from penstock.engine.fetching import Fetches
from penstock.engine.guard import GuardOptions
from penstock.engine.holds import Holds
from penstock.engine.intake import Intake, IntakeLimits
from penstock.engine.late import without_late
from penstock.engine.portion import Portion
from penstock.engine.readings import Reading, StageReading, oldest_seconds
from penstock.engine.retry import RetryOptions
from penstock.engine.tally import tally
from penstock.engine.unpaid import take_unpaid
from penstock.engine.waits import Waits
from penstock.errors import LogUnavailable, RecordsLost, UserError
from penstock.telemetry.counts import Counts
from penstock.telemetry.pulse import Pulse, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.engine.stage import Stage
    from penstock.flow.base import TakesShares
    from penstock.flow.spend import Spend
    from penstock.log.base import Assignment, Consumer, EventLog
    from penstock.log.losses import Loss
    from penstock.log.offset_map import OffsetMap
    from penstock.record import Partition, Record
    from penstock.task import Task
    from penstock.tier import Item, Tier

logger = logging.getLogger("penstock.engine")
LAST_COMMIT_SECONDS = 5.0
OWN_PATIENCE_SECONDS = 30.0
"""A loop that waits for nobody but us and is overdue by this much hangs."""


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """The numbers of one pipeline; each stage's own stand beside it."""

    commit_interval_seconds: float = 0.1
    """Results are committed as soon as they are there, and not more often than this."""
    drain_seconds: float = 25.0
    """On SIGTERM, calls in flight have this long to come back."""
    intake: IntakeLimits = field(default_factory=IntakeLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)
    guard: GuardOptions = field(default_factory=GuardOptions)
    retry: RetryOptions = field(default_factory=RetryOptions)


class Pipeline:
    """One task on one log. `run` works until `stop` is set, then drains; it is the log's `Listener`."""

    def __init__(
        self,
        task: Task[Any, Any],
        tiers: Sequence[Tier],
        log: EventLog,
        options: PipelineOptions | None = None,
        *,
        shares: TakesShares | None = None,
        spend: Spend | None = None,
    ) -> None:
        self.task, self.name = task, task.name
        self.counts = Counts()
        self._log = log
        self._options = options or PipelineOptions()
        self._checkpoint: Checkpoint[Ending] = Checkpoint(by_key=task.order == "key")
        self._fetches = Fetches(task)
        self._cascade = Cascade(task, tiers, self._options.batch, self._options.retry, guard=self._options.guard)
        limits, ignored = self._options.intake, self.counts.headers_ignored
        self._intake = Intake(task, self._checkpoint, limits, ignored, keeps_input=self._cascade.looks_at_input)
        self._portion = Portion(task, log, shares)
        self._waits = Waits(task.name)
        self._holds = Holds(task.name, self._checkpoint)
        self._committer = Committer(task, self._checkpoint, self.counts, spend)
        self._tiers = tiers
        self._calls: dict[asyncio.Task[None], list[Item]] = {}
        self._consumer: Consumer | None = None
        self._leaving: set[Partition] = set()
        self._wake_calls, self._wake_intake, self._faulted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._fault: BaseException | None = None
        self._poll_trouble = Trouble()
        self._pulses = {"intake": Pulse("intake"), "calls": Pulse("calls"), "commits": self._committer.pulse}
        self._loops: list[asyncio.Task[None]] = []
        self._has_joined = False

    async def run(self, stop: asyncio.Event, *, slot: str = "") -> None:
        """Work until `stop`; then finish what is in flight, commit it and leave the group.

        Raises what made further work impossible: `TierStopped`, a `UserError` of the log.
        """
        task = self.task
        self._consumer = await self._log.join(task.group, task.topics, self, start_from=task.start_from, slot=slot)
        self._committer.open(self._consumer)
        self._intake.open(self._consumer)
        self._has_joined = True
        loops = self._loops = [
            asyncio.create_task(self._intake_loop(self._consumer), name=f"{self.task.name}: intake"),
            asyncio.create_task(self._calls_loop(), name=f"{self.task.name}: calls"),
            asyncio.create_task(self._commits_loop(), name=f"{self.task.name}: commits"),
        ]
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(self._faulted.wait())]
        try:
            await asyncio.wait([*ends, *loops], return_when=asyncio.FIRST_COMPLETED)
            await self._finish(loops)
        finally:
            await self._cancel(*ends)
            await self._leave(self._consumer, loops)
        if self._fault is not None:
            raise self._fault

    def _in_flight(self) -> Iterator[Item]:
        """Items that are asked or wait to be."""
        return itertools.chain(*self._calls.values(), self._cascade.waiting())

    def positions(self) -> dict[Partition, OffsetMap]:
        """Where the task stands in the partitions that are ours."""
        return self._checkpoint.positions()

    def reading(self) -> Reading:
        """How things stand now: for metrics and health checks."""
        died = [loop.get_name() for loop in self._loops if loop.done() and not loop.cancelled() and loop.exception()]
        return Reading(
            items_in_flight=self._checkpoint.in_flight(),
            oldest_seconds=lambda: oldest_seconds(self._in_flight()),
            bytes_in_flight=self._intake.bytes_in_flight,
            items_held=self._checkpoint.held(),
            partitions=len(self._checkpoint.partitions()),
            paused=Counter(self._intake.paused.values()),
            explain=lambda: Explainer(self.task, self._intake, self._cascade, self._checkpoint).explain(self._calls),
            stages=[StageReading.of(stage, time.monotonic()) for stage in self._cascade.stages],
            has_joined=self._has_joined,
            is_draining=self._cascade.is_draining,
            is_fetching=self._fetches.is_holding,
            fault=type(self._fault).__name__ if self._fault else "",
            died=died,
            overdue={name: late for name, pulse in self._pulses.items() if (late := pulse.overdue_seconds())},
            poll_trouble=self._poll_trouble,
            commit_trouble=self._committer.trouble,
        )

    # --- the three loops ---------------------------------------------------------------------------------------

    async def _intake_loop(self, consumer: Consumer) -> None:
        while True:
            self._pulses["intake"].expect(LOG_PATIENCE_SECONDS)
            room = 0 if self._cascade.is_draining or self._fetches.is_holding else self._intake.room(len(self._cascade))
            try:
                records = await consumer.poll(room, 0.5 if room else 0.05)
            except LogUnavailable as weather:
                self._wait_for_log(weather)
                await asyncio.sleep(1.0)
                continue
            self._poll_trouble.end()
            if ready := self._decodable(records):
                self.counts.records += len(ready)
                self._take(ready)
            elif not room:
                await self._sleep(self._wake_intake, 0.05)
            if late := self._intake.hold_back():
                self._take(late)
            self._holds.look(self._intake.paused, self._in_flight)

    async def _calls_loop(self) -> None:
        while True:
            # Cleared before looking: what wakes us while we look is not missed.
            self._wake_calls.clear()
            if past := self._cascade.take_past():
                self._resolve(past)
            while not self._asks_no_more and (ready := self._cascade.next_call()):
                self._pulses["calls"].expect(OWN_PATIENCE_SECONDS)
                self._start_call(*ready)
                # The call takes its permit in its first step: capacity is asked again only after that.
                await asyncio.sleep(0)
            self._waits.look(self._cascade.stages, time.monotonic())
            wake_at = self._cascade.wake_at()
            timeout = None if wake_at is None else max(0.001, wake_at - time.monotonic())
            if timeout is None:
                self._pulses["calls"].rest()
            else:
                self._pulses["calls"].expect(timeout + OWN_PATIENCE_SECONDS)
            await self._sleep(self._wake_calls, timeout)

    async def _commits_loop(self) -> None:
        while True:
            await self._committer.changed.wait()
            started = time.monotonic()
            await self._committer.commit()
            await asyncio.sleep(max(0.0, started + self._options.commit_interval_seconds - time.monotonic()))

    # --- one event's way -----------------------------------------------------------------------------------------

    def _decodable(self, records: Sequence[Record]) -> Sequence[Record]:
        try:
            return self._fetches.admit(records)
        except UserError as error:  # what is asked already still comes to its end
            self._stop_with(error)
            return ()

    def _take(self, records: Sequence[Record]) -> None:
        items, endings = self._intake.read(records, self._leaving)
        self._cascade.add_all(items)
        if endings and (reach := erased_by(endings)):
            asked = itertools.chain.from_iterable(self._calls.values())
            self._resolve(take_out(reach, self._cascade, asked, self._checkpoint, self._committer))
        self._resolve(endings)
        self._wake_calls.set()

    def _start_call(self, stage: Stage, items: list[Item]) -> None:
        stage.calls += 1
        self._wake_intake.set()
        self.counts.began(stage.step.name, len(items))
        now_ms = time.time_ns() // 1_000_000
        for item in items:
            item.asked_ms = item.asked_ms or now_ms
        call = asyncio.create_task(self._call(stage, items.copy(), items))
        self._calls[call] = items
        call.add_done_callback(self._calls.pop)

    async def _call(self, stage: Stage, items: list[Item], asked: list[Item]) -> None:
        started, changes = time.monotonic(), self._checkpoint.changes
        try:
            outcomes = await answer(stage, self.task, items, self._stop_with)
        finally:
            stage.calls -= 1
            asked.clear()
            self._wake_calls.set()
        seconds, together = time.monotonic() - started, len(items)
        if stage.guard is not None:
            items, outcomes, charges = stage.guard.compare(items, outcomes)
            self._committer.pay_for_guard(charges)
        tally(self.counts, stage.step.name, outcomes, seconds)
        if changes != self._checkpoint.changes:
            items, outcomes = without_late(items, outcomes, self._checkpoint, self._committer, self._intake)
        self._resolve(self._cascade.settle(stage, items, outcomes, seconds, together))
        if self._leaving:
            self._let_go(self._leaving)

    def _resolve(self, endings: Sequence[Ending]) -> None:
        for ending in endings:
            self._intake.release(ending.item)
            self._committer.resolve(ending)
        self._wake_intake.set()

    # --- partitions come and go ------------------------------------------------------------------------------------

    async def assigned(self, assignments: Sequence[Assignment]) -> None:
        """The log gives us partitions: take them up where the group stands."""
        self.counts.rebalances["assigned"] += 1
        self._fetches.forget({assignment.partition for assignment in assignments})
        for assignment in assignments:
            self._leaving.discard(assignment.partition)
            self._checkpoint.begin(assignment.partition, assignment.done)
        self._portion.changed(owned := self._checkpoint.partitions())
        logger.info("%s: %d partitions more, %d in all", self.task.name, len(assignments), len(owned))

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        """Finish what was asked, drop what was not, commit; after this returns they are not ours."""
        self.counts.rebalances["revoked"] += 1
        leaving = set(partitions)
        try:
            await self._drain(leaving, deadline)
        finally:  # also where the log has no more patience
            self._forget(leaving, "revoked before the answer was committed")

    async def lost(self, partitions: Sequence[Partition]) -> None:
        """They are gone already: what was answered for them is waste."""
        self.counts.rebalances["lost"] += 1
        self.counts.partitions_lost += len(partitions)
        logger.warning("%s: lost %d partitions to another worker", self.task.name, len(partitions))
        self._forget(set(partitions), "partition lost before the answer was committed")

    async def passed(self, losses: Sequence[Loss]) -> None:
        """What was deleted unread is written down, before or with the progress that passes it (law 4)."""
        self._committer.remember(losses)

    async def _drain(self, leaving: set[Partition], deadline: float, *, is_last: bool = False) -> None:
        self._leaving |= leaving
        self._let_go(leaving)
        self._cascade.hurry(leaving)
        # What is being asked may still come back.
        while (
            self._checkpoint.in_flight(leaving)
            and (self._calls or not self._asks_no_more)
            and time.monotonic() < deadline
        ):
            self._wake_calls.set()
            await asyncio.sleep(0.01)
        await self._committer.commit(deadline, is_last=is_last)

    @property
    def _asks_no_more(self) -> bool:
        """After a fault nothing new is asked; but what was read before a loss may be nowhere else any more."""
        return self._fault is not None and not isinstance(self._fault, RecordsLost)

    def _let_go(self, leaving: set[Partition]) -> None:
        """Drop the items of leaving partitions that cost nothing yet; what was paid for is asked to its end, after a loss all."""
        if not isinstance(self._fault, RecordsLost):
            for item in take_unpaid(leaving, self._cascade, self._checkpoint):
                self._intake.release(item)

    def _forget(self, partitions: set[Partition], why: str) -> None:
        self._committer.forget(partitions, why)
        self._intake.forget(partitions)
        self._fetches.forget(partitions)
        for item in self._cascade.discard(lambda item: item.partition in partitions):
            self._intake.release(item)
            self._committer.give_up(item.own_charges, why)
        self._leaving -= partitions
        self._portion.changed(self._checkpoint.partitions())

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self, loops: Sequence[asyncio.Task[None]]) -> None:
        """Drain, while the intake goes on serving rebalances."""
        for loop in loops:
            if loop.done() and not loop.cancelled() and (error := loop.exception()) is not None:
                self._stop_with(error)
        self._cascade.is_draining = True
        deadline = time.monotonic() + self._options.drain_seconds
        if isinstance(self._fault, RecordsLost):
            await self._take_rest(deadline)
        await self._drain(set(self._checkpoint.partitions()), deadline, is_last=True)
        if self._calls:  # nobody waits for their answers any more, but their cost must be known
            await asyncio.wait(self._calls, timeout=max(0.0, deadline - time.monotonic()))

    async def _take_rest(self, deadline: float) -> None:
        """What was read and not begun: after a loss it may stand nowhere else any more."""
        while time.monotonic() < deadline:
            # A newer record before an older one would make a gap of it, and gaps are passed.
            self._take([*self._intake.aside_with_room(), *self._decodable(())])
            if not (self._fetches.is_holding or self._intake.has_aside):
                return
            await asyncio.sleep(0.01)

    async def _leave(self, consumer: Consumer, loops: Sequence[asyncio.Task[None]]) -> None:
        """Give up what did not come back in time, write down what it cost, and leave the group."""
        await self._cancel(*self._calls)
        self._forget(set(self._checkpoint.partitions()), "not answered before the worker stopped")
        await self._committer.finish(time.monotonic() + LAST_COMMIT_SECONDS)
        await self._cancel(*loops)
        await self._fetches.close()
        await self._portion.close()
        await consumer.close()
        for tier in self._tiers:
            await tier.close()

    @staticmethod
    async def _cancel(*tasks: asyncio.Task[Any]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop_with(self, error: BaseException) -> None:
        """No further work is possible; what is resolved is still committed."""
        if self._fault is None:
            logger.error("%s stops: %s", self.task.name, error)
            if isinstance(error, RecordsLost):
                self._committer.remember(error.losses)
            self._fault = error
            self._faulted.set()

    def _wait_for_log(self, weather: LogUnavailable) -> None:
        self.counts.log_errors["poll"] += 1
        self._poll_trouble.begin(str(weather))
        logger.warning("%s waits for the log: %s", self.task.name, weather)

    async def _sleep(self, event: asyncio.Event, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        if event is self._wake_intake:
            event.clear()
