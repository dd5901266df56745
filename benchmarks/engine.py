"""The engine on the embedded log: events a second, CPU an event, latency at low load, memory with a long backlog.

`python -m benchmarks.engine [--only NAME] [--scale 0.1]`: a table, then one line of JSON.

The API is simulated in a process of its own (300 ms + 8 ms an item, ±15 %); 50 events a call, 256 calls in flight,
one worker process. The figures say what the engine takes, never how well Claude judges.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.tasks import by_key, by_none, events
from penstock.log.base import EventLog
from penstock.log.sqlite import SqliteLog
from penstock.settings import load_settings
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import SimulatorProcess, spawn
from penstock.task import Task
from penstock.wiring import open_log, topic_specs

LOG_URL = os.environ.get("BENCH_LOG", "")
"""Empty: a fresh embedded log for each case."""
ENVIRONMENT = {
    "PENSTOCK_LIMITS__DEFAULT__REQUESTS_PER_MINUTE": "10000000",
    "PENSTOCK_LIMITS__DEFAULT__INPUT_TOKENS_PER_MINUTE": "100000000000",
    "PENSTOCK_LIMITS__DEFAULT__OUTPUT_TOKENS_PER_MINUTE": "100000000000",
    "PENSTOCK_CONCURRENCY__MAX_CALLS": "256",
    "PENSTOCK_CLAUDE__API_KEY": "offline",
}


@dataclass
class Watch:
    """A worker process and what it takes."""

    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def mb(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def start_worker(url: str, simulator: SimulatorProcess, task: Task[Any, Any]) -> Watch:
    name = "by_key" if task is by_key else "by_none"
    environment = os.environ | ENVIRONMENT | {"PENSTOCK_LOG": url, "PENSTOCK_CLAUDE__BASE_URL": simulator.url}
    command = [sys.executable, "-m", "penstock.cli", "run", f"benchmarks.tasks:{name}", "--yes", "--quiet"]
    return Watch(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))


async def ended(log: EventLog, task: Task[Any, Any]) -> int:
    return sum(done.base + done.count_above() for done in (await log.committed(task.group, task.reads)).values())


async def results(log: EventLog, task: Task[Any, Any]) -> list[dict[str, Any]]:
    found = []
    for partition, bounds in (await log.bounds(task.writes)).items():
        at = bounds.low
        while records := await log.read(partition, at, 5_000):
            found += [orjson.loads(record.value or b"{}") for record in records]
            at = records[-1].offset + 1
    return found


async def prepare(directory: str, task: Task[Any, Any], count: int) -> tuple[EventLog, str]:
    url = LOG_URL or f"sqlite:{directory}/bench.db"
    log = open_log(load_settings(assignments=[f"log={url}"]).settings)
    await log.create_topics(topic_specs(task))
    stream = events(count)
    while chunk := list(islice(stream, 2_000)):
        await log.append(chunk)
    return log, url


async def throughput(task: Task[Any, Any], count: int) -> dict[str, Any]:
    """A backlog is drained: events a second between the first tenth and the end, CPU of the worker an event."""
    with (
        tempfile.TemporaryDirectory() as directory,
        spawn(SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15)) as simulator,
    ):
        log, url = await prepare(directory, task, count)
        worker = start_worker(url, simulator, task)
        try:
            await until(log, task, count // 10, worker)
            first, started, cpu = await ended(log, task), time.monotonic(), worker.cpu_seconds()
            peak = 0.0
            while (now := await ended(log, task)) < count:
                peak = max(peak, worker.mb())
                await asyncio.sleep(0.05)
            seconds, cpu = time.monotonic() - started, worker.cpu_seconds() - cpu
            simulator_cpu = sum(psutil.Process(simulator.pid).cpu_times()[:2])
        finally:
            worker.stop()
        distinct = len({result["event_id"] for result in await results(log, task)})
        await log.close()
        return {
            "events": count,
            "events_per_second": round((now - first) / seconds),
            "cpu_us_per_event": round(cpu / (now - first) * 1e6, 1),
            "peak_mb": round(peak),
            "simulator_cpu_us_per_event": round(simulator_cpu / count * 1e6, 1),
            "lost_or_doubled": count - distinct,
        }


async def until(log: EventLog, task: Task[Any, Any], count: int, worker: Watch, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while await ended(log, task) < count:
        if time.monotonic() > deadline or worker.process.poll() is not None:
            raise SystemExit(f"the worker did not get to {count} events")
        await asyncio.sleep(0.02)


async def low_load(count: int) -> dict[str, Any]:
    """One event at a time, far apart: from produced to committed, beyond what the API itself takes."""
    task = by_none
    with (
        tempfile.TemporaryDirectory() as directory,
        spawn(SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15)) as simulator,
    ):
        log, url = await prepare(directory, task, 1)
        worker = start_worker(url, simulator, task)
        try:
            await until(log, task, 1, worker)
            for event in events(count, seed=5, first=1):
                await log.append([event])
                await asyncio.sleep(0.6)
            await until(log, task, count + 1, worker)
        finally:
            worker.stop()
        found = sorted(await results(log, task), key=lambda r: r["times"]["produced"])[1:]
        await log.close()
    whole = [r["times"]["committed"] - r["times"]["produced"] for r in found]
    beyond = [
        r["times"]["committed"] - r["times"]["produced"] - (r["times"]["answered"] - r["times"]["asked"]) for r in found
    ]
    return {
        "events": len(found),
        "p50_ms": statistics.median(whole),
        "p99_ms": quantile(whole, 0.99),
        "beyond_the_call_p50_ms": statistics.median(beyond),
        "beyond_the_call_p99_ms": quantile(beyond, 0.99),
    }


async def backlog_memory(count: int) -> dict[str, Any]:
    """Memory of a worker while it drains a long backlog, at a tenth, at half and at the end of its run."""
    task = by_none
    with (
        tempfile.TemporaryDirectory() as directory,
        spawn(SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15)) as simulator,
    ):
        log, url = await prepare(directory, task, count)
        worker = start_worker(url, simulator, task)
        seen = {}
        try:
            for share in (0.02, 0.05, 0.1):
                await until(log, task, int(count * share), worker)
                seen[f"mb_after_{int(count * share)}"] = round(worker.mb())
        finally:
            worker.stop()
        await log.close()
    return {"backlog": count, **seen}


async def cold_start() -> dict[str, Any]:
    """From starting `penstock run` to the first committed result, the API's own 300 ms among it."""
    task = by_none
    with (
        tempfile.TemporaryDirectory() as directory,
        spawn(SimulatorOptions(latency_ms=300, per_item_ms=8)) as simulator,
    ):
        log, url = await prepare(directory, task, 10)
        started = time.monotonic()
        worker = start_worker(url, simulator, task)
        try:
            await until(log, task, 1, worker)
            seconds = time.monotonic() - started
        finally:
            worker.stop()
        await log.close()
    return {"seconds": round(seconds, 2)}


def quantile(numbers: list[float], q: float) -> float:
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * q))]


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


CASES = {
    "order=none": lambda scale: throughput(by_none, int(120_000 * scale)),
    "order=key, Zipf(1.1)": lambda scale: throughput(by_key, int(120_000 * scale)),
    "low load": lambda scale: low_load(max(20, int(100 * scale))),
    "backlog of a million": lambda scale: backlog_memory(int(1_000_000 * scale)),
    "cold start": lambda _: cold_start(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(CASES))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "log": SqliteLog.__name__, "scale": given.scale}
    for name in given.only or CASES:
        figures[name] = asyncio.run(CASES[name](given.scale))
        print(f"{name:22s} " + "  ".join(f"{key} {value}" for key, value in figures[name].items()), flush=True)
    print(json.dumps(figures))
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
