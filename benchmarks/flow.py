"""Flow control beside what people write instead: an account whose limits bind, one worker, the same events and model for all.

`python -m benchmarks.flow [--only low|burst|strict|saturation] [--who NAME] [--out FILE]`: tables, then JSON.

The account is of the Start class and starts with full buckets (a minute of each limit). Events come in an open loop over
Kafka; latency is from the intended moment of sending to a read-committed reader. Use and 429s are counted by the account.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import runs
from benchmarks.arrivals import LIMITS, Arrival, Shape, binding, feed, markdown, quantile, taken, waits
from benchmarks.contenders import Contender
from benchmarks.place import Place
from penstock.simulator.limiter import CLASSES
from penstock.simulator.options import SimulatorOptions
from review_moderation import moderator

Row = dict[str, Any]
CLASS = "start"
ACCOUNT = SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15, usage_tier=CLASS)
RATES = CLASSES[CLASS][0]
GRANTED = dict(zip(LIMITS, (RATES.requests, RATES.input_tokens, RATES.output_tokens), strict=True))
CAREFUL_CALLS_PER_MINUTE = {1: 800, 50: 320}
"""80 % of what the account bears: of its requests at 1 a call; of its input tokens (about 100 an event) at 50 a call."""


@dataclass(frozen=True)
class Case:
    """A contender, and how many events it asks about in a call."""

    who: Contender
    items: int


def _rival(name: str, module: str, items: int) -> Case:
    told = (("BENCH_ITEMS", str(items)), ("BENCH_CALLS_PER_MINUTE", str(CAREFUL_CALLS_PER_MINUTE[items])))
    return Case(Contender(f"{name}, {items} a call", module=module, environment=told), items)


PENSTOCK = Case(Contender("penstock", order="none", is_limited=True), 50)
CASES = (
    PENSTOCK,
    _rival("SDK back-off", "backoff", 50),
    _rival("fixed rate", "fixed_rate", 50),
    _rival("concurrency only", "aimd", 50),
    _rival("SDK back-off", "backoff", 1),
    _rival("fixed rate", "fixed_rate", 1),
    _rival("concurrency only", "aimd", 1),
)
FEW = CASES[:5]
"""Beside the saturation: at one event a call the others bear 16 events/s as well, and answer a low load in the same time."""
STRICT_SECONDS = 5.0
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("low", ((15.0, 5.0),), 0.0, 15.0),
        Shape("burst", ((20.0, 100.0), (10.0, 1_000.0), (25.0, 100.0)), 20.0, 55.0),
        Shape("strict", ((20.0, 100.0), (10.0, 1_000.0), (25.0, 100.0)), 20.0, 55.0, grace_seconds=30.0),
        Shape("saturation", ((90.0, 1_000.0),), 45.0, 90.0, grace_seconds=5.0),
    )
}


def measure(place: Place, case: Case, shape: Shape) -> Row:
    """One contender under one load."""
    api = replace(ACCOUNT, burst_seconds=STRICT_SECONDS) if shape.name == "strict" else ACCOUNT
    with runs.stage(place, case.who, live=True, policy=moderator.instructions, api=api) as up:
        load_before = round(os.getloadavg()[0], 2)
        up.start_worker()
        runs.until_started(up)
        events = runs.backlog(110_000)[: int(sum(seconds * rate * 1.2 for seconds, rate in shape.stretches)) + 100]
        stream = (Arrival(f"r{number}", key, value, []) for number, (key, value) in enumerate(events))
        watch = up.watch()
        start, due, late = feed(runs.quick_producer(place), up.topic, stream, shape)
        up.until(lambda: up.reader.count() > len(due), shape.grace_seconds)
        cut = time.time()
        watch.close()
        seen: dict[str, float] = {}
        for result in up.reader.seen():
            seen.setdefault(result.event_id, result.visible)
        calls = list(up.simulator.calls())
        cores = {name: round(used / (cut - start), 2) for name, used in watch.between(start, cut).items()}
        return {
            "contender": case.who.name,
            "load": shape.name,
            "load_before": load_before,
            "cores_busy": cores,
            "sender_late_seconds": round(late, 3),
            **figures(shape, start, cut, due, seen),
            **account(calls, start + shape.first, min(cut, start + shape.last)),
        }


def figures(shape: Shape, start: float, cut: float, due: dict[str, float], seen: dict[str, float]) -> Row:
    """What the events saw."""
    begin, end = start + shape.first, start + shape.last
    measured = {name: moment for name, moment in due.items() if begin <= moment < end}
    found = waits(measured, seen, cut)
    done = sum(1 for name, moment in seen.items() if name in due and begin <= moment < min(end, cut))
    return {
        "sent": len(due),
        "answered": sum(name in seen for name in due),
        "events_per_second": round(done / (min(end, cut) - begin), 1),
        "p50": str(quantile(found, 0.5)),
        "p99": str(quantile(found, 0.99)),
    }


def account(calls: Sequence[Row], begin: float, end: float) -> Row:
    """What the account saw."""
    per_minute = taken(calls, begin, end)
    limit, used = binding(per_minute, GRANTED)
    statuses = Counter(call["status"] for call in calls)
    return {
        "calls": len(calls),
        "turned_away": statuses[429],
        "share_of_429": round(statuses[429] / max(1, len(calls)), 4),
        "binding": limit,
        "used": round(used, 4),
        "taken_per_minute": {name: round(amount) for name, amount in per_minute.items()},
    }


TITLES = {
    "low": "Low load: 5 events/s",
    "burst": "Tenfold burst: 100 events/s, for 10 s 1,000, then 100 again; measured from the burst's start on, 35 s",
    "strict": "The same burst, at an account that enforces its limits by five seconds instead of by the minute",
    "saturation": "Saturation: 1,000 events/s, three times what the account bears; measured from 45 s to 90 s",
}


def table(name: str, rows: Sequence[Row]) -> str:
    """As it stands in the documentation."""
    columns = (
        "contender",
        "of the binding limit",
        "which",
        "calls",
        "answered 429",
        "events/s",
        "p50",
        "p99",
        "without an answer at the end",
    )
    cells = (
        (
            row["contender"],
            f"{row['used']:.0%}",
            row["binding"].replace("_", " "),
            f"{row['calls']:,}",
            f"{row['turned_away']:,} ({row['share_of_429']:.1%})",
            f"{row['events_per_second']:,.0f}",
            row["p50"],
            row["p99"],
            f"{row['sent'] - row['answered']:,}",
        )
        for row in rows
    )
    return f"{TITLES[name]}\n\n{markdown(columns, cells)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SHAPES))
    parser.add_argument("--who", help="only contenders whose name contains this")
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    parser.add_argument("--tables", type=Path, nargs="+", help="measure nothing: print the tables of kept JSON")
    given = parser.parse_args()
    for kept_file in given.tables or ():
        found = json.loads(kept_file.read_text(encoding="utf-8"))
        print("\n".join(table(name, found[name]) for name in SHAPES if name in found))
    if given.tables:
        return
    place = Place()
    kept: dict[str, Any] = {"machine": place.machine(), "account": CLASS, "limits": GRANTED}
    print(", ".join(f"{name} {value}" for name, value in kept["machine"].items()), flush=True)
    try:
        for name in given.only or SHAPES:
            shape = SHAPES[name]
            rows = kept[name] = []
            for case in FEW if name != "saturation" else CASES:
                if not given.who or given.who in case.who.name:
                    rows.append(measure(place, case, shape))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            print(f"\n{table(name, rows)}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(kept, indent=2), encoding="utf-8")
    finally:
        place.close()


if __name__ == "__main__":
    main()
