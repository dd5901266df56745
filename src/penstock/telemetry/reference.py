"""The metrics page of the documentation, made of the declarations.

metrics → [reference] → docs/reference/metrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from penstock.telemetry.metrics import ALL, Metric

HEAD = """\
# Metrics

<!-- Made by `python -m penstock.telemetry.reference`; a test compares. Change `telemetry/metrics.py`, then make it again. -->

`penstock run` and `penstock deliver` serve them at `/metrics` of its [ops port](settings.md), in Prometheus' text format. How to use them:
[monitor](../how-to/monitor.md).

Labels are bounded: there is never an event or a key in one, a partition only in `penstock_partition_waiting_seconds`. `task`, `tier` and `model` are the names that the
task and its route use, models as the API reports them. Numbers are those of one worker: sum over workers for the fleet's,
except for ages, where the largest counts. `process_*` and `python_*` come from the client library.

"""

_COLUMNS = "| metric | kind | labels | what it tells |\n|---|---|---|---|\n"


def metrics_page(metrics: Iterable[Metric] = ALL) -> str:
    """The whole page."""
    return HEAD + _COLUMNS + "".join(map(_row, metrics))


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{name}`" for name in metric.labels) or "-"
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
