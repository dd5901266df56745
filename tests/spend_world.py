"""Spend guards of several workers, a state topic and a clock in one process."""

from __future__ import annotations

import pytest

from penstock.flow.ceilings import SpendOptions
from penstock.flow.claims import read_entry
from penstock.flow.spend import Spend
from penstock.log.state import read_state
from penstock.record import Record

UNIX = 1_790_003_456.0
"""2026-09-21 15:10:56 UTC."""


class World:
    """A state topic and a clock; `share` writes and reads for everybody."""

    def __init__(self) -> None:
        self.now = 0.0
        self.topic: list[Record] = []
        self.spends: list[Spend] = []
        self.runs = 0

    def spend(self, *, call_seconds: float = 60.0, **options) -> Spend:
        self.runs += 1
        run = f"r{self.runs}"
        spend = Spend(
            SpendOptions(**options), lambda: self.now, lambda: UNIX + self.now, run=run, call_seconds=call_seconds
        )
        spend.open("t", lambda: None)
        self.spends.append(spend)
        self.catch_up(spend)
        return spend

    def act(self, spend: Spend) -> None:
        for new in spend.records("t"):
            self.topic.append(Record(new.topic, 0, len(self.topic), new.key, new.value, (), 0))
        spend.written("t")

    def catch_up(self, spend: Spend) -> None:
        spend.hear(read_entry(read_state(record)) for record in self.topic)
        spend.caught_up()

    def share(self) -> None:
        for spend in self.spends:
            self.act(spend)
        for spend in self.spends:
            self.catch_up(spend)


def pay(spend: Spend, nanousd: int) -> None:
    hold = spend.reserve("t", "m", nanousd)
    spend.settle(hold, nanousd, nanousd)


def until_it_fits(world: World, spend: Spend, worst: int) -> None:
    for _ in range(50):
        if spend.check("t", "m", worst) is None:
            return
        world.now += 0.2
        world.share()
    pytest.fail(f"no room for {worst}: {spend.check('t', 'm', worst)}")
