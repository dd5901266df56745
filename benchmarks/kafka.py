"""Penstock on a real Kafka beside what people write instead: same broker, same simulated API, same events.

`python -m benchmarks.kafka [--only PART] [--scale 0.1] [--rounds 3] [--out FILE]`: a table for each part, then the JSON.

Throughput drains a backlog; latency is an open loop, from the intended moment of sending to a read-committed reader.
Runs are interleaved (A B C A B C) and the median counts. The ceiling is the careless rival. The machine is shared by
contender, simulator, broker and this process: what each takes is shown, so that a bottleneck elsewhere is seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import runs
from benchmarks.contenders import CARELESS, KEY, NAIVE, NONE, SEMAPHORE, Contender
from benchmarks.place import Place
from review_moderation import moderator

Row = dict[str, Any]


class Size(NamedTuple):
    """How much is run: `scale` times the events, so many interleaved rounds of throughput."""

    scale: float
    rounds: int


NAIVE_SECONDS = 15.0
BACKLOG = 1_000_000


def throughput(place: Place, size: Size) -> list[Row]:
    """One worker, 12 partitions. A tenth at either end is left out: more than the 30,000 events that a worker holds with `order="key"`."""
    count = int(320_000 * size.scale)
    rows = rounds(size.rounds, [NONE, KEY, CARELESS], lambda who: runs.drain(place, who, count))
    rows.append(row(SEMAPHORE, runs.drain(place, SEMAPHORE, max(2_000, count // 16))))
    rows.append(row(NAIVE, runs.drain(place, NAIVE, 2_000, most_seconds=NAIVE_SECONDS)))
    return show("One worker, 12 partitions, Zipf(1.1) keys", rows, DRAINED)


def workers(place: Place, size: Size) -> list[Row]:
    """More processes on the same cores."""
    count = int(160_000 * size.scale)
    cells = [(who, number) for number in (1, 2, 3, 4) for who in (NONE, KEY, CARELESS)]
    rows = [row(who, runs.drain(place, who, count, workers=n), workers=n) for who, n in cells]
    return show("1 to 4 workers, 12 partitions", rows, ("workers", *DRAINED))


def partitions(place: Place, size: Size) -> list[Row]:
    """One worker and fewer partitions."""
    count = int(120_000 * size.scale)
    cells = [(who, number) for number in (1, 3, 6, 12) for who in (NONE, KEY, CARELESS)]
    rows = [row(who, runs.drain(place, who, count, partitions=n), partitions=n) for who, n in cells]
    return show("One worker, 1 to 12 partitions", rows, ("partitions", *DRAINED))


def latency(place: Place, size: Size) -> list[Row]:
    """Events come when they come."""
    seconds = max(5.0, 12.0 * size.scale)
    cells = [(who, 100.0) for who in (NONE, KEY, SEMAPHORE, CARELESS)]
    cells += [(NONE, 2_000.0), (CARELESS, 2_000.0), (NAIVE, 2.0)]
    rows = [row(who, runs.open_loop(place, who, rate, seconds)) for who, rate in cells]
    for found in rows:
        found["api_p50_ms"], found["api_p99_ms"] = found["api"]["p50_ms"], found["api"]["p99_ms"]
    columns = ("per_second", "sent", "answered", "p50_ms", "p99_ms", "api_p50_ms", "api_p99_ms", "items_per_call")
    return show("Open loop, one worker: intended sending to visible, and what the API took of it", rows, columns)


def cost(place: Place, size: Size) -> list[Row]:
    """The prompt of the shipped moderator: what one event costs in the API's accounts."""
    policy, count = moderator.instructions, max(1_000, int(4_000 * size.scale))
    rows = [row(who, runs.drain(place, who, count, policy=policy)) for who in (NONE, CARELESS)]
    rows.append(row(SEMAPHORE, runs.drain(place, SEMAPHORE, count // 2, policy=policy)))
    for found in rows:
        found["of_one_a_call"] = round(found["usd_per_1000"] / max(1e-9, rows[-1]["usd_per_1000"]), 3)
    columns = ("events", "calls", "usd_per_1000", "of_one_a_call")
    return show(f"Cost with a prompt of {len(policy):,} characters of rules", rows, columns)


def kill(place: Place, size: Size) -> list[Row]:
    """kill -9 in the middle of a stream, another worker goes on."""
    cells = [(NONE, 3_000 * size.scale), (CARELESS, 3_000 * size.scale), (SEMAPHORE, 300 * size.scale), (NAIVE, 2.0)]
    rows = [row(who, runs.killed(place, who, rate)) for who, rate in cells]
    columns = ("per_second", "events", "calls_in_flight", "events_in_calls", "answered_unwritten", "in_flight")
    columns += ("gap_seconds", "lost", "doubled", "paid_for_nothing")
    return show("One kill -9 in the middle of a stream, just after a commit of offsets", rows, columns)


def memory(place: Place, size: Size) -> list[Row]:
    """A long backlog."""
    count = int(BACKLOG * size.scale)
    marks = (count // 50, count // 20, count // 10)
    found = row(NONE, runs.memory(place, NONE, count, marks))
    return show("Memory with a long backlog", [found], ("backlog", *(f"mb_after_{mark}" for mark in marks)))


def profile(place: Place, size: Size) -> list[Row]:
    """The event loop's thread, by cProfile with the thread's CPU clock. It makes Python functions look dearer than C."""
    found = runs.profiled(place, NONE, int(80_000 * size.scale))
    print(f"\nCPU of the event loop's thread under cProfile, {found['cpu_seconds']} s for {found['events']:,} events")
    for name, share in [*found["kinds"].items(), ("", 0), *found["top"]]:
        print(f"{share:7.1%}  {name}" if name else "")
    print(flush=True)
    return [row(NONE, found)]


PARTS: dict[str, Callable[[Place, Size], list[Row]]] = {
    "throughput": throughput,
    "workers": workers,
    "partitions": partitions,
    "latency": latency,
    "cost": cost,
    "kill": kill,
    "memory": memory,
    "profile": profile,
}
RATIOS = (
    (CARELESS, "events_per_second", "of_ceiling"),
    (CARELESS, "cpu_us", "cpu_of_ceiling"),
    (NONE, "events_per_second", "of_none"),
)
DRAINED = (
    "events_per_second",
    "of_ceiling",
    "of_none",
    "cpu_us",
    "cpu_of_ceiling",
    "simulator_us",
    "broker_us",
    "cores_contender",
    "cores_others",
    "peak_mb",
    "lost_or_doubled",
)


def row(who: Contender, figures: dict[str, Any], **cell: Any) -> Row:
    """Flat, with what the tables show; the whole stays for the JSON."""
    found = {"contender": who.name, **cell, **figures}
    cpu, cores = figures.get("cpu_us_per_event", {}), figures.get("cores_busy", {})
    for name in ("simulator", "broker"):
        found[f"{name}_us"] = cpu.get(name)
    found["cpu_us"] = cpu.get("contender")
    found["cores_contender"], found["cores_others"] = cores.get("contender"), cores.get("others")
    return found


def rounds(times: int, contenders: Sequence[Contender], run: Callable[[Contender], dict[str, Any]]) -> list[Row]:
    """A B C A B C …; of each the round with the median rate, and all rates beside it."""
    found: dict[Contender, list[Row]] = {who: [] for who in contenders}
    for _ in range(times):
        for who in contenders:
            found[who].append(row(who, run(who)))
    rows = []
    for measured in found.values():
        rates = [one["events_per_second"] for one in measured]
        chosen = next(one for one in measured if one["events_per_second"] == statistics.median_low(rates))
        lowest = min(one["cpu_us"] for one in measured if one["cpu_us"])
        rows.append({**chosen, "all_events_per_second": rates, "least_cpu_us": lowest})
    return rows


def show(title: str, rows: list[Row], columns: Sequence[str]) -> list[Row]:
    """Add what each is of the ceiling and of `none` measured beside it, and print."""
    cell = next((name for name in ("workers", "partitions") if name in rows[0]), "")
    for one in rows:
        beside = {other["contender"]: other for other in rows if other.get(cell) == one.get(cell)}
        for whose, name, ratio in RATIOS:
            whole = beside.get(whose.name, {}).get(name)
            if whole and one.get(name):
                one[ratio] = round(one[name] / whole, 2)
    print(f"\n{title}")
    widths = [max(len(name), *(len(_cell(one.get(name))) for one in rows)) for name in columns]
    print(f"{'':24}" + "  ".join(name.rjust(width) for name, width in zip(columns, widths, strict=True)))
    for one in rows:
        cells = (_cell(one.get(name)).rjust(width) for name, width in zip(columns, widths, strict=True))
        print(f"{one['contender']:24}" + "  ".join(cells))
    for one in rows:
        if "all_events_per_second" in one:
            every = ", ".join(_cell(rate) for rate in one["all_events_per_second"])
            print(f"  {one['contender']}: events/s of each round {every}; least CPU {one['least_cpu_us']} µs")
    print(flush=True)
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4f}" if value < 0.1 else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(PARTS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput runs, interleaved")
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = parser.parse_args()
    place = Place()
    figures: dict[str, Any] = {"machine": place.machine(), "scale": given.scale, "rounds": given.rounds}
    print(", ".join(f"{name} {value}" for name, value in figures["machine"].items()), flush=True)
    try:
        for name in given.only or PARTS:
            figures[name] = PARTS[name](place, Size(given.scale, given.rounds))
            if given.out:
                given.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    finally:
        place.close()


if __name__ == "__main__":
    main()
