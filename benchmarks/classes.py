"""For who chooses an account: what the shipped moderator gets through at the limits of each usage class, how fast, for how much.

`python -m benchmarks.classes [--only CLASS] [--out FILE]`: the table as Markdown, then what stands behind it.

Three runs a class over Kafka, one worker, its whole route (Haiku, Sonnet, Opus), the account's limits as the simulator
enforces them for each model. *Lasting* is computed from what an event was measured to take: an account starts with a full
bucket, so that what is measured in its first minutes is more than what lasts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import runs
from benchmarks.arrivals import LIMITS, Shape, feed, markdown, quantile, taken, waits
from benchmarks.contenders import Contender
from benchmarks.moderation import reviews
from benchmarks.place import Place
from penstock.simulator.limiter import CLASSES
from penstock.simulator.options import SimulatorOptions

Row = dict[str, Any]
WHO = Contender("penstock, moderator", order="moderator", is_limited=True, tasks="benchmarks.moderation")
MONTHLY_USD = {"start": 500, "build": 1_000, "scale": 200_000}
WARM_SECONDS, MEASURED_SECONDS = 25.0, 40.0
MOST_PER_SECOND = {"start": 400.0, "build": 1_000.0, "scale": 2_000.0}
"""More than the class bears: the backlog of the first run must outlast it."""
FULL = 0.95
"""A limit used so far binds."""
BUSY_CORES = 1.7
BURST_SECONDS = 5.0
WARM_EVENTS = 20


class Taking(NamedTuple):
    """What an event takes of one limit, all models counted, where the limit is one model's."""

    model: str
    limit: str
    an_event: float
    granted: float
    """A minute."""
    used: float
    """In the measured span, as a part of it."""

    @property
    def events_per_second(self) -> float:
        """What it bears for ever."""
        return self.granted / 60 / self.an_event

    def __str__(self) -> str:
        return f"{self.limit.replace('_', ' ')} of {self.model.split('-')[1]}"


def sustained(place: Place, name: str) -> Row:
    """A backlog is drained for more than a minute: what an event takes of each limit, what it costs, how fast it goes."""
    with runs.stage(place, WHO, live=False, api=_account(name)) as up:
        events = reviews(int(MOST_PER_SECOND[name] * (WARM_SECONDS + MEASURED_SECONDS + 15)))
        produced = [(event.key, event.value, event.headers) for event in events]
        _produce(place, up.topic, produced)
        up.start_worker()
        runs_from = time.time() + 60.0
        up.until(lambda: up.reader.count() > 0, 60.0)
        begin = min(time.time(), runs_from) + WARM_SECONDS
        watch = up.watch()
        time.sleep(max(0.0, begin + MEASURED_SECONDS - time.time()))
        watch.close()
        end = begin + MEASURED_SECONDS
        done = sum(1 for result in up.reader.seen() if begin <= result.appended < end)
        calls = list(up.simulator.calls())
        takings = takings_of(name, calls, begin, end, done)
        first, busy = min(takings, key=lambda one: one.events_per_second), watch.between(begin, end)
        inside = [call for call in calls if begin <= call["ended_ms"] / 1000 < end]
        return {
            "measured_per_second": done / MEASURED_SECONDS,
            "lasting_per_second": first.events_per_second,
            "binding": str(first),
            "binding_used": first.used,
            "takings": [one._asdict() for one in takings],
            "cores": {who: round(used / MEASURED_SECONDS, 2) for who, used in busy.items()},
            "share_of_429": sum(call["status"] == 429 for call in calls) / len(calls),
            "usd_per_million": sum(call["nanousd"] for call in inside) / max(1, done) / 1e3,
            "backlog_left": len(produced) - up.reader.count(),
        }


def takings_of(name: str, calls: Sequence[Mapping[str, Any]], begin: float, end: float, done: int) -> list[Taking]:
    """Of every model that was asked, and each of its limits."""
    rates = CLASSES[name][0]
    granted = dict(zip(LIMITS, (rates.requests, rates.input_tokens, rates.output_tokens), strict=True))
    found = []
    for model in sorted({call["model"] for call in calls if call["model"]}):
        for limit, amount in taken(calls, begin, end, model).items():
            an_event = amount * (end - begin) / 60 / max(1, done)
            if an_event:
                found.append(Taking(model, limit, an_event, granted[limit], amount / granted[limit]))
    return found


def latency(place: Place, name: str, shape: Shape) -> Row:
    """An open loop: from the moment an event was produced until its result is committed and can be read."""
    with runs.stage(place, WHO, live=True, api=_account(name)) as up:
        up.start_worker()
        load_before = os.getloadavg()[0]
        _warm(place, up)
        most = int(sum(seconds * rate * 1.1 for seconds, rate in shape.stretches)) + 200
        events = list(reviews(most))  # made before: what takes long here would be late there
        watch = up.watch()
        start, due, late = feed(runs.quick_producer(place), up.topic, events, shape)
        up.until(lambda: up.reader.count() >= WARM_EVENTS + len(due), shape.grace_seconds)
        cut = time.time()
        watch.close()
        seen: dict[str, float] = {}
        for result in up.reader.seen():
            seen.setdefault(result.event_id, result.visible)
        measured = {one: at for one, at in due.items() if start + shape.first <= at < start + shape.last}
        found = waits(measured, seen, cut)
        calls = list(up.simulator.calls())
        return {
            "sent": len(due),
            "answered": sum(one in seen for one in due),
            "p50": str(quantile(found, 0.5)),
            "p99": str(quantile(found, 0.99)),
            "share_of_429": sum(call["status"] == 429 for call in calls) / len(calls),
            "cores": {who: round(used / (cut - start), 2) for who, used in watch.between(start, cut).items()},
            "load_before": round(load_before, 2),
            "sender_late_seconds": round(late, 3),
        }


def _warm(place: Place, up: runs.Stage) -> None:
    """The worker has joined and answered; its events stand in no measurement."""
    producer = runs.quick_producer(place)
    for event in reviews(WARM_EVENTS, first_day=1_000):
        producer.produce(up.topic, event.value, event.key, headers=event.headers)
    producer.flush(10)
    up.until(lambda: up.reader.count() >= WARM_EVENTS, 30.0)


def _account(name: str) -> SimulatorOptions:
    return SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15, usage_tier=name)


def _produce(place: Place, topic: str, events: Sequence[tuple[Any, ...]]) -> None:
    producer = runs.quick_producer(place)
    for number, (key, value, headers) in enumerate(events):
        producer.produce(topic, value, key, headers=headers)
        if number % 1_000 == 0:
            producer.flush(30)
    producer.flush(60)


def of_class(place: Place, name: str) -> Row:
    """Its three runs."""
    found: Row = {"class": name, "load_before": round(os.getloadavg()[0], 2), **sustained(place, name)}
    half = min(found["measured_per_second"], found["lasting_per_second"]) / 2
    found["half_per_second"] = half
    found["half"] = latency(place, name, Shape("half", ((30.0, half),), 5.0, 30.0))
    stretches = ((15.0, half), (BURST_SECONDS, 10 * half), (35.0, half))
    found["burst"] = latency(place, name, Shape("burst", stretches, 15.0, 55.0, grace_seconds=20.0))
    return found


def binds(row: Row) -> str:
    """The account's limit, or the machine where that one is not reached."""
    busy = sum(row["cores"].values())
    if row["binding_used"] < FULL:
        what = f"the machine ({busy:.1f} of {os.cpu_count()} cores busy)" if busy >= BUSY_CORES else "not the account"
        return f"{what}; {row['binding']} used {row['binding_used']:.0%}"
    return f"{row['binding']}"


def short(rows: Sequence[Row]) -> str:
    """Rows of the figures in README.md."""
    return "\n".join(
        f"| the shipped moderator at the limits of an account of class {row['class'].title()} ({binds(row)} bind) "
        f"| {row['lasting_per_second']:,.0f} events/s that last, US$ {row['usd_per_million']:,.0f} a million; "
        f"p50, p99 {row['half']['p50']}, {row['half']['p99']} at half load, "
        f"{row['burst']['p50']}, {row['burst']['p99']} after a tenfold burst | `make bench ARGS=classes` |"
        for row in rows
    )


def table(rows: Sequence[Row]) -> str:
    """As docs/reference/benchmarks.md has it."""
    columns = (
        "class", "events/s that last", "measured (of the limit)", "what binds", "p50, p99 at half load",
        "p50, p99 after a tenfold burst", "429", "US$ per million", "its monthly cap pays for",
    )  # fmt: skip
    cells = (
        (
            row["class"].title(),
            f"{row['lasting_per_second']:,.0f}",
            f"{row['measured_per_second']:,.0f} ({row['binding_used']:.0%})",
            binds(row),
            f"{row['half']['p50']}, {row['half']['p99']}",
            f"{row['burst']['p50']}, {row['burst']['p99']}",
            f"{max(row['share_of_429'], row['half']['share_of_429'], row['burst']['share_of_429']):.1%}",
            f"{row['usd_per_million']:,.0f}",
            f"{MONTHLY_USD[row['class']] / row['usd_per_million']:,.1f} million",
        )
        for row in rows
    )
    return markdown(columns, cells)


def behind(row: Row) -> str:
    """What an event takes of each limit, the scarcest first."""
    takings = sorted((Taking(**one) for one in row["takings"]), key=lambda one: one.events_per_second)
    cells = (
        (str(one), f"{one.an_event:,.3f}", f"{one.granted:,.0f}", f"{one.used:.0%}", f"{one.events_per_second:,.0f}")
        for one in takings
    )
    return markdown(("limit", "an event takes", "granted a minute", "used", "bears events/s"), cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(MONTHLY_USD))
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    parser.add_argument("--tables", type=Path, help="measure nothing: print the tables of a kept JSON")
    given = parser.parse_args()
    if given.tables:
        tell(json.loads(given.tables.read_text(encoding="utf-8"))["classes"])
        return
    place = Place()
    kept: Row = {"machine": place.machine(), "classes": []}
    print(", ".join(f"{name} {value}" for name, value in kept["machine"].items()), flush=True)
    try:
        for name in given.only or MONTHLY_USD:
            kept["classes"].append(of_class(place, name))
            print(json.dumps(kept["classes"][-1]), file=sys.stderr, flush=True)
            if given.out:
                given.out.write_text(json.dumps(kept, indent=2), encoding="utf-8")
    finally:
        place.close()
    tell(kept["classes"])


def tell(rows: Sequence[Row]) -> None:
    """For README.md, then for docs/reference/benchmarks.md, then what stands behind each row."""
    print(f"\n{short(rows)}\n\n{table(rows)}")
    for row in rows:
        print(f"\n{row['class'].title()}\n\n{behind(row)}")


if __name__ == "__main__":
    main()
