"""A fleet and its account on a virtual clock: real gates against the simulator's limiter, minutes in a moment.

The account shares no code with `penstock.flow`. What it says comes late (a reply's headers are made when the call is let
in) and rounded to a thousand tokens, as the API's does.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from penstock.flow.base import KINDS, Estimate, Usage, Wait
from penstock.flow.gate import Gate, Permit
from penstock.flow.limits import LimitOptions
from penstock.simulator.clock import VirtualClock
from penstock.simulator.failures import ApiError
from penstock.simulator.limiter import Pool, Ramp, Rates

FAMILY = "haiku"
START = Rates(1_000, 2_000_000, 400_000)


@dataclass(frozen=True)
class Load:
    """What a call is and takes; defaults make output bind, as it does for batches of short verdicts."""

    items: int = 50
    input_per_item: float = 60.0
    output_per_item: float = 20.0
    seconds: float = 2.0
    spread: float = 0.25
    estimate_is_off_by: float = 1.0


@dataclass
class Task:
    """What one worker has to do of one task."""

    name: str
    assigned: int
    total: int
    has_backlog: bool = True


@dataclass
class Account:
    """The simulator's limiter with what an auditor would note."""

    pool: Pool
    clock: VirtualClock
    calls: int = 0
    refused: int = 0
    used: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    """Time, requests, input, output and whose."""

    def headers(self) -> dict[str, str]:
        """As a reply carries them."""
        lines = self.pool.headers().decode().split("\r\n")
        found = dict(line.split(": ", 1) for line in lines if line)
        moment = self.clock.unix()
        found["date"] = _http_date(moment)
        return found


def _http_date(unix: float) -> str:
    from email.utils import formatdate

    return formatdate(int(unix), usegmt=True)


class World:
    """Virtual time and what happens in it."""

    def __init__(
        self,
        *,
        rates: Rates = START,
        burst_seconds: float = 60.0,
        ramp: Ramp | None = None,
        seed: int = 7,
        load: Load | None = None,
        settings: LimitOptions | None = None,
        weights: dict[str, float] | None = None,
        is_deaf: bool = False,
    ) -> None:
        self.clock = VirtualClock()
        self.random = random.Random(seed)
        self.rates = rates
        self.load = load or Load()
        self.settings = settings
        self.weights = weights
        self.is_deaf = is_deaf
        """Workers that know nothing of each other and hear no headers, as everybody else's do: what the model must condemn."""
        self.account = Account(Pool(FAMILY, rates, burst_seconds, ramp, self.clock), self.clock)
        self.burst_seconds = burst_seconds
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.workers: dict[str, Worker] = {}
        self.fails = lambda: False
        """Whether the API fails a call now (529)."""
        self.failed = 0

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Something happens then."""
        heapq.heappush(self._events, (max(seconds, self.now), next(self._order), what))

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic()

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            moment, _, what = heapq.heappop(self._events)
            self.clock.advance(max(0.0, moment - self.now))
            what()
        self.clock.advance(max(0.0, until - self.now))

    def join(self, name: str, *tasks: Task) -> Worker:
        """A worker starts now, with a little delay of its own."""
        worker = self.workers[name] = Worker(self, name, tasks)
        self.at(self.now + self.random.uniform(0.0, 0.5), worker.work)
        return worker

    def set_limits(self, rates: Rates) -> None:
        """The account's limits change; what its buckets hold changes with them."""
        self.rates = rates
        self.account.pool = Pool(FAMILY, rates, self.burst_seconds, None, self.clock)

    def foreigner(self, share: float, begins: float, ends: float) -> None:
        """Someone else uses the account: a steady part of its output, whatever anybody answers."""
        every = 0.5
        output = self.rates.output_tokens / 60.0 * share * every

        def call() -> None:
            try:
                self.account.pool.admit(int(output * 2))
            except ApiError:
                pass
            else:
                self.account.pool.produce(int(output))
                self.account.used.append((self.now, 1.0, output * 2, output, "foreign"))
            if self.now + every < ends:
                self.at(self.now + every, call)

        self.at(begins, call)


class Worker:
    """A process with a gate of its own and calls in flight."""

    def __init__(self, world: World, name: str, tasks: tuple[Task, ...]) -> None:
        self.world = world
        self.name = name
        self.tasks = {task.name: task for task in tasks}
        weights = world.weights or {}
        self.gate = Gate(world.settings, weights=weights, clock=world.clock.monotonic)
        for task in tasks:
            self._told(task)
        self.alive = True
        self._wakes_at = float("inf")
        self.granted = {(task, kind): 0.0 for task in self.tasks for kind in KINDS}
        self.took = dict.fromkeys(self.granted, 0.0)
        self.refunded: dict[tuple[str, str], float] = {}
        """Tokens of calls that were turned away: sent, but not used."""
        self.worst_excess = 0.0
        """By how much it was ever above what was granted so far, in seconds of its grant; burst and one call are not above."""
        self._watch: dict[tuple[str, str], tuple[float, float]] = {}

    def assign(self, assigned: int, total: int, task: str = "") -> None:
        """A rebalance."""
        one = self.tasks[task] if task else next(iter(self.tasks.values()))
        one.assigned, one.total = assigned, total
        self._told(one)
        self.work()

    def _told(self, task: Task) -> None:
        if not self.world.is_deaf:
            self.gate.note_share(task.name, task.assigned, task.total)

    def die(self) -> None:
        """Killed: calls in flight are never read."""
        self.alive = False

    def work(self) -> None:
        """Start what may be started; come back when more may be."""
        if not self.alive:
            return
        soonest = float("inf")
        for task in self.tasks.values():
            while task.has_backlog and task.assigned:
                permit = self.gate.admit(self._estimate(task))
                if isinstance(permit, Wait):
                    soonest = min(soonest, self.world.now + 0.25 if permit.until is None else permit.until)
                    break
                self._send(task, permit)
                self._follow(task)
        if soonest == float("inf"):
            return
        self._wakes_at = soonest = min(soonest, self.world.now + 1.0) + 1e-3
        self.world.at(soonest, lambda: self._wake(soonest))

    def ask_once(self) -> None:
        """One call of each task, if it may be made now."""
        for task in self.tasks.values():
            permit = self.gate.admit(self._estimate(task))
            if not isinstance(permit, Wait):
                self._send(task, permit)
                self._follow(task)

    def _wake(self, moment: float) -> None:
        if moment == self._wakes_at:  # else it looked since and has another appointment
            self.work()

    def _estimate(self, task: Task) -> Estimate:
        load = self.world.load
        return Estimate(
            FAMILY,
            int(load.items * load.input_per_item),
            int(load.items * load.output_per_item / load.estimate_is_off_by),
            0,
            task.name,
        )

    def _send(self, task: Task, permit: Permit) -> None:
        world, load = self.world, self.world.load
        account = world.account
        account.calls += 1
        sent_at = world.now
        inputs = int(load.items * load.input_per_item * world.random.uniform(0.9, 1.1))
        outputs = int(load.items * load.output_per_item * world.random.uniform(0.8, 1.2))
        self._took(task, inputs, outputs)
        if world.fails():
            world.failed += 1
            self._refund(task, inputs, outputs)
            world.at(sent_at + 0.3, lambda: self._ended(permit, None, {}, 0))
            return
        try:
            account.pool.admit(inputs)
        except ApiError as error:
            account.refused += 1
            self._refund(task, inputs, outputs)
            headers = account.headers() | dict(error.headers)
            code = error.code or ""
            world.at(sent_at + 0.1, lambda: self._refused(permit, headers, code))
            return
        headers = account.headers()
        seconds = load.seconds * world.random.lognormvariate(0.0, load.spread)

        def replied() -> None:
            headers["date"] = _http_date(world.clock.unix())
            account.pool.produce(outputs)
            account.used.append((world.now, 1.0, inputs, outputs, self.name + "/" + task.name))
            self._ended(permit, inputs, headers, outputs)

        world.at(sent_at + seconds, replied)

    def _refused(self, permit: Permit, headers: dict[str, str], code: str) -> None:
        if not self.alive:
            return
        if not self.world.is_deaf:
            permit.hear(headers)
        permit.refused(float(headers["retry-after"]), grows_too_fast=code == "ramp_limit_exceeded")
        self.work()

    def _ended(self, permit: Permit, inputs: int | None, headers: dict[str, str], outputs: int) -> None:
        if not self.alive:
            return
        if inputs is None:
            permit.dropped()
        else:
            if not self.world.is_deaf:
                permit.hear(headers)
            permit.succeeded(Usage(inputs, outputs, 0))
        self.work()

    def _refund(self, task: Task, inputs: int, outputs: int) -> None:
        for kind, amount in zip(KINDS[1:], (inputs, outputs), strict=True):
            self.refunded[task.name, kind] = self.refunded.get((task.name, kind), 0.0) + amount

    def _took(self, task: Task, inputs: int, outputs: int) -> None:
        for kind, amount in zip(KINDS, (1, inputs, outputs), strict=True):
            self.took[task.name, kind] += amount

    def _follow(self, task: Task) -> None:
        """Compare what went out with what was granted: rates as the gate tells them, integrated over time from outside."""
        now, load = self.world.now, self.world.load
        call = {
            "requests": 1.0,
            "input_tokens": load.items * load.input_per_item,
            "output_tokens": load.items * load.output_per_item,
        }
        for grant in self.gate.limits.grants():
            if grant.task != task.name:
                continue
            key = (grant.task, grant.kind)
            rate = grant.limit * grant.granted / 60.0
            before, old_rate = self._watch.get(key, (now, rate))
            self.granted[key] += (now - before) * max(rate, old_rate)
            self._watch[key] = (now, rate)
            # A burst, one call that is larger than it, and what estimates may be off by until replies tell.
            unknown = 0.0 if grant.kind == "requests" else 0.2 * self.gate.concurrency.in_flight
            allowed = self.granted[key] + max(rate, old_rate) * 5.0 + call[grant.kind] * (1.2 + unknown)
            excess = self.took[key] - allowed - self.refunded.get(key, 0.0)
            self.worst_excess = max(self.worst_excess, excess / max(rate, 1e-9))
