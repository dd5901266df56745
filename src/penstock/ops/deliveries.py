"""What a process that delivers tells about its sinks: metrics, liveness, readiness and start, on the same port as a worker's.

wiring → worker → [deliveries] → telemetry

A sink that is away makes nothing unready: it is waited for. One that has stopped, and needs a person, does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from penstock import __version__
from penstock.ops.health import Check, Memory
from penstock.ops.lag import Lag, LagWatch
from penstock.ops.ops import LOOK_SECONDS, page
from penstock.ops.register import Register
from penstock.ops.server import JSON, Ask, OpsOptions, OpsServer, Page
from penstock.ops.why import status_page
from penstock.telemetry import metrics as m
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.log.base import EventLog
    from penstock.sinks.delivery import DeliveryLoop


class DeliveryOps:
    """Serves for as long as its context is open."""

    def __init__(self, options: OpsOptions, loops: Sequence[DeliveryLoop], log: EventLog, *, place: str = "") -> None:
        """`place`: the log's address, as the settings name it."""
        self._loops, self._log, self._place = loops, log, place or log.kind
        self._register = Register(self._place)
        self._lag = LagWatch(log, loops, options.lag_interval_seconds)
        self._live, self._ready, self._started = Memory(), Memory(), Memory()
        self.exposition = Exposition([self._sinks, self._process])
        self._watches: list[asyncio.Task[None]] = []
        pages = {
            "/metrics": self._metrics,
            "/livez": lambda ask: page(self._live, self.liveness(), ask),
            "/readyz": lambda ask: page(self._ready, self.readiness(), ask),
            "/startupz": lambda ask: page(self._started, self.start(), ask),
            "/status": lambda _: Page(self.status(), content_type=JSON),
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
        """The event loop turns, and each sink's reading does."""
        return [Check("event loop", is_ok=True, why="it answers"), *(_turns(loop) for loop in self._loops)]

    def readiness(self) -> list[Check]:
        """Whether every sink gets what there is, or waits for nothing but weather or a person's pause."""
        checks = []
        for loop in self._loops:
            trouble = loop.log_trouble.why or self._lag.trouble.why
            checks.append(Check(f"{loop.name}: log", not trouble, trouble or "reachable"))
            checks.append(_standing(loop, self._lag.lags.get(loop.name, Lag())))
        return checks

    def start(self) -> list[Check]:
        """Whether every sink has joined its group once; one that cannot be reached yet is waited for."""
        return [
            Check(f"{loop.name}: joined", loop.has_joined, loop.trouble.why or "member of its group")
            for loop in self._loops
        ]

    def status(self) -> bytes:
        """How each sink stands: one JSON object."""
        sinks = [_told(loop, self._lag.lags.get(loop.name, Lag())) for loop in self._loops]
        return status_page(self._place, tasks=[], sinks=sinks)

    async def _keep_looking(self) -> None:
        while True:
            self._live.note(self.liveness())
            self._ready.note(self.readiness())
            self._started.note(self.start())
            await asyncio.sleep(LOOK_SECONDS)

    def _metrics(self, ask: Ask) -> Page:
        body, content_type = self.exposition.page(ask.accept)
        return Page(body, content_type=content_type)

    def _sinks(self) -> Iterator[Sample]:
        for loop in self._loops:
            yield from _samples(loop)
            yield from loop.sink.samples()
            lag = self._lag.lags.get(loop.name)
            if lag is not None and lag.seen_at:
                yield Sample(m.SINK_LAG_RECORDS, (loop.name,), lag.records)
                yield Sample(m.SINK_LAG_SECONDS, (loop.name,), lag.seconds())

    def _process(self) -> Iterator[Sample]:
        yield Sample(m.READY, (), int(all(check.is_ok for check in self.readiness())))
        yield Sample(m.LOG, (self._log.kind, self._log.delivery), 1)
        yield Sample(m.BUILD, (__version__,), 1)


def held_by(loop: DeliveryLoop) -> str:
    """Why a sink gets nothing now: `stopped`, `paused`, `away`, or nothing."""
    if loop.fault is not None:
        return "stopped"
    if loop.orders.is_paused:
        return "paused"
    return "away" if loop.trouble.why else ""


def _told(loop: DeliveryLoop, lag: Lag) -> dict[str, Any]:
    trouble = loop.log_trouble if loop.log_trouble.why else loop.trouble
    return {
        "sink": loop.name,
        "group": loop.group,
        "held": held_by(loop),
        "why": trouble.why,
        "since": trouble.since if trouble.why else None,
        "lag": lag.records if lag.seen_at else None,
        "lag_seconds": lag.seconds() if lag.seen_at else None,
        "delivered": sum(loop.counts.delivered.values()),
        "letters": loop.counts.letters,
    }


def _samples(loop: DeliveryLoop) -> Iterator[Sample]:
    name, counts = loop.name, loop.counts
    for kind, count in counts.delivered.items():
        yield Sample(m.SINK_DELIVERED, (name, kind), count)
    for reason, count in counts.refused.items():
        yield Sample(m.SINK_REFUSED, (name, reason), count)
    for kind, count in counts.troubles.items():
        yield Sample(m.SINK_TROUBLES, (name, kind), count)
    for operation, count in counts.log_errors.items():
        yield Sample(m.SINK_LOG_ERRORS, (name, operation), count)
    yield Sample(m.SINK_LETTERS, (name,), counts.letters)
    for cause in ("stopped", "paused", "away"):
        yield Sample(m.SINK_HELD, (name, cause), int(held_by(loop) == cause))
    yield Sample(m.SINK_DELAY, (name,), counts.delay_seconds)
    yield Sample(m.SINK_BATCH_SECONDS, (name,), counts.batch_seconds)


def _turns(loop: DeliveryLoop) -> Check:
    late = loop.pulse.overdue_seconds()
    why = f"reading is overdue by {late:.0f} s" if late else "reading turns"
    return Check(f"{loop.name}: loops", not late, why)


def _standing(loop: DeliveryLoop, lag: Lag) -> Check:
    check, held = f"{loop.name}: delivers", held_by(loop)
    if held == "stopped":
        return Check(check, is_ok=False, why=f"has stopped ({type(loop.fault).__name__}): its log says what to do")
    if loop.is_draining:
        return Check(check, is_ok=False, why="finishes its batch")
    if held == "paused":
        return Check(check, is_ok=True, why="paused by a person: penstock deliver --resume ends it")
    if held == "away":
        return Check(check, is_ok=True, why=f"waits for the sink: {loop.trouble.why}")
    owned = len(loop.positions())
    if owned or lag.is_spare:
        return Check(check, is_ok=True, why=f"owns {owned} partitions" if owned else "stands by: others own them all")
    return Check(check, is_ok=False, why="waits for the group to give it partitions")
