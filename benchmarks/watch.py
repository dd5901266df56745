"""What an outsider sees of a run: results as a read-committed reader gets them, and the CPU of every process.

Kafka, processes → [watch] → runs
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, TopicPartition

SAMPLE_SECONDS = 0.2
READ = 5_000


class Seen(NamedTuple):
    """A result."""

    event_id: str
    appended: float
    """Seconds of the broker's clock."""
    visible: float
    """When the reader had it (`time.time()`)."""


class ResultsReader:
    """Reads a results topic from its start on a thread of its own; `live` notes the moment of each record."""

    def __init__(self, client: Mapping[str, Any], topic: str, partitions: int, *, live: bool = False) -> None:
        self._consumer = Consumer(
            {
                **client,
                "group.id": "bench-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self._raw: list[tuple[bytes, int, float]] = []
        self._live = live
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def count(self) -> int:
        """Results until now."""
        return len(self._raw)

    def seen(self) -> list[Seen]:
        """All results until now."""
        return [Seen(orjson.loads(v)["event_id"], ms / 1000, visible) for v, ms, visible in list(self._raw)]

    def distinct(self) -> int:
        """Events with a result until now."""
        return len({seen.event_id for seen in self.seen()})

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._ends.is_set():
            one = [self._consumer.poll(0.2)] if self._live else self._consumer.consume(READ, SAMPLE_SECONDS)
            now = time.time()
            self._raw += [(m.value(), m.timestamp()[1], now) for m in one if m is not None and not m.error()]


class CpuWatch:
    """Samples the CPU seconds of named processes, so that any stretch of a run can be billed later."""

    def __init__(self, clocks: Mapping[str, Callable[[], float]], memory_mb: Callable[[], float]) -> None:
        self._clocks, self._memory_mb = clocks, memory_mb
        self._samples: list[tuple[float, list[float]]] = []
        self.peak_mb = 0.0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def between(self, start: float, end: float) -> dict[str, float]:
        """CPU seconds of each process between two moments of `time.time()`."""
        first, last = self._at(start), self._at(end)
        return {name: after - before for name, before, after in zip(self._clocks, first, last, strict=True)}

    def close(self) -> None:
        self._ends.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ends.wait(SAMPLE_SECONDS):
            self._samples.append((time.time(), [clock() for clock in self._clocks.values()]))
            self.peak_mb = max(self.peak_mb, self._memory_mb())

    def _at(self, moment: float) -> list[float]:
        before, after = self._samples[0], self._samples[-1]
        for sample in self._samples:
            if sample[0] <= moment:
                before = sample
            else:
                after = sample
                break
        share = min(1.0, max(0.0, (moment - before[0]) / (after[0] - before[0]))) if after[0] > before[0] else 0.0
        return [b + share * (a - b) for b, a in zip(before[1], after[1], strict=True)]


def quantile(numbers: list[float], q: float) -> float:
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]


def spread(numbers: list[float]) -> dict[str, Any]:
    """Milliseconds: the median and the slow end."""
    if not numbers:
        return {"p50_ms": None, "p99_ms": None}
    return {"p50_ms": round(quantile(numbers, 0.5)), "p99_ms": round(quantile(numbers, 0.99))}
