"""No row lost or doubled: delivering processes are killed, the database goes away for a while, results keep coming."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from penstock.log.sqlite import SqliteLog
from penstock.store.options import DatabaseOptions
from penstock.store.schema import connect, upgrade
from penstock.store.tables import costs, dead_letters, verdicts
from penstock.task import Task
from sink_feed import TASK, Feeder, made_topics

RESULTS = 6_000
KILLS = 6
PARTITIONS = 4
PATIENCE_SECONDS = 120.0
MODULE = f"""
from pydantic import BaseModel
from penstock import Task
class Text(BaseModel):
    text: str
class Label(BaseModel):
    label: bool
labeler = Task({TASK.name!r}, reads={TASK.reads!r}, writes={TASK.writes!r}, dead_letters={TASK.dead_letters!r},
               input=Text, output=Label, instructions="Label.")
"""


class Deliverers:
    """Processes of `penstock deliver`, as a supervisor would keep them."""

    def __init__(self, directory: Path, url: str) -> None:
        (directory / "labels.py").write_text(MODULE)
        self._directory = directory
        self._command = [
            sys.executable, "-m", "penstock.cli", "deliver", "database", "--task", "labels:labeler", "--log", "sqlite:log.db",
            "-X", f"sinks.database.url={url}", "-X", "ops.port=off", "-X", "sinks.database.connect_timeout_seconds=1",
            "-X", "deliver.max_wait_seconds=2", "-X", "sqlite.session_timeout_seconds=3", "-X", "sqlite.heartbeat_seconds=0.3",
        ]  # fmt: skip
        self._running: list[subprocess.Popen[bytes]] = []
        self.output = (directory / "deliver.log").open("ab")

    def start(self) -> None:
        made = subprocess.Popen(self._command, cwd=self._directory, stdout=self.output, stderr=self.output)
        self._running.append(made)

    def kill_one(self) -> None:
        victim = self._running.pop(random.randrange(len(self._running)))
        assert victim.poll() is None, "it has ended by itself: " + (self._directory / "deliver.log").read_text()[-2000:]
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        self.start()

    def stop(self) -> None:
        for one in self._running:
            one.send_signal(signal.SIGTERM)
        codes = [one.wait(60) for one in self._running]
        self.output.close()
        # One that was started just now has no handler yet: it ends by the signal.
        assert set(codes) <= {0, -signal.SIGTERM}, (self._directory / "deliver.log").read_text()[-2000:]


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
    deliverers = Deliverers(tmp_path, url)
    for _ in range(2):
        deliverers.start()
    writing = asyncio.create_task(_write(log, TASK))
    for at in range(KILLS):
        await asyncio.sleep(random.uniform(2.0, 4.0))
        await asyncio.to_thread(deliverers.kill_one)
        if at == KILLS // 2:
            await asyncio.to_thread(go_away)
            await asyncio.sleep(outage_seconds)
            await asyncio.to_thread(come_back)
    paid = await writing
    await _all_committed(log)
    await asyncio.to_thread(deliverers.stop)
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


async def _all_committed(log: SqliteLog) -> None:
    """The groups stand at the end of every partition."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            done = await log.committed("sink.database", TASK.writes)
            bounds = await log.bounds(TASK.writes)
            if all(p in done and done[p].base == kept.high for p, kept in bounds.items()):
                return
            await asyncio.sleep(0.2)
