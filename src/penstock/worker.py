"""The life of a process that works or delivers: start, run, drain, stop. It is handed everything ready-made by `wiring`.

wiring → [worker] → engine, sinks
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from penstock.log.base import EventLog

logger = logging.getLogger("penstock.worker")


class Runs(Protocol):
    """A pipeline or a delivery loop."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    async def run(self, stop: asyncio.Event, *, slot: str = "") -> None:
        """Work until told to stop; raises what makes further work impossible."""
        ...


RunsT = TypeVar("RunsT", bound=Runs)


class Worker(Generic[RunsT]):
    """Runs the pipelines of some tasks, or the loops of some sinks, side by side until told to stop.

    A task that cannot go on takes the process with it; with `goes_on_alone` the others go on, as sinks do.
    """

    def __init__(
        self,
        pipelines: Sequence[RunsT],
        log: EventLog,
        *,
        slot: str = "",
        goes_on_alone: bool = False,
        prepare: Callable[[], Awaitable[None]] | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        ops: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self.pipelines = pipelines
        self._prepare = prepare
        self._close = close
        self._ops = ops or contextlib.nullcontext()
        self._log = log
        self._slot = slot
        self._goes_on_alone = goes_on_alone
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Finish what is in flight, commit it, leave the groups. Safe to call from a signal handler."""
        self._stop.set()

    async def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop`; a second signal stops at once. Raises what stopped a pipeline."""
        async with self._ops:
            await self._work()

    async def _work(self) -> None:
        if self._prepare is not None:
            await self._prepare()
        _spare_the_collector()
        runs = [asyncio.create_task(self._run_one(pipeline), name=pipeline.name) for pipeline in self.pipelines]
        try:
            with self._signals(runs):
                await asyncio.wait(runs)
        finally:
            for run in runs:
                run.cancel()
            outcomes = await asyncio.gather(*runs, return_exceptions=True)
            if self._close is not None:
                await self._close()
            await self._log.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _run_one(self, pipeline: RunsT) -> None:
        try:
            await pipeline.run(self._stop, slot=self._slot)
        except Exception as error:
            if self._goes_on_alone and len(self.pipelines) > 1:
                logger.error("%s has stopped, the others go on: %s", pipeline.name, error)  # noqa: TRY400 - told whole at the end
            raise
        finally:
            # One task that cannot go on takes the process with it: half a worker is nobody's expectation.
            if not self._goes_on_alone:
                self._stop.set()

    @contextlib.contextmanager
    def _signals(self, runs: Sequence[asyncio.Task[None]]) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def on_signal(name: str) -> None:
            if self._stop.is_set():
                logger.warning("%s again: stopping at once", name)
                for run in runs:
                    run.cancel()
                return
            logger.info("%s: finishing what is in flight", name)
            self._stop.set()

        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, on_signal, number.name)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _spare_the_collector() -> None:
    """Thousands of items in flight are not garbage: by default Python would search them all for cycles many times a second.

    A search of 50,000 new objects holds up the loop for 40 ms and finds nothing, because a call leaves no cycles behind;
    200,000 are more than are new at any time, so that most are gone before they are searched.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
