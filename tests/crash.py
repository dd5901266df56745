"""The crash proof: workers are killed while events keep coming; the judge reads log and accounts from outside.

Every worker process has a simulator of its own, so that what was asked and not yet committed at a kill is known exactly:
the worker is frozen, its simulator's billed items and its committed items are counted, then it is killed with -9.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penstock import NewRecord, Task
from penstock.deadletters.letter import Letter
from penstock.demo.judge import Findings, Judge
from penstock.log.base import EventLog
from penstock.settings import load_settings
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import SimulatorProcess, spawn
from penstock.wiring import open_log, topic_specs
from review_moderation import analyzer, moderator
from review_moderation.samples import day

UNLIMITED = {
    "PENSTOCK_LIMITS__DEFAULT__REQUESTS_PER_MINUTE": "1000000",
    "PENSTOCK_LIMITS__DEFAULT__INPUT_TOKENS_PER_MINUTE": "1000000000",
    "PENSTOCK_LIMITS__DEFAULT__OUTPUT_TOKENS_PER_MINUTE": "1000000000",
}


@dataclass
class Kill:
    """One kill -9."""

    worker: str
    at_ms: int
    in_flight: int
    """Calls in flight at that moment."""
    at_risk: int
    """Items asked and not committed at that moment."""


@dataclass
class WorkerProcess:
    """A worker that can be started, frozen, killed or asked to stop, and its simulator."""

    name: str
    reference: str
    simulator: SimulatorProcess
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    recorded_items: int = 0
    log_file: Path = Path(os.devnull)

    def start(self) -> None:
        """As a user would: `penstock run`."""
        command = [sys.executable, "-m", "penstock.cli", "run", self.reference, "--yes", "--quiet"]
        with self.log_file.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def signal(self, number: int) -> None:
        """Send a signal to this process, which we started."""
        assert self.process is not None
        self.process.send_signal(number)

    def at_risk(self) -> int:
        """Items that were asked and stand on no record yet."""
        return int(self.simulator.accounts()["items"]) - self.recorded_items

    async def stopped(self, seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)


@dataclass
class Stage:
    """Log, workers, judge and the stream of events."""

    log: EventLog
    workers: list[WorkerProcess]
    judge: Judge
    kills: list[Kill] = field(default_factory=list)
    calls: dict[str, tuple[WorkerProcess, int]] = field(default_factory=dict)
    """Call id → worker and when the call began."""
    recorded: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    _rows: dict[str, int] = field(default_factory=dict)

    async def look(self) -> Findings:
        """The judge's findings, and per worker what is recorded."""
        findings = await self.judge.look()
        for call_id, items in list(self.recorded.items()):
            if call_id in self.calls:
                self.calls[call_id][0].recorded_items += items
                del self.recorded[call_id]
        return findings

    async def produce(self, events: int, per_second: float, seed: int) -> None:
        """Events keep coming, in small appends."""
        stream = day(seed, events=events)
        started = time.monotonic()
        sent = 0
        while chunk := list(itertools.islice(stream, max(1, int(per_second / 20)))):
            await self.log.append([NewRecord("review-events", e.key, e.value, e.headers) for e in chunk])
            sent += len(chunk)
            self.produced += len(chunk)
            await asyncio.sleep(max(0.0, started + sent / per_second - time.monotonic()))

    async def kill(self, worker: WorkerProcess) -> Kill:
        """Freeze, count, kill -9, start again."""
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(0.05)
        in_flight = int(worker.simulator.accounts()["in_flight"])
        await self.look()
        kill = Kill(worker.name, int(time.time() * 1000), in_flight, worker.at_risk())
        worker.signal(signal.SIGKILL)
        await worker.stopped()
        self.kills.append(kill)
        return kill

    async def until_ended(self, seconds: float) -> Findings:
        """Wait until every event has its ending; bounded."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.look()
                if all(task.open == 0 for task in found.tasks.values()):
                    return found
                await asyncio.sleep(0.3)

    async def until_owned(self, members: int, seconds: float = 60.0) -> None:
        """Wait until that many workers own partitions."""
        async with asyncio.timeout(seconds):
            while True:
                groups = await self.log.groups()
                if sum(bool(m.partitions) and m.is_alive for g in groups.values() for m in g) >= members:
                    return
                await asyncio.sleep(0.2)


@asynccontextmanager
async def stage(
    directory: Path,
    *,
    workers_per_task: int,
    log_url: str = "",
    simulator: SimulatorOptions | None = None,
    **environment: str,
) -> AsyncIterator[Stage]:
    """Both groups with their workers running on a fresh log."""
    settings = (
        {"PENSTOCK_LOG": log_url or f"sqlite:{directory / 'events.db'}", "PENSTOCK_DRAIN_SECONDS": "20"}
        | UNLIMITED
        | environment
    )
    log = open_log(load_settings(assignments=[f"log={settings['PENSTOCK_LOG']}"]).settings)
    tasks: list[Task[Any, Any]] = [moderator, analyzer]
    await log.create_topics(list({spec.name: spec for task in tasks for spec in topic_specs(task)}.values()))
    workers = []
    for reference, number in itertools.product(
        ("review_moderation:moderator", "review_moderation:analyzer"), range(workers_per_task)
    ):
        own = spawn(simulator or SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15))
        keys = {"PENSTOCK_CLAUDE__BASE_URL": own.url, "PENSTOCK_CLAUDE__API_KEY": "offline"}
        name = f"{reference.partition(':')[2]}-{number}"
        workers.append(WorkerProcess(name, reference, own, settings | keys, log_file=directory / f"{name}.log"))
    made: Stage

    async def ledger(after: int) -> list[dict[str, Any]]:
        rows = []
        for worker in workers:
            for row in await asyncio.to_thread(lambda w=worker: list(w.simulator.calls(made._rows.get(w.name, 0)))):
                made._rows[worker.name] = row["seq"]
                made.calls[row["request_id"]] = (worker, row["started_ms"])
                rows.append(row)
        return rows

    def on_ending(_task: str, _record: Any, ending: dict[str, Any] | Letter) -> None:
        calls = ending.calls if isinstance(ending, Letter) else ending["calls"]
        made.recorded.update(call for call, _ in calls)

    made = Stage(log, workers, Judge(log, tasks, ledger, on_ending=on_ending))
    try:
        for worker in workers:
            worker.start()
        await made.until_owned(len(workers))
        yield made
    finally:
        for worker in workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.signal(signal.SIGKILL)
                await worker.stopped()
            worker.simulator.stop()
        await log.close()


async def crash_run(
    directory: Path, *, events: int, per_second: float, kills: int, seed: int, **options: Any
) -> tuple[Stage, Findings]:
    """Kill a random worker of either group at seeded moments while events keep coming; then let all come to their end."""
    rng = random.Random(seed)
    async with stage(directory, workers_per_task=2, **options) as made:
        producing = asyncio.create_task(made.produce(events, per_second, seed))
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0.5, 1.5) * events / per_second / kills)
            worker = rng.choice([w for w in made.workers if w.process is not None and w.process.poll() is None])
            await made.kill(worker)
            worker.start()
        await producing
        findings = await made.until_ended(240)
        for worker in made.workers:
            worker.signal(signal.SIGTERM)
        codes = [await worker.stopped() for worker in made.workers]
        assert codes == [0] * len(codes), f"workers ended with {codes}; their words are in {directory}"
        findings = await made.look()
        return made, replace(findings)


def report(made: Stage, found: Findings) -> str:
    """The figures of a run, one line each."""
    lines = [
        f"events {found.events}, kills {len(made.kills)}, with calls in flight {sum(k.in_flight > 0 for k in made.kills)}",
        f"billed ${found.billed_nanousd / 1e9:.6f} = records ${found.recorded_nanousd / 1e9:.6f} (waste ${found.waste_nanousd / 1e9:.6f})"
        f" + unconfirmed ${found.unconfirmed_nanousd / 1e9:.6f}; difference {found.billed_nanousd - found.recorded_nanousd - found.unconfirmed_nanousd} nanodollars",
        f"items paid twice {found.unaccounted_items}, asked and not committed at the kills {sum(k.at_risk for k in made.kills)}",
    ]
    for name, task in found.tasks.items():
        lines.append(
            f"{name}: results {task.results}, dead letters {task.dead_letters}, skipped {task.skipped}, lost {task.lost}, doubled {task.doubled}"
        )
    return "\n".join(lines)
