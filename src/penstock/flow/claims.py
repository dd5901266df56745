"""What the runs of all workers have claimed and spent, read from the state topic: one record per run, task and model.

penstock-state → [claims] → spend

A run is the life of one worker process. Nobody else ever writes its records, and what it claims of a period only has to be as
much as it may spend: so their sum is never less than the bill, whoever died in between (decision 9).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from penstock.errors import LogDamaged
from penstock.flow.base import Clock
from penstock.flow.ceilings import Scope, end_of
from penstock.log.state import STATE_TOPIC, State, state_record
from penstock.record import NewRecord

SILENT_SECONDS = 60.0
"""A run that holds something says so more often than that; one that does not is taken for dead, its claim for a reserve."""
GRACE_SECONDS = 3_600.0
"""A period that ended is forgotten so much later: clocks of workers differ, and calls last."""


class Totals(NamedTuple):
    """Of one period, in nanodollars."""

    claimed: int
    """More is not spent, whatever happens: what is spent, unconfirmed and in flight at its worst, and some room."""
    spent: int
    unconfirmed: int

    @property
    def held(self) -> int:
        """Claimed, and not spent as far as is known."""
        return max(0, self.claimed - self.spent - self.unconfirmed)


class Key(NamedTuple):
    """Whose record it is."""

    task: str
    model: str
    run: str
    """A later record of the same run and model is `RUN.1`: see `Book.renew`."""

    def is_of(self, run: str) -> bool:
        """Whether that run wrote it."""
        return bool(run) and self.run.partition(".")[0] == run


class Entry(NamedTuple):
    """One record."""

    key: Key
    number: int
    """Counts the records of this key: its writer knows by it which one it sees."""
    at: float
    """When it was written, by its writer's clock (Unix time)."""
    periods: Mapping[str, Totals]


def entry_record(entry: Entry) -> NewRecord:
    """As it is written; nothing to remember is a tombstone."""
    key = entry.key
    value = None
    if entry.periods:
        value = {"number": entry.number, "at": entry.at, "periods": {k: list(v) for k, v in entry.periods.items()}}
    return state_record(key.task, "spend", f"{key.run}/{key.model}", value)


def read_entry(state: State) -> Entry:
    """Read it back; raises `LogDamaged` where it is none."""
    run, _, model = state.id.partition("/")
    key = Key(state.task, model, run)
    if state.value is None:
        return Entry(key, 0, 0.0, {})
    try:
        periods = {label: Totals(*map(int, totals)) for label, totals in state.value["periods"].items()}
        for label in periods:
            end_of(label)
        return Entry(key, int(state.value["number"]), float(state.value["at"]), periods)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LogDamaged(
            f"{STATE_TOPIC}: [{state.task}, spend, {state.id}] is no record of spending ({error!r}): something else writes "
            "there; stop it and delete that record's key"
        ) from error


Account = tuple[Scope, str, str]
"""Scope, name and period: what a ceiling adds up."""


class _Heard(NamedTuple):
    periods: Mapping[str, Totals]
    number: int
    at: float


class Claims:
    """The latest record of every run but our own, and their sums."""

    def __init__(self, clock: Clock, unix: Clock = time.time) -> None:
        self._clock = clock
        self._unix = unix
        self._heard: dict[Key, _Heard] = {}
        self._holding: dict[Key, _Heard] = {}
        """Those that have claimed more than they have spent."""
        self._sums: defaultdict[Account, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._reserves: dict[Account, int] = {}
        self.active = 0
        """Runs alive that hold a claim beyond what they have spent."""

    def hear(self, entry: Entry, age_seconds: float = 0.0) -> None:
        """A record came."""
        before = self._heard.pop(entry.key, None)
        self._holding.pop(entry.key, None)
        if before is not None:
            self._add(entry.key, before.periods, -1)
        now = self._unix()
        if entry.periods:
            kept = {label: totals for label, totals in entry.periods.items() if end_of(label) + GRACE_SECONDS > now}
            is_known = before is not None and before.number == entry.number  # read again, it is no sign of life
            at = before.at if before is not None and is_known else self._clock() - age_seconds
            heard = self._heard[entry.key] = _Heard(kept, entry.number, at)
            if any(totals.held for totals in kept.values()):
                self._holding[entry.key] = heard
            self._add(entry.key, kept, 1)

    def look(self) -> None:
        """Who is silent by now: what they hold is a reserve, not in flight."""
        silent_since = self._clock() - SILENT_SECONDS
        reserves: defaultdict[Account, int] = defaultdict(int)
        active = set()
        for key, heard in self._holding.items():
            if heard.at >= silent_since:
                active.add(key.run)
                continue
            for label, totals in heard.periods.items():
                for account in _accounts(key, label):
                    reserves[account] += totals.held
        self._reserves, self.active = dict(reserves), len(active)

    def sum(self, account: Account) -> Totals:
        """Of all other runs."""
        found = self._sums.get(account)
        return Totals(*found) if found is not None else Totals(0, 0, 0)

    def reserve(self, account: Account) -> int:
        """What silent runs hold: they may have spent it."""
        return self._reserves.get(account, 0)

    def firm(self, account: Account) -> int:
        """What no other run will give back: spent, unconfirmed, and held by the silent."""
        found = self._sums.get(account)
        return found[1] + found[2] + self.reserve(account) if found is not None else 0

    def finished(self) -> list[Key]:
        """Runs whose every period is long over: nobody needs their records."""
        now = self._unix()
        return [
            key
            for key, heard in self._heard.items()
            if all(end_of(label) + GRACE_SECONDS <= now for label in heard.periods)
        ]

    def _add(self, key: Key, periods: Mapping[str, Totals], sign: int) -> None:
        for label, totals in periods.items():
            for account in _accounts(key, label):
                sums = self._sums[account]
                for at, amount in enumerate(totals):
                    sums[at] += sign * amount
                if not any(sums):
                    del self._sums[account]


def _accounts(key: Key, label: str) -> Iterator[Account]:
    yield ("all", "", label)
    yield ("task", key.task, label)
    yield ("model", key.model, label)
