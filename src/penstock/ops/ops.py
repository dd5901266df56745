"""What a worker tells about itself: metrics, liveness, readiness and start, and the port where they are read.

wiring → worker → [ops] → telemetry

`/livez` asks only whether our own loops turn: it never depends on Kafka or Claude, or an outage would restart the fleet.
`/readyz` is no weather report either: rate limits, overload and spend caps are waited out by a worker that is ready.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from penstock import __version__
from penstock.engine.readings import Reading, samples
from penstock.ops.health import Check, Memory, told
from penstock.ops.lag import Lag, LagWatch
from penstock.ops.register import Register
from penstock.ops.server import JSON, Ask, OpsOptions, OpsServer, Page
from penstock.ops.why import Why
from penstock.telemetry import metrics as m
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.sample import Sample, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from penstock.engine.pipeline import Pipeline
    from penstock.log.base import EventLog


class _Follower:
    """A pipeline, as the lag is asked of it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.name, self.group, self.topics = pipeline.task.name, pipeline.task.group, pipeline.task.topics
        self.positions = pipeline.positions

    @property
    def has_joined(self) -> bool:
        return self._pipeline.reading().has_joined


LOOK_SECONDS = 1.0
"""How exact "since when" is."""
MOST_OF_THE_LOOP = 0.01
"""With tens of thousands of items in flight, to look why they wait takes tens of milliseconds: then it is done less often."""


class Ops:
    """Serves for as long as its context is open: `async with ops: work`."""

    def __init__(
        self,
        options: OpsOptions,
        pipelines: Sequence[Pipeline],
        log: EventLog,
        sources: Iterable[Source] = (),
        *,
        place: str = "",
    ) -> None:
        """`place`: the log's address, as the settings name it."""
        self._pipelines, self._log = pipelines, log
        self._lag = LagWatch(log, [_Follower(pipeline) for pipeline in pipelines], options.lag_interval_seconds)
        self._live, self._ready, self._started = Memory(), Memory(), Memory()
        self.why = Why(pipelines, self._lag.lags, place or log.kind)
        self._register = Register(place or log.kind)
        self.exposition = Exposition([self._tasks, self._process, self.why.samples, *sources])
        self._watches: list[asyncio.Task[None]] = []
        pages = {
            "/metrics": self._metrics,
            "/livez": lambda ask: page(self._live, self.liveness(), ask),
            "/readyz": lambda ask: page(self._ready, self.readiness(), ask),
            "/startupz": lambda ask: page(self._started, self.start(), ask),
            "/status": lambda _: Page(self.why.page(), content_type=JSON),
        }
        self.server = OpsServer(options, pages)

    async def __aenter__(self) -> Self:
        await self.server.start()
        if self.server.url:
            self._register.enter(self.server.url)
            self._watches = [asyncio.create_task(self._lag.run()), asyncio.create_task(self._keep_looking())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._register.leave()
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.server.close()

    async def look(self) -> None:
        """Ask the log for the lag now, instead of in a while."""
        await self._lag.look()

    def liveness(self) -> list[Check]:
        """The event loop turns, or this would not be answered; each pipeline's own loops turn too."""
        loops = [_loops(pipeline.task.name, pipeline.reading()) for pipeline in self._pipelines]
        return [Check("event loop", is_ok=True, why="it answers"), *loops]

    def readiness(self) -> list[Check]:
        """Whether this worker does, or could at once do, its share of the work."""
        checks = []
        for pipeline in self._pipelines:
            name, reading = pipeline.task.name, pipeline.reading()
            lag = self._lag.lags.get(name, Lag())
            checks += [_draining(name, reading), _partitions(name, reading, lag)]
            checks += [self._log_of(name, reading), _tiers(name, reading)]
        return checks

    def start(self) -> list[Check]:
        """Whether every task has joined its group once; after that it stays so."""
        joined = [(pipeline.task.name, pipeline.reading().has_joined) for pipeline in self._pipelines]
        return [
            Check(f"{name}: joined", is_ok, "member of its group" if is_ok else "not yet") for name, is_ok in joined
        ]

    async def _keep_looking(self) -> None:
        while True:
            self._live.note(self.liveness())
            self._ready.note(self.readiness())
            self._started.note(self.start())
            started = time.monotonic()
            self.why.look()
            await asyncio.sleep(max(LOOK_SECONDS, (time.monotonic() - started) / MOST_OF_THE_LOOP))

    def _log_of(self, name: str, reading: Reading) -> Check:
        troubles = (reading.commit_trouble, reading.poll_trouble, self._lag.trouble)
        why = next((trouble.why for trouble in troubles if trouble.why), "")
        return Check(f"{name}: log", not why, why or "reachable")

    def _metrics(self, ask: Ask) -> Page:
        body, content_type = self.exposition.page(ask.accept)
        return Page(body, content_type=content_type)

    def _tasks(self) -> Iterator[Sample]:
        for pipeline in self._pipelines:
            name = pipeline.task.name
            yield from samples(name, pipeline.counts, pipeline.reading())
            lag = self._lag.lags.get(name)
            if lag is not None and lag.seen_at:
                yield Sample(m.LAG_RECORDS, (name,), lag.records)
                yield Sample(m.LAG_SECONDS, (name,), lag.seconds())
                yield Sample(m.LAG_SEEN, (name,), lag.seen_at)

    def _process(self) -> Iterator[Sample]:
        yield Sample(m.READY, (), int(all(check.is_ok for check in self.readiness())))
        yield Sample(m.LOG, (self._log.kind, self._log.delivery), 1)
        yield Sample(m.BUILD, (__version__,), 1)


def page(memory: Memory, checks: list[Check], ask: Ask) -> Page:
    is_ok, text = told(memory.note(checks), is_verbose=ask.is_verbose)
    return Page(text.encode(), 200 if is_ok else 503)


def _loops(name: str, reading: Reading) -> Check:
    late = [f"{loop} is overdue by {seconds:.0f} s" for loop, seconds in reading.overdue.items()]
    wrong = [f"{loop} died" for loop in reading.died] + late
    return Check(f"{name}: loops", not wrong, "; ".join(wrong) or "intake, calls and commits turn")


def _draining(name: str, reading: Reading) -> Check:
    if not reading.is_draining:
        return Check(f"{name}: working", is_ok=True, why="takes events")
    return Check(f"{name}: working", is_ok=False, why=f"drains, {reading.items_in_flight} items in flight")


def _partitions(name: str, reading: Reading, lag: Lag) -> Check:
    check = f"{name}: partitions"
    if reading.partitions:
        paused = sum(reading.paused.values())
        return Check(check, is_ok=True, why=f"owns {reading.partitions}" + (f", {paused} paused" if paused else ""))
    if not reading.has_joined:
        return Check(check, is_ok=False, why="has not joined its group yet")
    if lag.is_spare:
        return Check(check, is_ok=True, why="owns none: there are more workers than partitions, it stands by")
    return Check(check, is_ok=False, why="waits for the group to give it partitions")


def _tiers(name: str, reading: Reading) -> Check:
    stopped = [stage.tier for stage in reading.stages if stage.cause == "stopped"]
    if reading.fault:
        return Check(f"{name}: tiers", is_ok=False, why=f"cannot go on ({reading.fault}): its log says what to do")
    if stopped:
        return Check(f"{name}: tiers", is_ok=False, why=f"{', '.join(stopped)} stopped: its log says what to do")
    held = [f"{stage.tier} held back ({stage.cause})" for stage in reading.stages if stage.cause]
    return Check(f"{name}: tiers", is_ok=True, why=", ".join(held) or "may be asked")
