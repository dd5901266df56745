"""Law 6 with real processes: four workers on Kafka share one account through nothing but the replies they read."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kafka_broker import start_broker
from penstock.log.kafka import KafkaLog
from penstock.log.topics import topic_specs
from penstock.record import NewRecord
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import spawn

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.soak]

OUTPUT_PER_MINUTE = 100_000
WARM_SECONDS, MEASURED_SECONDS = 45.0, 90.0
TASK = """
from typing import Literal
from pydantic import BaseModel
from penstock import Route, Task

class Review(BaseModel):
    review_id: str
    text: str

class Verdict(BaseModel):
    decision: Literal["publish", "hold", "reject"]

task = Task("shared", reads="shared-events", input=Review, output=Verdict, instructions="Decide.", route=Route("haiku"),
            start_from="earliest", event_id="review_id")
"""


@pytest.fixture
def broker():
    """A broker of this test's own: its topics have fixed names."""
    broker = start_broker()
    yield broker
    broker.stop()


@pytest.fixture
def account():
    """Calls of a second and more, an account whose output binds."""
    with spawn(
        SimulatorOptions(latency_ms=1_000, per_item_ms=8, jitter=0.15, output_tokens_per_minute=OUTPUT_PER_MINUTE)
    ) as process:
        yield process


async def fill(bootstrap: str, events: int) -> None:
    """Keys are skewed: some partitions have several times the events of others."""
    log = KafkaLog(bootstrap)
    scope: dict = {}
    exec(TASK, scope)
    try:
        await log.create_topics(topic_specs(scope["task"], 10))
        for first in range(0, events, 2_000):
            await log.append(
                [
                    NewRecord(
                        "shared-events",
                        str(int((at % 97) ** 0.5)).encode(),
                        json.dumps({"review_id": f"r{at}", "text": f"Kettle {at} boils fast."}).encode(),
                    )
                    for at in range(first, first + 2_000)
                ]
            )
    finally:
        await log.close()


def start(command: list[str], directory: Path, number: int) -> subprocess.Popen[bytes]:
    """One worker, its words kept in a file."""
    with (directory / f"worker{number}.log").open("wb") as out:
        return subprocess.Popen(command, cwd=directory, stdout=out, stderr=out)


def last_words(directory: Path) -> str:
    """The end of what every worker wrote."""
    return "\n".join(
        f"{file.name}: {file.read_text(errors='replace')[-2_000:]}" for file in sorted(directory.glob("*.log"))
    )


def test_four_processes_use_the_whole_account_and_meet_no_429s(tmp_path: Path, broker, account):
    """With a backlog they use 95 % of the binding limit, and fewer than one call in two hundred is turned away."""
    (tmp_path / "shared.py").write_text(TASK)
    asyncio.run(fill(broker.bootstrap, 40_000))
    settings = [f"claude.base_url={account.url}", "claude.api_key=offline", "ops.port=off"]
    command = [
        sys.executable,
        "-m",
        "penstock.cli",
        "run",
        "shared.py:task",
        "--yes",
        "--log",
        f"kafka:{broker.bootstrap}",
    ]
    command += [part for setting in settings for part in ("-X", setting)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        workers += [start(command, tmp_path, number) for number in range(4)]
        deadline = time.monotonic() + 120
        while account.accounts()["calls"] == 0 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert account.accounts()["calls"], f"waited 120 s for the first call\n{last_words(tmp_path)}"
        begin = time.time() + WARM_SECONDS
        time.sleep(WARM_SECONDS + MEASURED_SECONDS + 5.0)
        assert all(worker.poll() is None for worker in workers), last_words(tmp_path)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
    calls = list(account.calls())
    measured = [call for call in calls if begin * 1000 <= call["ended_ms"] < (begin + MEASURED_SECONDS) * 1000]
    used = sum(call["output_tokens"] for call in measured) / (OUTPUT_PER_MINUTE / 60 * MEASURED_SECONDS)
    refused = sum(call["status"] == 429 for call in calls) / len(calls)
    print(
        f"\n4 processes on Kafka: {used:.1%} of the binding limit used, {refused:.2%} of {len(calls)} calls answered 429"
    )
    assert used >= 0.95
    assert refused < 0.005
