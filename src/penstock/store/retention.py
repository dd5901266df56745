"""Deletes what is older than it shall be kept, a bounded number of rows at a time.

sinks/database → [retention] → writing → tables
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from penstock.store.tables import costs, dead_letters, decisions, erasures, verdicts
from penstock.store.writing import prune

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from penstock.store.options import DatabaseOptions

ERASURES_KEPT_DAYS = 400.0
"""Longer than topics keep the results that they hold back."""
REST_SECONDS = 0.05
"""Between two batches, so that who writes gets his turn."""


def prune_all(engine: Engine, options: DatabaseOptions, is_stopping: Callable[[], bool]) -> dict[str, int]:
    """How many rows of each table went."""
    kept = (
        (verdicts, "committed_at", options.keep_days),
        (decisions, "decided_at", options.keep_days),
        (dead_letters, "committed_at", options.keep_letters_days),
        (costs, "committed_at", options.keep_costs_days),
        (erasures, "committed_at", max(ERASURES_KEPT_DAYS, options.keep_days or 0.0)),
    )
    gone: dict[str, int] = {}
    for table, column, days in kept:
        if days is None:
            continue
        before = datetime.now(UTC) - timedelta(days=days)
        while not is_stopping():
            count = prune(engine, table, column, before, options.prune_batch_rows)
            gone[table.name] = gone.get(table.name, 0) + count
            if count < options.prune_batch_rows:
                break
            time.sleep(REST_SECONDS)
    return gone
