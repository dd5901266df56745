"""Nothing is lost on the way to a webhook: delivering processes are killed while the receiver refuses, throttles and goes away."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from aiohttp import web

from deliverers import Deliverers
from penstock.log.sqlite import SqliteLog
from penstock.store.options import DatabaseOptions
from penstock.store.outbox import Outbox
from penstock.store.schema import connect, upgrade
from sink_feed import Feeder, letters_in, made_topics
from webhook_receiver import SECRET, Received, Receiver

RESULTS = 2_000
KILLS = 5
PARTITIONS = 4
PATIENCE_SECONDS = 240.0


def settings(port: int, database: str) -> str:
    """`penstock.toml` of the processes."""
    return f"""
log = "sqlite:log.db"
[deliver]
tasks = ["labels:labeler"]
max_wait_seconds = 1.0
[ops]
port = "off"
[sqlite]
session_timeout_seconds = 3.0
heartbeat_seconds = 0.3
[sinks.database]
url = "{database}"
[sinks.webhooks.shop]
url = "http://127.0.0.1:{port}/hooks"
secrets = "{SECRET}"
allow_http = true
allow_networks = ["127.0.0.0/8"]
timeout_seconds = 10.0
"""


def moody(found: Received) -> web.Response | None:
    """Some messages are refused at their first attempt, and now and then the endpoint is throttled.

    What was refused once is taken the next time: after a second failure the standard's schedule waits for five minutes.
    """
    if found.id in seen:
        return None
    if random.Random(found.id).random() < 0.02:
        seen.add(found.id)
        return web.Response(status=500)
    return web.Response(status=503) if random.random() < 0.01 else None


seen: set[str] = set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_no_message_is_lost(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """Every result arrives, with one id however often it comes; none is a dead letter, and the outbox ends empty."""
    url = request.getfixturevalue("postgres").make() if kind == "postgresql" else f"sqlite:{tmp_path / 'store.db'}"
    engine = connect(DatabaseOptions(url=url))
    upgrade(engine)
    log = SqliteLog(tmp_path / "log.db")
    await made_topics(log, partitions=PARTITIONS)
    seen.clear()
    receiver = Receiver(moody)
    (tmp_path / "penstock.toml").write_text(settings(receiver.port, url))
    deliverers = Deliverers(tmp_path, "webhooks")
    try:
        for _ in range(2):
            deliverers.start()
        writing = asyncio.create_task(_write(log))
        for at in range(KILLS):
            await asyncio.sleep(random.uniform(1.5, 2.5))
            await asyncio.to_thread(deliverers.kill_one)
            if at == KILLS // 2:
                receiver.stop()
                await asyncio.sleep(3.0)
                receiver.start()
        await writing
        outbox = Outbox(engine, "shop")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (taken := len(set(receiver.events()))) < RESULTS or outbox.standing()[0]:
            told = f"{taken} of {RESULTS} taken, {outbox.standing()} in the outbox:\n{deliverers.told()}"
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.2)
        codes = await asyncio.to_thread(deliverers.stop)
        assert codes == [0] * len(codes), deliverers.told()
    finally:
        deliverers.close()
        receiver.close()
        engine.dispose()
    assert len(receiver.taken) == RESULTS
    assert len(seen) > 5
    assert await letters_in(log) == []
    await log.close()


async def _write(log: SqliteLog) -> None:
    feed = Feeder()
    for first in range(0, RESULTS, 50):
        await log.append([feed.result(str(first + n)) for n in range(50)])
        await asyncio.sleep(0.2)
