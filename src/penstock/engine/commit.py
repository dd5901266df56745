"""Writes what was resolved: results, dead letters, hand-overs, waste and progress in one act (laws 2 and 9).

checkpoint → publish → [commit] → log
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.engine.cascade import Ending, EndingOutcome, Erased, HandOver, Skipped
from penstock.engine.guard import WHY
from penstock.engine.publish import Publisher
from penstock.engine.tally import bill
from penstock.errors import LogUnavailable, PartitionsLost
from penstock.flow.ceilings import SpendOptions
from penstock.flow.spend import Spend
from penstock.log.base import PartProgress, Progress
from penstock.outcome import Answer, Failure
from penstock.telemetry.pulse import Pulse, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.engine.checkpoint import Checkpoint
    from penstock.log.base import Consumer
    from penstock.log.losses import Loss
    from penstock.outcome import Charge
    from penstock.record import NewRecord, Partition
    from penstock.task import Task
    from penstock.telemetry.counts import Counts
    from penstock.tier import Item

logger = logging.getLogger("penstock.engine")
MOST_WAIT_SECONDS = 2.0
LOG_PATIENCE_SECONDS = 300.0
"""Whatever the weather, the log answers every request within this time, if only with an error; else it hangs."""
LAST_WORD_SECONDS = 25.0
"""So long beyond its deadline a commit that is under way is waited for: the log may be looking whether it happened."""


@dataclass(slots=True)
class _Part:
    """One partition's share of an act, under the ownership in which it was made."""

    epoch: int
    progress: PartProgress
    endings: list[Ending]


class Committer:
    """One act at a time. What could not be written stays pending and is written before anything newer."""

    def __init__(
        self, task: Task[Any, Any], checkpoint: Checkpoint[Ending], counts: Counts, spend: Spend | None = None
    ) -> None:
        self.changed = asyncio.Event()
        self.pulse = Pulse("commits")
        self.trouble = Trouble()
        """The log does not take what is to be written."""
        self._task = task
        self._checkpoint = checkpoint
        self._counts = counts
        self._spend = spend or Spend(SpendOptions())
        self._lock = asyncio.Lock()
        self._is_in_doubt = False
        """An act was given up while the log had it: it may yet be written, so nothing of it may be written again."""
        self._is_cut_off = False
        """Whoever wanted the act that is under way waits for it no longer: it is brought to its end, and not tried again."""
        self._parts: list[_Part] = []
        self._waste: list[NewRecord] = []

    def open(self, consumer: Consumer) -> None:
        """Where acts are written."""
        self._consumer = consumer
        self._publisher = Publisher(self._task, consumer.max_record_bytes)
        self._hold = self._publisher.pack if self._task.order == "key" else None
        self._spend.open(self._task.name, self.changed.set)

    def resolve(self, ending: Ending) -> None:
        """An item is finished. Too late for a partition that is ours no longer: what it cost is waste."""
        item = ending.item
        if self._checkpoint.resolve(item.partition, item.epoch, item.offset, (ending,), self._hold):
            self.changed.set()
        else:
            self.give_up(item.own_charges, "answered after the partition was lost")

    def give_up(self, charges: Sequence[Charge], why: str) -> None:
        """An answer that nobody will see: only its cost is remembered."""
        self._counts.late += 1
        self.waste(charges, why)

    def waste(self, charges: Sequence[Charge], why: str) -> None:
        """Paid, and on no result or dead letter: written with the next act (law 9)."""
        if charges:
            self._waste += self._publisher.waste(charges, why)
            self._counts.waste_nanousd += sum(charge.nanousd for charge in charges)
            self.changed.set()

    def remember(self, losses: Sequence[Loss]) -> None:
        """What retention deleted unread stands in the state topic; told again, it is the same record."""
        self._counts.unread_lost += sum(loss.unread for loss in losses)
        self._waste += [loss.state(self._task.name) for loss in losses]
        self.changed.set()

    def pay_for_guard(self, charges: Sequence[Charge]) -> None:
        """Second answers, compared and forgotten: billed like any, and on no result."""
        if charges:
            bill(self._counts, charges)
            self._counts.guard_nanousd += sum(charge.nanousd for charge in charges)
            self.waste(charges, WHY)

    def forget(self, partitions: Iterable[Partition], why: str) -> None:
        """These partitions are no longer ours; what was resolved and never written is waste."""
        for ending in self._checkpoint.forget(partitions):
            self.give_up(ending.item.own_charges, why)

    async def commit(self, deadline: float | None = None, *, is_last: bool = False) -> None:
        """Write all that is resolved now. Weather is waited out, with the same act; at `deadline` it stays pending.

        `is_last`: the worker stops, and a log that does not say how an act has ended is not waited for without end.
        """
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                await self._lock.acquire()
        except TimeoutError:
            logger.warning("%s: an earlier commit still waits for the log at the deadline", self._task.name)
            return
        act = asyncio.ensure_future(self._act(deadline, is_last=is_last))
        try:
            await asyncio.shield(act)
        except asyncio.CancelledError:
            # The log goes on with what it has. Whoever takes the lock next must find how that ended.
            self._is_cut_off = True
            act.add_done_callback(_heard)
            raise

    async def _act(self, deadline: float | None, *, is_last: bool) -> None:
        self._is_cut_off = False
        try:
            if not self._is_in_doubt:
                await self._commit(deadline, is_last=is_last)
        finally:
            self.pulse.rest()
            self._lock.release()

    async def finish(self, deadline: float) -> None:
        """The last act: what is claimed of the budget and not spent is given back with it."""
        self._spend.close(self._task.name)
        await self.commit(deadline, is_last=True)
        self._is_in_doubt |= self._lock.locked()

    async def _commit(self, deadline: float | None, *, is_last: bool) -> None:
        self.changed.clear()
        self._gather()
        tries = 0
        while self._parts or self._waste or self._spend.due(self._task.name):
            self._drop_stale()
            waste = tuple(self._waste)
            spent = self._spend.records(self._task.name)
            self.pulse.expect(LOG_PATIENCE_SECONDS)
            started = time.monotonic()
            progress = Progress(tuple(part.progress for part in self._parts), waste + spent)
            try:
                await self._write(progress, deadline if is_last else None)
            except PartitionsLost as lost:
                self._counts.log_errors["commit"] += 1
                self._drop(lost.partitions)
            except LogUnavailable as weather:
                tries += 1
                if not await self._wait(weather, tries, deadline):
                    return
            except TimeoutError:
                self._is_in_doubt = True
                logger.error(  # noqa: TRY400 - whose stack it is says nothing
                    "%s: the log does not say whether the last commit was written; what was not is asked again",
                    self._task.name,
                )
                return
            else:
                self._counts.commit_seconds.observe(time.monotonic() - started)
                self._spend.written(self._task.name)
                self._written(len(waste))
        self.trouble.end()

    async def _write(self, progress: Progress, deadline: float | None) -> None:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic()) + LAST_WORD_SECONDS
        async with asyncio.timeout(patience):
            await self._consumer.commit(progress)

    def _gather(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for partition, done, endings in self._checkpoint.advance():
            appends = self._publisher.encode_all(endings, now_ms)
            self._parts.append(
                _Part(self._checkpoint.epoch(partition), PartProgress(partition, done, appends), endings)
            )
        if len({part.progress.partition for part in self._parts}) < len(self._parts):
            self._merge()

    def _merge(self) -> None:
        """Pending and newer parts of one partition become one: the newer map covers both."""
        merged: dict[Partition, _Part] = {}
        for part in self._parts:
            older = merged.get(part.progress.partition)
            if older is not None and older.epoch == part.epoch:
                appends = older.progress.appends + part.progress.appends
                progress = PartProgress(part.progress.partition, part.progress.done, appends)
                merged[part.progress.partition] = _Part(part.epoch, progress, older.endings + part.endings)
                continue
            if older is not None:
                self._lose(older)
            merged[part.progress.partition] = part
        self._parts = list(merged.values())

    def _drop_stale(self) -> None:
        for part in [p for p in self._parts if self._checkpoint.epoch(p.progress.partition) != p.epoch]:
            self._lose(part)
            self._parts.remove(part)

    def _drop(self, partitions: frozenset[Partition]) -> None:
        for part in [p for p in self._parts if p.progress.partition in partitions]:
            self._lose(part)
            self._parts.remove(part)

    def _lose(self, part: _Part) -> None:
        for ending in part.endings:
            self.give_up(ending.item.own_charges, "partition lost before the commit")

    async def _wait(self, weather: LogUnavailable, tries: int, deadline: float | None) -> bool:
        self._counts.commits_retried += 1
        self._counts.log_errors["commit"] += 1
        self.trouble.begin(str(weather))
        if tries in {1, 10, 100}:
            logger.warning(
                "%s: the log does not take results, trying on (nothing is lost): %s", self._task.name, weather
            )
        pause = min(0.05 * 2 ** min(tries, 10), MOST_WAIT_SECONDS)
        if self._is_cut_off or (deadline is not None and time.monotonic() + pause > deadline):
            logger.error(
                "%s: gave up a commit at its deadline; its events will be asked again: %s", self._task.name, weather
            )
            return False
        await asyncio.sleep(pause)
        return True

    def _written(self, waste: int) -> None:
        counts = self._counts
        counts.commits += 1
        counts.committed_at = time.time()
        now_ms = counts.committed_at * 1000
        results = nanousd = 0
        ended: list[int] = []
        for part in self._parts:
            for item, outcome in part.endings:
                charges = item.charges
                nanousd += charges[0].nanousd if len(charges) == 1 else sum(charge.nanousd for charge in charges)
                if (
                    item.deadline_ms
                    and item.deadline_ms < now_ms
                    and not isinstance(outcome, HandOver | Skipped | Erased)
                ):
                    counts.deadlines_missed += 1
                if type(outcome) is Answer:  # nearly all of them
                    results += 1
                    ended.append(item.record.timestamp_ms)
                elif self._count_other(item, outcome):
                    ended.append(item.record.timestamp_ms)
        counts.results += results
        counts.nanousd += nanousd
        # A producer's clock may be ahead of ours: no event is younger than its result.
        counts.event_age_seconds.observe_all([(now_ms - ms) / 1000 if ms < now_ms else 0.0 for ms in ended])
        self._parts = []
        # More may have come while this act was under way.
        del self._waste[:waste]

    def _count_other(self, item: Item, outcome: EndingOutcome) -> bool:
        """Whether it ends its event: a hand-over goes on, a skip never began."""
        counts = self._counts
        if isinstance(outcome, HandOver):
            counts.hand_overs += 1
            counts.hand_over_reasons[outcome.reason] += 1
            return False
        if isinstance(outcome, Skipped | Erased):
            wasted = sum(charge.nanousd for charge in item.charges)
            counts.nanousd -= wasted
            counts.waste_nanousd += wasted
        if isinstance(outcome, Skipped):
            counts.skipped += 1
            return False
        if isinstance(outcome, Erased):
            # Its copy in the retry topic is the same erasure once more.
            counts.erased += item.partition.topic != self._task.retry_topic
            return False
        if isinstance(outcome, Failure):
            counts.dead_letters += 1
            counts.failures[outcome.reason] += 1
        else:
            counts.results += 1
        return True


def _heard(act: asyncio.Future[None]) -> None:
    """What ended an act that nobody waited for any more."""
    if not act.cancelled() and (error := act.exception()) is not None:
        logger.error("a commit that was cut off ended so: %s", error, exc_info=error)
