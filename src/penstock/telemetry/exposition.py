"""Declared metrics and their samples to the text that Prometheus reads.

counts, readings → [exposition] → /metrics

Nothing is registered while the engine works: a scrape asks every source for its samples. `prometheus_client` is imported
only where a page is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from penstock.telemetry.counts import Histogram
from penstock.telemetry.metrics import Metric
from penstock.telemetry.sample import Source

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry


class Exposition:
    """The page of `/metrics`: samples of all sources, and those of the process."""

    def __init__(self, sources: Iterable[Source]) -> None:
        from prometheus_client import GCCollector, PlatformCollector, ProcessCollector  # noqa: PLC0415 - for who serves
        from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415

        self._sources = tuple(sources)
        self._registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """The text and its content type, in the format that the asker understands."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Any]:
        """What `prometheus_client` asks for: families with their samples."""
        families: dict[str, Any] = {}
        for source in self._sources:
            for metric, labels, value in source():
                family = families.get(metric.name)
                if family is None:
                    family = families[metric.name] = _family(metric)
                if isinstance(value, Histogram):
                    family.add_metric(labels, _buckets(value), value.sum)
                else:
                    family.add_metric(labels, value)
        yield from families.values()


def _family(metric: Metric) -> Any:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if metric.kind == "counter":
        return CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    made = HistogramMetricFamily if metric.kind == "histogram" else GaugeMetricFamily
    return made(metric.name, metric.help, labels=metric.labels)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    names = (*map(str, histogram.bounds), "+Inf")
    return list(zip(names, map(float, accumulate(histogram.counts)), strict=True))
