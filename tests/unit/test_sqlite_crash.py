"""The embedded log under kill -9, SIGSTOP and a disk that fills: nothing lost, nothing twice, nothing stale."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from contract.log_fixtures import all_records, eventually
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("sqlite_worker.py")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path):
    log = SqliteLog(path, options=SqliteOptions(lock_wait_seconds=20))
    await log.create_topics([TopicSpec("events", 4), TopicSpec("results", 3)])
    yield log
    await log.close()


@pytest.fixture
def start(path):
    started = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), str(path), "g", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def events(first: int, count: int) -> list[NewRecord]:
    return [NewRecord("events", b"key-%d" % (n % 50), b"%d" % n) for n in range(first, first + count)]


async def line(process: subprocess.Popen[str], *starts: str) -> str:
    """The next line of a worker that begins with one of these."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while True:
            said = await loop.run_in_executor(None, process.stdout.readline)
            assert said, "the worker ended"
            if said.startswith(starts):
                return said.strip()


async def test_kill_9_loses_and_doubles_nothing(log, path, start) -> None:
    """Workers are killed at random moments of their commit loops, twelve times: every event has exactly one result."""
    moments = random.Random(20)
    made, is_over = 0, asyncio.Event()

    async def produce() -> None:
        nonlocal made
        while not is_over.is_set():
            await log.append(events(made, 30))
            made += 30
            await asyncio.sleep(0.03)

    producing = asyncio.create_task(produce())
    workers = [start(), start()]
    for kill in range(12):
        victim = workers[kill % 2]
        await line(victim, "committed")
        await asyncio.sleep(moments.uniform(0, 0.15))
        victim.kill()
        victim.communicate()
        workers[kill % 2] = start()
    is_over.set()
    await producing
    total = made

    async def all_answered() -> bool:
        for worker in workers:
            assert worker.poll() is None, "a worker ended by itself"
        return len(await all_records(log, "results")) >= total

    await eventually(all_answered, "every event has a result")
    assert sorted(int(r.value) for r in await all_records(log, "results")) == list(range(total))
    committed = await log.committed("g", "events")
    assert sum(done.base + done.count_above() for done in committed.values()) == total
    hand = sqlite3.connect(path)
    assert hand.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    hand.close()


async def test_a_stopped_worker_cannot_commit_when_it_wakes(log, start) -> None:
    """SIGSTOP, take-over, SIGCONT: the sleeper's commit is refused whole and its listener hears `lost`."""
    await log.append(events(0, 30))
    sleeper = start("hold")
    assert await line(sleeper, "read") == "read 30"
    os.kill(sleeper.pid, signal.SIGSTOP)
    start()

    async def is_taken_over() -> bool:
        return len(await all_records(log, "results")) == 30

    await eventually(is_taken_over, "the other one answered all")
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.stdin.write("go on\n")
    sleeper.stdin.flush()
    said = {(await line(sleeper, "refused", "lost")).split()[0] for _ in range(2)}
    assert said == {"refused", "lost"}
    assert len(await all_records(log, "results")) == 30
    await log.append(events(30, 60))

    async def goes_on() -> bool:
        return len(await all_records(log, "results")) >= 60

    sleeper.stdin.write("go on\n" * 20)
    sleeper.stdin.flush()
    await eventually(goes_on, "the group works on")


async def test_a_disk_that_fills_is_survived(path) -> None:
    """Where the system refuses to let a file grow, appends are `LogUnavailable`; what was acknowledged is there afterwards."""
    script = """
        import asyncio, resource, sys
        from penstock.errors import LogUnavailable
        from penstock.log.base import TopicSpec
        from penstock.log.sqlite import SqliteLog
        from penstock.record import NewRecord

        async def main(path):
            log = SqliteLog(path)
            await log.create_topics([TopicSpec("events", 2)])
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, -1))
            written = 0
            try:
                while written < 10_000:
                    await log.append([NewRecord("events", b"k%d" % written, b"x" * 2_000) for _ in range(10)])
                    written += 10
            except LogUnavailable as error:
                print(written, error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            await log.append([NewRecord("events", b"k", b"afterwards")])
            await log.close()

        asyncio.run(main(sys.argv[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    written = int(ended.stdout.split()[0])
    assert 100 < written < 10_000
    log = SqliteLog(path)
    found = await all_records(log, "events")
    assert len(found) == written + 1
    await log.close()
