"""Law 9 on a virtual clock: a fleet under one ceiling, with kills, freezes, lost acts and late readers. The bill is kept apart."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.flow.base import Wait
from penstock.flow.ceilings import Ceilings, SpendOptions, periods_at
from penstock.flow.claims import read_entry
from penstock.flow.spend import Spend
from penstock.log.state import read_state
from penstock.record import Record

START = 1_790_000_000.0
TICK_SECONDS = 0.1
USD = 1_000_000_000


@dataclass
class Call:
    """In flight."""

    task: str
    hold: object
    worst: int
    cost: int
    ends: float


@dataclass
class SimulatedWorker:
    """One process: real books, a tail that comes when it comes, calls that last."""

    spend: Spend
    offset: int = 0
    calls: list[Call] = field(default_factory=list)
    frozen_until: float = 0.0


class World:
    """A state topic, a clock, workers, and the API's own accounts."""

    def __init__(self, rng: random.Random, options: SpendOptions, workers: int, worst_usd: float, skew: float) -> None:
        self.rng, self.options, self.worst_usd, self.skew = rng, options, worst_usd, skew
        self.now = 0.0
        self.topic: list[Record] = []
        self.runs = 0
        self.bill: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.workers = [self.worker() for _ in range(workers)]
        self.stopped: list[int] = []

    def worker(self) -> SimulatedWorker:
        self.runs += 1
        skew = self.rng.uniform(-self.skew, self.skew)
        spend = Spend(self.options, lambda: self.now, lambda: START + self.now + skew, run=f"r{self.runs}")
        for task in ("a", "b"):
            spend.open(task, lambda: None)
        return SimulatedWorker(spend)

    def run(self, seconds: float, *, faults: float = 0.0) -> None:
        """Everybody works until then; a share of the ticks brings a fault to somebody."""
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_SECONDS
            if self.rng.random() < faults:
                self.fault()
            for worker in self.workers:
                if worker.frozen_until <= self.now:
                    self.tick(worker)

    def fault(self) -> None:
        at = self.rng.randrange(len(self.workers))
        if self.rng.random() < 0.5:
            self.workers[at].frozen_until = self.now + self.rng.uniform(1.0, 90.0)
        else:  # the calls of the dead are billed: that was counted when they began
            self.workers[at] = self.worker()

    def tick(self, worker: SimulatedWorker) -> None:
        rng, spend = self.rng, worker.spend
        for call in [call for call in worker.calls if call.ends <= self.now]:
            worker.calls.remove(call)
            if call.cost < 0:
                spend.leave_unconfirmed(call.hold, call.worst)
            else:
                spend.settle(call.hold, call.worst, call.cost)
        self.ask(worker)
        if rng.random() < 0.5:
            for task in ("a", "b"):
                self.act(worker, task)
        if rng.random() < 0.3:
            spend.hear(read_entry(read_state(record)) for record in self.topic[worker.offset :])
            worker.offset = len(self.topic)
            spend.caught_up()

    def act(self, worker: SimulatedWorker, task: str) -> None:
        records = worker.spend.records(task)
        if records and self.rng.random() < 0.95:
            for new in records:
                self.topic.append(Record(new.topic, 0, len(self.topic), new.key, new.value, (), 0))
            worker.spend.written(task)

    def ask(self, worker: SimulatedWorker) -> None:
        for task in ("a", "b"):
            for part in (1.0, 0.25, 0.02):
                worst = int(self.worst_usd * part * USD)
                if len(worker.calls) >= 8:
                    break
                wait = worker.spend.check(task, "m", worst)
                if wait is None:
                    self.begin(worker, task, worst)
                if not isinstance(wait, Wait) or wait.cause != "spend":
                    break

    def begin(self, worker: SimulatedWorker, task: str, worst: int) -> None:
        hold = worker.spend.reserve(task, "m", worst)
        cost = int(worst * self.rng.uniform(0.05, 1.0))
        for label in periods_at(worker.spend._unix()).labels:
            for account in (("all", "", label), ("task", task, label), ("model", "m", label)):
                self.bill[account] += cost
        told = -1 if self.rng.random() < 0.02 else cost
        worker.calls.append(Call(task, hold, worst, told, self.now + self.rng.uniform(0.1, 4.0)))

    def check(self) -> None:
        for ceiling in self.options.ceilings():
            at = ("hour", "day", "month").index(ceiling.period)
            for (scope, name, label), billed in self.bill.items():
                if (scope, name) == (ceiling.scope, ceiling.name) and len(label) == (13, 10, 7)[at]:
                    assert billed <= ceiling.nanousd, f"{ceiling.setting}: {billed} of {ceiling.nanousd} in {label}"


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 6),
    st.sampled_from([0.002, 0.05, 0.6]),
    st.booleans(),
    st.sampled_from([0.0, 30.0]),
)
def test_the_bill_never_exceeds_a_ceiling(seed: int, workers: int, worst_usd: float, calm: bool, skew: float) -> None:
    """Law 9: whoever is killed or frozen, whatever act is lost, however late anybody reads: no ceiling is passed."""
    options = SpendOptions(
        hour_usd=2.0,
        day_usd=3.5,
        tasks={"b": Ceilings(hour_usd=0.8)},
        models={"m": Ceilings(day_usd=3.2)},
    )
    world = World(random.Random(seed), options, workers, worst_usd, skew)
    world.run(40.0, faults=0.0 if calm else 0.01)
    world.check()
    world.now += 3600.0
    world.run(20.0, faults=0.0 if calm else 0.01)
    world.check()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_a_backlog_uses_the_ceiling(seed: int, workers: int) -> None:
    """With a backlog at least 95 % of the ceiling is spent or (calls that nobody read) taken for spent."""
    world = World(random.Random(seed), SpendOptions(day_usd=5.0), workers, 0.05, 0.0)
    world.run(120.0)
    world.check()
    standings = [next(iter(worker.spend.standings())) for worker in world.workers]
    assert all(standing.firm >= 0.95 * 5 * USD for standing in standings), [str(s) for s in standings]
