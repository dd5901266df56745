"""How many events the gateway takes: one process of it, one sender, and the broker beside them on the same cores.

`python -m benchmarks.gateway [--events N] [--batch N] [--senders N] [--only kafka|sqlite] [--out FILE]`: a table, then JSON. Every event has an
id of its own and is checked against a model, claimed, appended and marked; the run ends by counting what stands in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
from pydantic import BaseModel

from penstock import Route, Task
from penstock.cli.command import run_async
from penstock.log.base import EventLog
from penstock.log.topics import topic_specs
from penstock.settings import Settings, load_settings
from penstock.web.options import GatewayOptions
from penstock.wiring import open_log

TARGET_PER_SECOND = 3_000
TEXT = "The kettle boils fast and does not leak, but the lid is loose and the handle becomes hot. " * 3


class Review(BaseModel):
    """About 300 bytes."""

    id: str
    product: str
    text: str


class Verdict(BaseModel):
    """Nobody answers here."""

    good: bool = True


task = Task(
    "bench-gateway", reads="bench-gateway-events", input=Review, output=Verdict, instructions="-", route=Route("haiku")
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--senders", type=int, default=8, help="requests at once")
    parser.add_argument("--only", choices=("kafka", "sqlite"))
    parser.add_argument("--serve", nargs=2, metavar=("LOG", "DIRECTORY"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = parser.parse_args()
    if given.serve:
        run_async(serve(*given.serve))
        return
    rows = [row for kind in ("sqlite", "kafka") if given.only in {None, kind} for row in measured(kind, given)]
    machine = {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }
    show(rows, machine)
    print(json.dumps({"rows": rows, "machine": machine}))
    if given.out:
        given.out.write_text(json.dumps({"rows": rows, "machine": machine}, indent=2), encoding="utf-8")


def measured(kind: str, given: argparse.Namespace) -> list[dict]:
    """Large batches, then one event a request."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            return runs(f"sqlite:{directory}/log.db", kind, given)
    from benchmarks.place import Place

    place = Place()
    try:
        return runs(f"kafka:{place.bootstrap}", kind, given)
    finally:
        place.close()


def runs(log: str, kind: str, given: argparse.Namespace) -> list[dict]:
    return [
        asyncio.run(run(log, kind, given.events, given.batch, given.senders)),
        asyncio.run(run(log, kind, given.events // 20, 1, 4 * given.senders)),
    ]


async def run(address: str, kind: str, events: int, batch: int, senders: int) -> dict:
    log = open_log(settings_of(address))
    await log.create_topics(topic_specs(task, 12))
    before = await count(log)
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.gateway", "--serve", address, directory]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - before the run
        assert process.stdout is not None
        url = (await asyncio.to_thread(process.stdout.readline)).strip()
        watched = psutil.Process(process.pid)
        spent = cpu(watched)
        started = time.perf_counter()
        latencies = await send(url, events, batch, senders)
        seconds = time.perf_counter() - started
        used = cpu(watched) - spent
        memory = watched.memory_info().rss
        process.terminate()
        process.wait(30)
    written = await count(log) - before
    await log.close()
    if written != events:
        raise SystemExit(f"{kind}: {events} events were accepted, {written} stand in the log")
    quantiles = statistics.quantiles(latencies, n=100)
    return {
        "log": kind,
        "batch": batch,
        "requests_at_once": senders,
        "events": events,
        "events_per_second": round(events / seconds),
        "cpu_us_per_event": round(used / events * 1e6, 1),
        "p50_ms": round(quantiles[49] * 1e3, 1),
        "p99_ms": round(quantiles[98] * 1e3, 1),
        "memory_mb": memory >> 20,
    }


async def send(url: str, events: int, batch: int, senders: int) -> list[float]:
    """Bodies are made before: the sender shares the cores."""
    run_id = f"{time.time_ns():x}"
    bodies = iter(
        [
            json.dumps(
                [
                    {"id": f"{run_id}-{n}", "product": f"p{n % 2000}", "text": TEXT}
                    for n in range(at, min(at + batch, events))
                ]
            ).encode()
            for at in range(0, events, batch)
        ]
    )
    latencies: list[float] = []
    headers = {"content-type": "application/json"}

    async def one(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            started = time.perf_counter()
            async with session.post(f"{url}/v1/events", data=body, headers=headers) as reply:
                if reply.status != 202:
                    raise SystemExit(f"{reply.status}: {await reply.text()}")
                await reply.read()
            latencies.append(time.perf_counter() - started)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session) for _ in range(senders)))
    return latencies


async def serve(address: str, directory: str) -> None:
    from penstock.web.build import build_server

    options = GatewayOptions(port=0, auth="none", ledger_file=Path(directory) / "ledger.db")
    server = build_server([task], open_log(settings_of(address)), options)
    running = asyncio.create_task(server.run())
    await server.started.wait()
    print(server.url, flush=True)
    await running


def settings_of(address: str) -> Settings:
    return load_settings(assignments=[f"log={address}"]).settings


async def count(log: EventLog) -> int:
    return sum(kept.high - kept.low for kept in (await log.bounds(task.reads)).values())


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def show(rows: list[dict], machine: dict) -> None:
    print(
        f"{machine['system']}, {machine['cpus']} CPUs, Python {machine['python']}, load before {machine['load_before']}"
    )
    print(f"{'log':8}{'batch':>6}{'at once':>9}{'events/s':>10}{'CPU us/event':>14}{'p50 ms':>8}{'p99 ms':>8}{'MB':>6}")
    for row in rows:
        print(
            f"{row['log']:8}{row['batch']:>6}{row['requests_at_once']:>9}{row['events_per_second']:>10,}"
            f"{row['cpu_us_per_event']:>14}{row['p50_ms']:>8}{row['p99_ms']:>8}{row['memory_mb']:>6}"
        )
    print(f"target in batches: {TARGET_PER_SECOND:,} events/s")


if __name__ == "__main__":
    main()
