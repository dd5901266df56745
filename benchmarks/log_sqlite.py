"""How fast the embedded log is: one process appends, another polls and commits a result for each, at the same time.

`python -m benchmarks.log_sqlite [--events N] [--synchronous full|normal] [--out FILE]`: a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from penstock.log.base import PartProgress, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord, Partition

PARTITIONS = 12
VALUE_BYTES = 300
PRODUCTS = 2_000
CHUNK = 300
POLL = 500
LONGEST_SECONDS = 20.0
TARGET_PER_SECOND = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--synchronous", choices=("full", "normal"), default="full")
    parser.add_argument("--role", choices=("producer", "consumer"))
    parser.add_argument("--path", type=Path)
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = parser.parse_args()
    if given.role:
        role = produce if given.role == "producer" else consume
        print(json.dumps(asyncio.run(role(given.path, given.events, given.synchronous))))
        return
    figures = measure(given.events, given.synchronous)
    show(figures)
    print(json.dumps(figures))
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def measure(events: int, synchronous: str) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.db"
        asyncio.run(prepare(path))
        command = [sys.executable, "-m", "benchmarks.log_sqlite", "--path", str(path), "--events", str(events)]
        command += ["--synchronous", synchronous, "--role"]
        consumer, producer = (
            subprocess.Popen([*command, role], stdout=subprocess.PIPE, text=True) for role in ("consumer", "producer")
        )
        told = {"in": json.loads(producer.communicate()[0]), "out": json.loads(consumer.communicate()[0])}
        sizes = {"db_bytes": path.stat().st_size, "wal_bytes_largest": told["out"].pop("wal_bytes_largest")}
    machine = {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    return {"events": events, "synchronous": synchronous, **told, **sizes, "machine": machine}


async def prepare(path: Path) -> None:
    log = SqliteLog(path)
    await log.create_topics([TopicSpec("events", PARTITIONS), TopicSpec("results", PARTITIONS)])
    await log.close()


async def produce(path: Path, events: int, synchronous: str) -> dict:
    log = SqliteLog(path, options=SqliteOptions(synchronous=synchronous))
    value = b"x" * VALUE_BYTES
    started, done = time.perf_counter(), 0
    while done < events and time.perf_counter() - started < LONGEST_SECONDS:
        count = min(CHUNK, events - done)
        await log.append([NewRecord("events", b"p-%d" % (n % PRODUCTS), value) for n in range(done, done + count)])
        done += count
    figures = rates(done, started)
    await log.close()
    return figures


class Owner:
    """Alone in its group: whatever it is told changes nothing."""

    async def assigned(self, *_: object) -> None: ...

    async def revoked(self, *_: object) -> None: ...

    async def lost(self, *_: object) -> None: ...


async def consume(path: Path, events: int, synchronous: str) -> dict:
    """From the first record on, so that waiting for the producer's start is not counted."""
    log = SqliteLog(path, options=SqliteOptions(synchronous=synchronous))
    consumer = await log.join("group", ["events"], Owner(), start_from="earliest")
    value, headers = b"y" * VALUE_BYTES, (("task", b"bench"), ("model", b"none"), ("cost", None))
    started, done, wal_bytes = 0.0, 0, 0
    while done < events and (not started or time.perf_counter() - started < LONGEST_SECONDS):
        records = await consumer.poll(POLL, 1.0)
        started = started or time.perf_counter()
        parts: dict[Partition, list] = {}
        for record in records:
            parts.setdefault(Partition(record.topic, record.partition), []).append(record)
        await consumer.commit(
            Progress(
                tuple(
                    PartProgress(
                        partition,
                        OffsetMap(read[-1].offset + 1),
                        tuple(NewRecord("results", record.key, value, headers) for record in read),
                    )
                    for partition, read in parts.items()
                )
            )
        )
        done += len(records)
        wal_bytes = max(wal_bytes, wal_size(path))
    figures = rates(done, started)
    await log.close()
    return {**figures, "wal_bytes_largest": wal_bytes}


def wal_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def rates(done: int, started: float) -> dict:
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "events": done,
        "seconds": round(seconds, 2),
        "events_per_second": round(done / seconds),
        "cpu_us_per_event": round((used.ru_utime + used.ru_stime) / max(1, done) * 1e6, 1),
        "memory_mb": used.ru_maxrss // 1024,
    }


def show(figures: dict) -> None:
    machine = figures["machine"]
    print(f"embedded log, {figures['events']:,} events of {VALUE_BYTES} bytes, synchronous={figures['synchronous']}")
    print(f"{machine['system']}, {machine['cpus']} CPUs, Python {machine['python']}, SQLite {machine['sqlite']}")
    print(f"{'':24}{'events/s':>10}{'CPU us/event':>14}{'MB':>6}{'seconds':>9}   target {TARGET_PER_SECOND:,}/s each")
    for side, said in (("in", "in: append"), ("out", "out: poll, commit")):
        one = figures[side]
        cells = (one["events_per_second"], one["cpu_us_per_event"], one["memory_mb"], one["seconds"])
        print(f"{said:24}{cells[0]:>10,}{cells[1]:>14}{cells[2]:>6}{cells[3]:>9}")
    print(
        f"file {figures['db_bytes'] / 1e6:.0f} MB, write-ahead log at most {figures['wal_bytes_largest'] / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
