"""No row lost or doubled: delivering processes are killed, the database goes away for a while, results keep coming."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from deliverers import Deliverers
from penstock.log.sqlite import SqliteLog
from penstock.store.options import DatabaseOptions
from penstock.store.schema import connect, upgrade
from penstock.store.tables import costs, dead_letters, verdicts
from penstock.task import Task
from sink_feed import TASK, Feeder, made_topics

RESULTS = 6_000
KILLS = 6
PARTITIONS = 4
PATIENCE_SECONDS = 240.0


def deliver_into(url: str) -> list[str]:
    """The arguments of processes that write to this database."""
    settings = {
        "sinks.database.url": url, "sinks.database.connect_timeout_seconds": 1, "ops.port": "off",
        "deliver.max_wait_seconds": 2, "sqlite.session_timeout_seconds": 3, "sqlite.heartbeat_seconds": 0.3,
    }  # fmt: skip
    given = [part for name, value in settings.items() for part in ("-X", f"{name}={value}")]
    return ["database", "--task", "labels:labeler", "--log", "sqlite:log.db", *given]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Its address, how it goes away and how it comes back."""
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        yield server.make(), server.stop, server.start
        return
    file = tmp_path / "store.db"
    other: list[sqlite3.Connection] = []

    def go_away() -> None:
        other.append(sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False))
        other[0].execute("BEGIN EXCLUSIVE")

    yield f"sqlite:{file}", go_away, lambda: other.pop().close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "outage_seconds", [pytest.param(12.0, id="short"), pytest.param(60.0, id="a-minute", marks=pytest.mark.soak)]
)
async def test_no_row_is_lost_or_doubled(
    database: tuple[str, Callable[[], Any], Callable[[], Any]], tmp_path: Path, outage_seconds: float
) -> None:
    """Kills and an outage in the middle: every result is one row, every cost stands once, nothing became a letter."""
    url, go_away, come_back = database
    options = DatabaseOptions(url=url)
    engine = connect(options)
    upgrade(engine)
    engine.dispose()
    log = SqliteLog(tmp_path / "log.db")
    await made_topics(log, partitions=PARTITIONS)
    deliverers = Deliverers(tmp_path, *deliver_into(url))
    is_away = False
    try:
        for _ in range(2):
            deliverers.start()
        writing = asyncio.create_task(_write(log, TASK))
        for at in range(KILLS):
            await asyncio.sleep(random.uniform(2.0, 4.0))
            await asyncio.to_thread(deliverers.kill_one)
            if at == KILLS // 2:
                is_away = True
                await asyncio.to_thread(go_away)
                await asyncio.sleep(outage_seconds)
                await asyncio.to_thread(come_back)
                is_away = False
        paid = await writing
        await _all_committed(log, deliverers)
        codes = await asyncio.to_thread(deliverers.stop)
    finally:
        deliverers.close()
        if is_away:  # other tests want it too
            come_back()
    # One that was started just now has no handler yet: it ends by the signal.
    assert set(codes) <= {0, -signal.SIGTERM}, deliverers.told()
    await log.close()
    engine = connect(options)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(verdicts)).scalar() == RESULTS
        count, sum_ = connection.execute(select(func.count(), func.sum(costs.c.nanousd))).one()
        assert (count, int(sum_)) == (RESULTS, paid)
        assert connection.execute(select(func.count()).select_from(dead_letters)).scalar() == 0
    engine.dispose()


async def _write(log: SqliteLog, task: Task[Any, Any]) -> int:
    feed, paid = Feeder(task), 0
    for first in range(0, RESULTS, 100):
        records = [feed.result(str(first + n)) for n in range(100)]
        await log.append(records)
        paid += 70 * len(records)
        await asyncio.sleep(0.4)
    return paid


async def _all_committed(log: SqliteLog, deliverers: Deliverers) -> None:
    """The groups stand at the end of every partition."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = await log.committed("sink.database", TASK.writes)
        bounds = await log.bounds(TASK.writes)
        if all(p in done and done[p].base == kept.high for p, kept in bounds.items()):
            return
        assert time.monotonic() < deadline, f"delivered up to {done} of {bounds}:\n{deliverers.told()}"
        await asyncio.sleep(0.2)
