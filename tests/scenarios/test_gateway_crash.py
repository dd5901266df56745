"""The gateway is killed while events are posted: every event that was accepted is in the log, and repeats double nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

import kafka_broker
from contract.log_fixtures import all_records, unique
from fakes import until
from gateway_calls import order, order_task
from penstock.log.topics import topic_specs
from penstock.settings import load_settings
from penstock.wiring import open_log

pytestmark = pytest.mark.slow
KILLS = 6
SENDERS = 4
SCRIPT = Path(__file__).parents[1] / "gateway_process.py"


class Shop:
    """Sends batches to whichever gateway lives, each until it is accepted, with the same ids."""

    def __init__(self) -> None:
        self.url = ""
        self.accepted: Counter[str] = Counter()
        self.unknown: set[str] = set()
        """Of requests that were cut: it is not known whether they were written."""
        self.is_over = False

    async def send(self, number: int) -> None:
        batch = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
            while not self.is_over:
                events = [order(f"{number}-{batch}-{n}") for n in range(20)]
                while not await self._accepted(session, events):  # noqa: ASYNC110 - a producer that tries again
                    await asyncio.sleep(0.1)
                batch += 1

    async def _accepted(self, session: aiohttp.ClientSession, events: list[dict]) -> bool:
        try:
            async with session.post(f"{self.url}/v1/events", json=events) as reply:
                told = await reply.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError):
            self.unknown |= {event["id"] for event in events}
            return False
        self.accepted.update(item["id"] for item in told.get("items", []) if item["state"] == "accepted")
        return reply.status == 202


@pytest.fixture
async def ended_with_us() -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Processes of a test that failed in the middle are not left behind."""
    started: list[asyncio.subprocess.Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
            await asyncio.wait_for(process.wait(), 30)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def test_what_was_accepted_is_in_the_log(tmp_path, kind, ended_with_us):
    """kill -9 at changing moments: all that was 202 is there; only what was cut may be there twice, with the same id."""
    topic = unique("orders")
    address = f"sqlite:{tmp_path}/log.db" if kind == "sqlite" else f"kafka:{kafka_broker.session_broker().bootstrap}"
    log = open_log(load_settings(assignments=[f"log={address}"]).settings)
    await log.create_topics(topic_specs(order_task(reads=topic), 3))
    shop = Shop()
    senders = []
    for number in range(KILLS + 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), address, str(tmp_path), topic, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        ended_with_us.append(process)
        assert process.stdout is not None
        shop.url = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        assert shop.url.startswith("http")
        senders = senders or [asyncio.create_task(shop.send(n)) for n in range(SENDERS)]
        enough = shop.accepted.total() + 100

        async def is_taking(enough: int = enough) -> bool:
            return shop.accepted.total() >= enough

        await until(is_taking, 60)
        await asyncio.sleep(0.013 * number)
        if number == KILLS:
            shop.is_over = True
            await asyncio.wait_for(asyncio.gather(*senders), 60)
        process.send_signal(signal.SIGKILL if number < KILLS else signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 30)
        assert code == (-signal.SIGKILL if number < KILLS else 0)
    written = Counter(orjson.loads(record.value)["id"] for record in await all_records(log, topic))
    await log.close()
    assert set(shop.accepted) <= set(written)
    assert {name for name, count in written.items() if count > 1} <= shop.unknown
    assert shop.unknown
    assert set(written) <= set(shop.accepted) | shop.unknown
