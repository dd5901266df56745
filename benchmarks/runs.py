"""One run of one contender: a drain of a backlog, an open loop of arrivals, a kill -9, a long backlog.

place, contenders, watch → [runs] → kafka
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count as numbers
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer

from benchmarks.contenders import Contender, Worker
from benchmarks.place import Place
from benchmarks.profiled import report
from benchmarks.tasks import events
from benchmarks.watch import CpuWatch, ResultsReader, Seen, spread
from penstock.log.topics import retry_partitions
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import SimulatorProcess, spawn

PARTITIONS = 12
API = SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15)
WARM = "warm"
"""The event that shows that a worker has started."""
TEXTS = 10_000
STREAM_SECONDS = 14.0
LONGEST_COMMIT_SECONDS = 6.0
"""The rivals' clients commit every five."""
REQUEST_SECONDS = 0.1
"""What a worker has sent is billed within this time."""
SETTLE_SECONDS = 2.0
"""After a kill: what was committed then is visible, and the next worker has written nothing yet."""
QUIET_SECONDS = 25.0
"""After a kill: longer than session and transaction time-outs together, so that what still comes has come."""
Event = tuple[bytes, bytes]


@cache
def backlog(count: int) -> tuple[Event, ...]:
    """The same events for every contender."""
    return tuple(long_backlog(count))


@cache
def _texts() -> tuple[Event, ...]:
    return tuple((event.key or b"", event.value or b"") for event in events(TEXTS))


def long_backlog(count: int) -> Iterator[Event]:
    """Many events: texts repeat, ids do not. Nobody who is measured gains by it, but the simulator beside them knows a text again."""
    base = _texts()
    for number in range(count):
        key, value = base[number % len(base)]
        yield key, b'{"review_id":"r%d","%b' % (number, value.partition(b'","')[2])


@dataclass
class Stage:
    """Everything that is up during a run."""

    place: Place
    contender: Contender
    run: str
    simulator: SimulatorProcess
    reader: ResultsReader
    policy: str = ""
    profile: str = ""
    """Where the workers leave what they spent their CPU on."""
    workers: list[Worker] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return f"bench-events{self.run}"

    @property
    def group(self) -> str:
        return self.contender.results(self.run).removesuffix("-results")

    def start_worker(self) -> Worker:
        slot = f"bench-{len(self.workers)}"
        worker = self.contender.start(
            self.place.bootstrap, self.simulator.url, self.run, slot, self.policy, self.profile
        )
        self.workers.append(worker)
        return worker

    def watch(self) -> CpuWatch:
        """Of the processes that compete for the cores."""
        clocks: dict[str, Callable[[], float]] = {
            "contender": lambda: sum(worker.cpu_seconds() for worker in self.workers),
            "simulator": _clock(self.simulator.pid),
            "bench": _clock(None),
        }
        if self.place.pid:
            clocks["broker"] = _clock(self.place.pid)
        ours = tuple(clocks.values())
        clocks["others"] = lambda: _machine_seconds() - sum(clock() for clock in ours)
        return CpuWatch(clocks, lambda: max(worker.mb() for worker in self.workers))

    def until(self, is_done: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true in time and the workers lived."""
        end = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() > end:
                return False
            for worker in self.workers:
                if not worker.is_alive:
                    raise SystemExit(f"a worker of {self.contender.name!r} ended by itself:\n{worker.last_words()}")
            time.sleep(0.05)
        return True


def _clock(pid: int | None) -> Callable[[], float]:
    process = psutil.Process(pid)
    return lambda: sum(process.cpu_times()[:2])


def _machine_seconds() -> float:
    """CPU seconds of all that runs on this machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


@contextmanager
def stage(
    place: Place,
    contender: Contender,
    *,
    partitions: int = PARTITIONS,
    live: bool = False,
    policy: str = "",
    profile: str = "",
    api: SimulatorOptions = API,
) -> Iterator[Stage]:
    """Fresh topics, a fresh API account and a reader of the results."""
    run = f"-{uuid.uuid4().hex[:8]}"
    results = contender.results(run)
    group = results.removesuffix("-results")
    place.make_topics([f"bench-events{run}", results, f"{group}-dlq"], partitions)
    place.make_topics([f"{group}.retry"], retry_partitions(partitions))
    with ExitStack() as ends:
        ends.callback(place.drop_topics, run)
        simulator = ends.enter_context(spawn(api))
        reader = ResultsReader(place.client, results, partitions, live=live)
        ends.callback(reader.close)
        up = Stage(place, contender, run, simulator, reader, policy, profile)
        ends.callback(lambda: [*map(Worker.stop, up.workers)])
        yield up


def drain(
    place: Place,
    contender: Contender,
    count: int,
    *,
    workers: int = 1,
    partitions: int = PARTITIONS,
    policy: str = "",
    most_seconds: float = 180.0,
) -> dict[str, Any]:
    """A backlog waits and is drained. Rates hold between the first tenth and the last tenth of the results."""
    with stage(place, contender, partitions=partitions, policy=policy) as up:
        place.produce(up.topic, backlog(count))
        for _ in range(workers):
            up.start_worker()
        watch = up.watch()
        up.until(lambda: up.reader.count() >= count, most_seconds)
        watch.close()
        seen, bill = up.reader.seen(), up.simulator.accounts()
        figures = {"events": len(seen), **rates(seen, watch), **cost(seen, bill), "peak_mb": round(watch.peak_mb)}
        if len(seen) >= count:
            distinct = len({result.event_id for result in seen})
            figures["lost_or_doubled"] = count - distinct + len(seen) - distinct
        return figures


def rates(seen: Sequence[Seen], watch: CpuWatch) -> dict[str, Any]:
    """Events a second and CPU microseconds an event of every process, in the middle of the run."""
    if len(seen) < 10:
        return {"events_per_second": 0}
    moments = sorted(result.appended for result in seen)
    start, end = moments[len(moments) // 10], moments[len(moments) * 9 // 10]
    done = sum(1 for moment in moments if start <= moment < end)
    cpu = watch.between(start, end)
    seconds = max(end - start, 1e-9)
    return {
        "events_per_second": round(done / seconds, 1),
        "cpu_us_per_event": {name: round(used / max(1, done) * 1e6, 1) for name, used in cpu.items()},
        "cores_busy": {name: round(used / seconds, 2) for name, used in cpu.items()},
    }


def cost(seen: Sequence[Seen], bill: dict[str, Any]) -> dict[str, Any]:
    """What the API billed, by event with a result."""
    distinct = len({result.event_id for result in seen})
    return {"usd_per_1000": round(bill["nanousd"] / max(1, distinct) / 1e6, 4), "calls": bill["billed_calls"]}


def open_loop(place: Place, contender: Contender, per_second: float, seconds: float) -> dict[str, Any]:
    """Events arrive when they arrive, whether or not the contender keeps up: from the intended sending to visible."""
    with stage(place, contender, live=True) as up:
        intended: dict[str, float] = {}
        stream = backlog(max(1_000, int(per_second * seconds * 2)))
        producer = quick_producer(place)
        up.start_worker()
        until_started(up)
        rng, due, end = random.Random(7), time.time(), time.time() + seconds
        for number in numbers():
            due += rng.expovariate(per_second)
            if due > end:
                break
            time.sleep(max(0.0, due - time.time()))
            key, value = stream[number]
            intended[f"r{number}"] = due
            producer.produce(up.topic, value, key)
            producer.poll(0)
        producer.flush(10)
        up.until(lambda: up.reader.distinct() > len(intended), 15.0)
        found = [seen for seen in up.reader.seen() if seen.event_id in intended]
        calls = [row["ended_ms"] - row["started_ms"] for row in up.simulator.calls()]
        return {
            "per_second": per_second,
            "sent": len(intended),
            "answered": len({seen.event_id for seen in found}),
            **spread([(seen.visible - intended[seen.event_id]) * 1000 for seen in found]),
            "api": spread(calls),
            "items_per_call": round(len(found) / max(1, len(calls)), 1),
        }


def quick_producer(place: Place) -> Producer:
    return Producer({**place.client, "linger.ms": 0, "partitioner": "murmur2_random"})


def until_started(up: Stage) -> None:
    """The worker has started, joined and answered once."""
    producer = quick_producer(up.place)
    producer.produce(up.topic, _texts()[0][1].replace(b'"r0"', b'"%s"' % WARM.encode()), b"warm")
    producer.flush(10)
    if not up.until(lambda: up.reader.count() > 0, 60.0):
        print(f"{up.contender.name}: nothing answered within a minute", file=sys.stderr)


def killed(place: Place, contender: Contender, per_second: float) -> dict[str, Any]:
    """A steady stream and one kill -9 just after offsets were committed: the worst moment for whoever commits too early.

    The next worker goes on. What is missing, what is there twice, what was paid for nothing? The worker is frozen for the moment
    before, so that what it had asked and what of that was written is counted, not guessed.
    """
    count = int(per_second * STREAM_SECONDS)
    with stage(place, contender) as up:
        stream = threading.Thread(target=_stream, args=(up, count, per_second), daemon=True)
        first = up.start_worker()
        until_started(up)
        stream.start()
        time.sleep(STREAM_SECONDS / 2)
        _until_commit(up)
        first.freeze()
        asked, calls, in_calls = _asked_until(up, time.time())
        first.kill()
        up.workers.clear()
        up.start_worker()
        time.sleep(SETTLE_SECONDS)
        in_flight = asked - up.reader.count()
        stream.join()
        _until_quiet(up, count)
        seen = up.reader.seen()
        distinct = len({result.event_id for result in seen} - {WARM})
        return {
            "per_second": per_second,
            "events": count,
            "calls_in_flight": calls,
            "events_in_calls": in_calls,
            "answered_unwritten": in_flight - in_calls,
            "in_flight": in_flight,
            "gap_seconds": _longest_gap(seen),
            "lost": count - distinct,
            "doubled": len(seen) - 1 - distinct,
            "paid_for_nothing": _asked(up.simulator.accounts()) - 1 - distinct,
        }


def _asked(bill: dict[str, Any]) -> int:
    """Events that the API was asked about; the naive ones ask without naming them."""
    return int(bill["items"] or bill["billed_calls"])


def _asked_until(up: Stage, moment: float) -> tuple[int, int, int]:
    """Events asked about in all; of them the calls, and the events, whose reply had not been written at that moment."""
    time.sleep(REQUEST_SECONDS)
    bill = up.simulator.accounts()
    rows = [row for row in up.simulator.calls() if row["nanousd"] and row["ended_ms"] <= moment * 1000]
    answered = sum(row["items"] or 1 for row in rows)
    return _asked(bill), bill["billed_calls"] - len(rows), _asked(bill) - answered


def _stream(up: Stage, count: int, per_second: float) -> None:
    producer = quick_producer(up.place)
    started = time.monotonic()
    for number, (key, value) in enumerate(backlog(count)):
        time.sleep(max(0.0, started + number / per_second - time.monotonic()))
        producer.produce(up.topic, value, key)
        producer.poll(0)
    producer.flush(30)


def _until_commit(up: Stage) -> None:
    """The moment when the group's offsets have moved; at once where they always do."""
    before = up.place.committed(up.group)
    end = time.monotonic() + LONGEST_COMMIT_SECONDS
    while up.place.committed(up.group) == before and time.monotonic() < end:
        time.sleep(0.02)


def _longest_gap(seen: Sequence[Seen]) -> float:
    """Seconds without a result: how long it took until the next worker had taken over."""
    moments = sorted(result.visible for result in seen if result.event_id != WARM)
    return round(max((after - before for before, after in pairwise(moments)), default=0.0), 1)


def _until_quiet(up: Stage, count: int) -> None:
    """What was committed and never answered is never read again: waiting ends when nothing more comes."""
    end, quiet_since, last = time.monotonic() + 60.0, time.monotonic(), -1
    while time.monotonic() < min(end, quiet_since + QUIET_SECONDS):
        now, in_flight = up.reader.count(), up.simulator.accounts()["in_flight"]
        if now != last or in_flight:
            last, quiet_since = now, time.monotonic()
        elif now > count and up.reader.distinct() > count:
            break
        time.sleep(0.25)
    time.sleep(1.0)


def profiled(place: Place, contender: Contender, count: int) -> dict[str, Any]:
    """Where the CPU of the worker's event loop goes while it drains a backlog."""
    with tempfile.TemporaryDirectory() as directory:
        profile = Path(directory) / "worker.prof"
        with stage(place, contender, profile=str(profile)) as up:
            place.produce(up.topic, backlog(count))
            up.start_worker()
            up.until(lambda: up.reader.count() >= count, 180.0)
        return {"events": count, **report(profile)}


def memory(place: Place, contender: Contender, count: int, marks: Sequence[int]) -> dict[str, Any]:
    """Memory of a worker while it works on a long backlog."""
    with stage(place, contender) as up:
        place.produce(up.topic, long_backlog(count))
        worker = up.start_worker()
        figures: dict[str, Any] = {"backlog": count}
        for mark in marks:
            if not up.until(lambda mark=mark: up.reader.count() >= mark, 240.0):  # type: ignore[misc]
                break
            figures[f"mb_after_{mark}"] = round(worker.mb())
        return figures
