"""An open loop: events come when they come. How they come, and what can be said of a run that is cut off.

[arrivals] → flow, classes
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import Producer

LIMITS = ("requests", "input_tokens", "output_tokens")
Headers = list[tuple[str, bytes | None]]


class Arrival(NamedTuple):
    """An event and what it is called in results."""

    name: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class Shape:
    """How events come: stretches of so many seconds with so many a second; what is measured, in seconds from the start."""

    name: str
    stretches: tuple[tuple[float, float], ...]
    first: float
    last: float
    grace_seconds: float = 15.0
    """After the last event, for what still waits."""

    def moments(self, seed: int = 7) -> Iterator[float]:
        """Poisson arrivals, in seconds from the start: the same for every contender."""
        rng, begin = random.Random(seed), 0.0
        for seconds, per_second in self.stretches:
            at = begin
            while (at := at + rng.expovariate(per_second)) < begin + seconds:
                yield at
            begin += seconds


def feed(
    producer: Producer, topic: str, events: Iterable[Arrival], shape: Shape
) -> tuple[float, dict[str, float], float]:
    """Send them; the start, when each was to be sent (also its timestamp), and how late the latest was."""
    start, due, late = time.time(), {}, 0.0
    for at, event in zip(shape.moments(), events, strict=False):
        moment = start + at
        wait = moment - time.time()
        if wait > 0:
            producer.poll(0)
            time.sleep(wait)
        late = max(late, -wait)
        due[event.name] = moment
        producer.produce(topic, event.value, event.key, timestamp=int(moment * 1000), headers=event.headers)
    producer.flush(30)
    return start, due, late


class Quantile(NamedTuple):
    """Milliseconds, or at least so many: events without an answer count with the time that they have waited."""

    ms: int
    is_at_least: bool

    def __str__(self) -> str:
        sign = "> " if self.is_at_least else ""
        return f"{sign}{self.ms / 1000:,.0f} s" if self.ms >= 10_000 else f"{sign}{self.ms:,} ms"


def waits(due: Mapping[str, float], seen: Mapping[str, float], cut: float) -> list[tuple[float, bool]]:
    """Seconds of each event, and whether it has no answer yet; in order."""
    return sorted((seen.get(name, cut) - moment, name not in seen) for name, moment in due.items())


def quantile(found: Sequence[tuple[float, bool]], q: float) -> Quantile:
    """Of `waits`; a lower bound where what has no answer may stand before it."""
    at = min(len(found) - 1, int(len(found) * q))
    return Quantile(round(found[at][0] * 1000), any(is_open for _, is_open in found[: at + 1]))


def taken(calls: Iterable[Mapping[str, Any]], begin: float, end: float, model: str = "") -> dict[str, float]:
    """What answered calls of a span took of each limit, per minute."""
    found = dict.fromkeys(LIMITS, 0.0)
    for call in calls:
        if call["status"] == 200 and begin <= call["ended_ms"] / 1000 < end and model in ("", call["model"]):
            found["requests"] += 1
            found["input_tokens"] += call["input_tokens"] + call["cache_write_tokens"]
            found["output_tokens"] += call["output_tokens"]
    return {name: amount * 60 / (end - begin) for name, amount in found.items()}


def binding(taken_per_minute: Mapping[str, float], limits: Mapping[str, float]) -> tuple[str, float]:
    """The limit that was used most, and how much of it."""
    return max(((name, taken_per_minute[name] / limits[name]) for name in LIMITS), key=lambda one: one[1])


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """As the documentation has it."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])
