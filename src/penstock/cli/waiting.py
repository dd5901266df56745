"""Shows why partitions wait, a row for those that wait for the same.

asking → [waiting] → status
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.cli.console import out, table, tell
from penstock.ops.asking import alike

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ops.asking import Asked, Waiting


def show(waits: Sequence[Waiting], workers: Sequence[Asked]) -> None:
    """A row for partitions that wait for the same."""
    for worker in workers:
        if worker.error:
            tell(f"worker {worker.url} did not answer: {worker.error}")
    found = alike(waits)
    if not found:
        return
    from rich.markup import escape

    columns = ("for", "in flight", "lag")
    shown = table("group", "topic", "partitions", "waits for", "for", "goes on", "in flight", "lag", right=columns)
    now = time.time()
    for one in found:
        lag = "" if one.lag is None else f"{one.lag:,}"
        waits_for = escape(one.told)
        shown.add_row(
            one.group, one.topic, one.partitions, waits_for, one.lasts(now), one.goes_on(now), f"{one.in_flight:,}", lag
        )
    out().print(shown)
