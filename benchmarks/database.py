"""How fast results get into a database: through the delivery loop from an embedded log, on SQLite and on PostgreSQL.

`python -m benchmarks.database [--events N] [--out FILE]`: a table, then one line of JSON. A result is two rows: the verdict
and its cost. The figures hold for one process; PostgreSQL, the log and the loop share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import orjson
from pydantic import BaseModel

from penstock import NewRecord, Task
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.state import STATE_TOPIC
from penstock.sinks.database import DatabaseSink
from penstock.sinks.delivery import DeliveryLoop
from penstock.sinks.reading import feeds_of
from penstock.store.options import DatabaseOptions
from penstock.store.schema import connect, upgrade

PARTITIONS = 12
TARGET_PER_SECOND = 5_000
CHUNK = 2_000
START_MS = time.time_ns() // 1_000_000 - 3_600_000


class Review(BaseModel):
    """What was judged."""

    text: str


class Verdict(BaseModel):
    """What was said."""

    decision: Literal["publish", "hold", "reject"]
    reason: str = ""


TASK: Task[Review, Verdict] = Task(
    "bench",
    reads="events",
    writes="results",
    dead_letters="letters",
    input=Review,
    output=Verdict,
    instructions="Judge.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = parser.parse_args()
    figures = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "load_before": os.getloadavg()[0], "rows": []}
    with tempfile.TemporaryDirectory() as directory:
        row = asyncio.run(measure("sqlite", f"sqlite:{directory}/store.db", Path(directory), given.events))
        figures["rows"].append(row)
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import postgres  # the tests' own server

    with postgres.running() as server, tempfile.TemporaryDirectory() as directory:
        figures["rows"].append(asyncio.run(measure("postgresql", server.make(), Path(directory), given.events)))
    print(f"{'database':<12}{'results/s':>11}{'rows/s':>9}{'batch ms':>10}{'CPU µs a result':>17}")
    for row in figures["rows"]:
        print(
            f"{row['database']:<12}{row['results_per_second']:>11,}{row['rows_per_second']:>9,}"
            f"{row['batch_ms']:>10}{row['cpu_us']:>17}"
        )
    print(f"target: {TARGET_PER_SECOND:,} rows/s on PostgreSQL")
    print(json.dumps(figures))
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


async def measure(name: str, url: str, directory: Path, events: int) -> dict[str, object]:
    """All results are in the log before the clock starts; it stops when the last batch is committed."""
    options = DatabaseOptions(url=url)
    engine = connect(options)
    upgrade(engine)
    engine.dispose()
    log = SqliteLog(directory / "log.db", options=SqliteOptions(synchronous="normal"))
    topics = [TopicSpec(TASK.writes, PARTITIONS), TopicSpec(TASK.dead_letters, PARTITIONS)]
    await log.create_topics([*topics, TopicSpec(STATE_TOPIC, 1, is_compacted=True)])
    for first in range(0, events, CHUNK):
        await log.append([result(n) for n in range(first, min(first + CHUNK, events))])
    loop = DeliveryLoop(DatabaseSink(options, feeds_of([TASK])), feeds_of([TASK]), log)
    stop = asyncio.Event()
    cpu, started = _cpu(), time.monotonic()
    run = asyncio.create_task(loop.run(stop))
    while sum(done.base for done in loop.positions().values()) < events:
        assert not run.done()
        await asyncio.sleep(0.02)
    seconds, cpu = time.monotonic() - started, _cpu() - cpu
    stop.set()
    await run
    await log.close()
    batches = loop.counts.batch_seconds
    return {
        "database": name,
        "results_per_second": round(events / seconds),
        "rows_per_second": round(2 * events / seconds),
        "batch_ms": round(1000 * batches.sum / batches.count, 1),
        "cpu_us": round(cpu / events * 1e6, 1),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def result(n: int) -> NewRecord:
    """As a worker writes it, about a review of some 300 bytes."""
    now_ms = START_MS + n
    value = {
        "id": f"{n:032x}", "event_id": f"r-{n}", "subject": f"r-{n}", "task": TASK.name,
        "output": {"decision": ("publish", "hold", "reject")[n % 3], "reason": "Names a person and what he is said to have done."},
        "confidence": "sure", "provisional": False, "tier": "haiku", "model": "claude-haiku-5-5", "prompt": "0123456789ab",
        "policy": "7", "simulated": False, "attempts": 1,
        "usage": {"input_tokens": 45, "cache_write_tokens": 0, "cache_read_tokens": 83, "output_tokens": 17}, "nanousd": 38_059,
        "calls": [[f"req_{n // 50:024d}", 38_059]], "source": {"topic": "events", "partition": n % PARTITIONS, "offset": n},
        "times": dict.fromkeys(("produced", "taken", "asked", "answered", "committed"), now_ms),
    }  # fmt: skip
    return NewRecord(TASK.writes, f"p-{n % 5000}".encode(), orjson.dumps(value), (), now_ms)


if __name__ == "__main__":
    main()
