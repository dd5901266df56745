"""The crash proof: workers are killed while events keep coming; the judge reads log and accounts from outside.

Every worker process has a simulator of its own, so that what was asked and not yet committed at a kill is known exactly:
the worker is frozen, its simulator's billed items and its committed items are counted, then it is killed with -9.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from crash_worker import CLIENT_FAULTS, UNLIMITED, Kill, WorkerProcess
from crash_zombie import Zombie, make_zombie
from penstock import NewRecord, Task
from penstock.deadletters.letter import Letter
from penstock.demo.judge import Findings, Judge
from penstock.errors import LogUnavailable
from penstock.log.base import EventLog
from penstock.settings import load_settings
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import spawn
from penstock.wiring import open_log, topic_specs
from review_moderation import analyzer, moderator
from review_moderation.samples import day

Tasks = Mapping[str, Task[Any, Any]]
SHIPPED: Tasks = MappingProxyType({"review_moderation:moderator": moderator, "review_moderation:analyzer": analyzer})
"""What `penstock run` is told → the task."""


MOST_CLIENT_FAULTS = 4
LOCK_SECONDS = 2.0
BROKEN_COMMIT = "broke off", "is undone", "taken back", "took back"
NOBODY_ANSWERS = 2, "error: no Kafka broker answers"
"""Exit code and last words of a worker whose first connection fails."""


class Eyes:
    """The judge's own handle on the log, opened anew after a fault of the log.

    An admin client of librdkafka that lost its broker may end its process (its issues 3663 and 4605). A worker is started again;
    the judge must live.
    """

    def __init__(self, opened: Callable[[], EventLog]) -> None:
        self._opened = opened
        self._log = opened()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def renew(self) -> None:
        """Look with a client that has seen nothing yet."""
        former, self._log = self._log, self._opened()
        await former.close()


@dataclass
class Stage:
    """Log, workers, judge and the stream of events."""

    log: EventLog
    eyes: Eyes
    workers: list[WorkerProcess]
    judge: Judge
    kills: list[Kill] = field(default_factory=list)
    zombies: list[Zombie] = field(default_factory=list)
    calls: dict[str, tuple[WorkerProcess, int]] = field(default_factory=dict)
    """Call id → worker and when the call began."""
    recorded: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    file: Path | None = None
    """Of the embedded log."""
    client_faults: list[str] = field(default_factory=list)
    """Workers that a fault of the client library ended."""
    _rows: dict[str, int] = field(default_factory=dict)

    async def look(self) -> Findings:
        """The judge's findings, and per worker what is recorded. While a broker restarts, the judge waits too."""
        async with asyncio.timeout(120):
            while True:
                try:
                    findings = await self.judge.look()
                    break
                except LogUnavailable:
                    await asyncio.sleep(1.0)
        for call_id, items in list(self.recorded.items()):
            if call_id in self.calls:
                self.calls[call_id][0].recorded_items += items
                del self.recorded[call_id]
        return findings

    async def produce(self, events: int, per_second: float, seed: int, is_enough: asyncio.Event | None = None) -> None:
        """Events keep coming, in small appends: so many, and more until it is enough."""
        stream = itertools.chain.from_iterable(day(number, events=events) for number in itertools.count(seed))
        started = time.monotonic()
        sent = 0
        while sent < events or (is_enough is not None and not is_enough.is_set()):
            chunk = list(itertools.islice(stream, min(max(1, int(per_second / 20)), events - sent % events)))
            await self._append([NewRecord("review-events", e.key, e.value, e.headers) for e in chunk])
            sent += len(chunk)
            self.produced += len(chunk)
            await asyncio.sleep(max(0.0, started + sent / per_second - time.monotonic()))

    async def _append(self, records: list[NewRecord]) -> None:
        """An idempotent producer that waits out a broker's restart; the judge counts what is in the log."""
        async with asyncio.timeout(120):
            while records:
                try:
                    await self.log.append(records)
                except LogUnavailable:
                    await asyncio.sleep(0.5)
                else:
                    return

    async def put_at_risk(self, *workers: WorkerProcess) -> None:
        """Count what these workers have asked and not committed at this moment."""
        in_flight = {worker.name: int(worker.simulator.accounts()["in_flight"]) for worker in workers}
        await self.look()
        now_ms = int(time.time() * 1000)
        self.kills += [Kill(worker.name, now_ms, in_flight[worker.name], worker.at_risk()) for worker in workers]

    async def until_busy(self, worker: WorkerProcess, seconds: float = 10.0) -> None:
        """Wait until it has calls in flight: what happens to an idle worker proves little."""
        end = time.monotonic() + seconds
        while not worker.simulator.accounts()["in_flight"] and time.monotonic() < end:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)

    async def freeze(self, worker: WorkerProcess) -> Kill:
        """SIGSTOP with calls in flight; what is at risk then."""
        await self.until_busy(worker)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(0.05)
        while await asyncio.to_thread(self._is_locked):  # stopped in the middle of a write, it would stop everybody
            worker.signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)
        await self.put_at_risk(worker)
        return self.kills[-1]

    def _is_locked(self) -> bool:
        """Whether nobody can write to the embedded log: whoever works holds its lock for milliseconds."""
        if self.file is None:
            return False
        with contextlib.closing(sqlite3.connect(self.file, timeout=LOCK_SECONDS, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
        return False

    async def kill(self, worker: WorkerProcess) -> None:
        """Freeze, count, kill -9."""
        await self.freeze(worker)
        worker.signal(signal.SIGKILL)
        await worker.stopped()

    async def until_ended(self, seconds: float) -> Findings:
        """Wait until every event has its ending; bounded, and tells what each worker did where they have none."""
        end = time.monotonic() + seconds
        while True:
            await self.supervise()
            found = await self.look()
            still_open = {name: task.open for name, task in found.tasks.items() if task.open}
            if not still_open:
                return found
            if time.monotonic() > end:
                raise AssertionError(
                    f"waited {seconds:.0f} s for every event to end; still open: {still_open}\n"
                    + await self.last_words()
                )
            await asyncio.sleep(0.3)

    async def until_owned(self, members: int, seconds: float = 150.0) -> None:
        """Wait until that many workers own partitions; tells what each worker did where they do not."""
        end = time.monotonic() + seconds
        while True:
            groups = await self.eyes.groups()
            if sum(bool(m.partitions) and m.is_alive for g in groups.values() for m in g) >= members:
                return
            await self.supervise()
            is_over = any(w.process is not None and w.process.poll() is not None for w in self.workers)
            if time.monotonic() > end or is_over:
                raise AssertionError(f"not all workers own partitions: {groups}\n" + await self.last_words())
            await asyncio.sleep(0.2)

    async def supervise(self) -> None:
        """Start a worker again that died of its client library, as any supervisor would; and say so.

        It follows a null pointer now and then where a connection to a broker comes or goes, or finds an assertion false.
        One that starts just while the broker is away says that nobody answers there, and is started again too.
        """
        for worker in self.workers:
            code = worker.process.poll() if worker.process is not None else None
            if code == NOBODY_ANSWERS[0] and worker.last_words().startswith(NOBODY_ANSWERS[1]):
                print(f"{worker.name} found no broker when it started; started again")
                worker.start()
            if code in CLIENT_FAULTS and len(self.client_faults) < MOST_CLIENT_FAULTS:
                print(f"{worker.name} ended by signal {-code} in its client library; started again")
                self.client_faults.append(worker.name)
                await self.put_at_risk(worker)
                worker.start()

    def broken_commits(self) -> list[str]:
        """What the workers said of commits that did not simply succeed."""
        return [
            f"{worker.name}: {line}"
            for worker in self.workers
            for line in worker.log_file.read_text(errors="replace").splitlines()
            if any(words in line for words in BROKEN_COMMIT)
        ]

    async def last_words(self) -> str:
        """What every worker does now (its threads' stacks, by its fault handler) and what it wrote."""
        words = []
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.signal(signal.SIGABRT)
                worker.signal(signal.SIGCONT)  # a zombie may be asleep
                await worker.stopped()
            code = worker.process.returncode if worker.process is not None else None
            words.append(f"{worker.name} (exit {code}): {worker.log_file.read_text(errors='replace')[-6000:]}")
        return "\n".join(words)


@asynccontextmanager
async def stage(
    directory: Path,
    *,
    workers_per_task: int,
    tasks: Tasks = SHIPPED,
    log_url: str = "",
    simulator: SimulatorOptions | None = None,
    script: Path | None = None,
    **environment: str,
) -> AsyncIterator[Stage]:
    """Every group with its workers running on a fresh log."""
    settings = (
        {"PENSTOCK_LOG": log_url or f"sqlite:{directory / 'events.db'}", "PENSTOCK_DRAIN_SECONDS": "20"}
        | UNLIMITED
        | environment
    )
    given = load_settings(assignments=[f"log={settings['PENSTOCK_LOG']}"]).settings
    log, eyes = open_log(given), Eyes(lambda: open_log(given))
    await log.create_topics(list({spec.name: spec for task in tasks.values() for spec in topic_specs(task)}.values()))
    workers = []
    for reference, number in itertools.product(tasks, range(workers_per_task)):
        own = spawn(simulator or SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15))
        keys = {"PENSTOCK_CLAUDE__BASE_URL": own.url, "PENSTOCK_CLAUDE__API_KEY": "offline"}
        name = f"{reference.partition(':')[2]}-{number}"
        keys["PENSTOCK_SLOT"] = name
        log_file = directory / f"{name}.log"
        workers.append(
            WorkerProcess(name, reference, tasks[reference], own, settings | keys, log_file=log_file, script=script)
        )
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
        calls = [call for call, _ in (ending.calls if isinstance(ending, Letter) else ending["calls"])]
        made.recorded.update(calls)
        for zombie in made.zombies:
            zombie.late += zombie.asked.intersection(calls)

    made = Stage(log, eyes, workers, Judge(eyes, list(tasks.values()), ledger, on_ending=on_ending))
    made.file = None if settings["PENSTOCK_LOG"].startswith("kafka:") else directory / "events.db"
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
        await eyes.close()


async def crash_run(
    directory: Path,
    *,
    events: int,
    per_second: float,
    faults: Sequence[str],
    seed: int,
    log_faults: Mapping[str, Callable[[], None]] = MappingProxyType({}),
    check: Callable[[Stage], Awaitable[None]] | None = None,
    **options: Any,
) -> tuple[Stage, Findings]:
    """Do something bad to a random worker at seeded moments while at least so many events keep coming; then let all end.

    `faults` names them in turn: `kill` (-9), `zombie` (stopped past its session, then waked), each done to the groups in turn, or
    one of `log_faults`, which are done to the log itself.
    """
    rng = random.Random(seed)
    turns: dict[str, Iterator[str]] = {}
    async with stage(directory, workers_per_task=2, **options) as made:
        is_enough = asyncio.Event()
        producing = asyncio.create_task(made.produce(events, per_second, seed, is_enough))
        for fault in faults:
            await asyncio.sleep(rng.uniform(0.5, 1.5) * events / per_second / len(faults))
            await made.supervise()
            if fault in log_faults:
                await made.put_at_risk(*made.workers)
                await asyncio.to_thread(log_faults[fault])
                await made.eyes.renew()
                continue
            group = next(turns.setdefault(fault, itertools.cycle(dict.fromkeys(w.group for w in made.workers))))
            worker = rng.choice([worker for worker in made.workers if worker.group == group])
            if fault == "zombie":
                await make_zombie(made, worker)
            else:
                await made.kill(worker)
                worker.start()
        is_enough.set()
        await producing
        await made.until_ended(300)
        for worker in made.workers:
            worker.signal(signal.SIGTERM)
        codes = [await worker.stopped() for worker in made.workers]
        # One that was just started again may be asked to stop before it is up: then the signal itself ends it.
        assert set(codes) <= {0, -signal.SIGTERM}, f"workers ended with {codes}; their words are in {directory}"
        findings = await made.look()
        for zombie in made.zombies:
            await zombie.count(made.eyes)
        if check is not None:
            print("\n" + report(made, findings))
            await check(made)
        return made, replace(findings)


def assert_laws(made: Stage, found: Findings, events: int) -> None:
    """Laws 1 and 9, as seen from outside."""
    print("\n" + report(made, found))
    # A producer that met a restarting broker may have sent some events twice: they are events like any other.
    assert events <= made.produced <= found.events <= made.produced * 1.05
    for task in found.tasks.values():
        assert (task.lost, task.doubled, task.open) == (0, 0, 0)
        assert task.ended + task.skipped == found.events
    assert found.billed_nanousd == found.recorded_nanousd + found.unconfirmed_nanousd
    assert 0 <= found.unaccounted_items <= sum(kill.at_risk for kill in made.kills)
    for zombie in made.zombies:
        zombie.assert_refused()
    harmed = {kill.worker: kill.at_ms for kill in made.kills}
    for call_id, call in made.judge.open_calls().items():
        worker, started_ms = made.calls[call_id]
        assert started_ms <= harmed.get(worker.name, 0), (
            f"call {call_id} of {worker.name} is on no record and no fault explains it"
        )
        assert call.nanousd >= 0


def report(made: Stage, found: Findings) -> str:
    """The figures of a run, one line each."""
    lines = [
        f"events {found.events}, faults {len(made.kills)}, with calls in flight {sum(k.in_flight > 0 for k in made.kills)}",
        f"billed ${found.billed_nanousd / 1e9:.6f} = records ${found.recorded_nanousd / 1e9:.6f} (waste ${found.waste_nanousd / 1e9:.6f})"
        f" + unconfirmed ${found.unconfirmed_nanousd / 1e9:.6f}; difference {found.billed_nanousd - found.recorded_nanousd - found.unconfirmed_nanousd} nanodollars",
        f"items paid twice {found.unaccounted_items}, asked and not committed at the faults {sum(k.at_risk for k in made.kills)}",
    ]
    lines += map(str, made.zombies)
    lines.append(f"lines of workers about broken commits: {len(made.broken_commits())}")
    for name, task in found.tasks.items():
        lines.append(
            f"{name}: results {task.results}, dead letters {task.dead_letters}, skipped {task.skipped}, lost {task.lost}, doubled {task.doubled}"
        )
    return "\n".join(lines)
