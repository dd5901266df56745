"""Results in the order of their keys, whoever dies: workers are killed while calls of some keys do not come back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kafka_broker import session_broker
from scenarios.test_hot_partition import HOT, Ground, started

pytestmark = pytest.mark.slow
KEYS = 40
EACH = 1_000


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def ground(request, tmp_path) -> AsyncIterator[Ground]:
    setting = f"sqlite:{tmp_path / 'events.db'}" if request.param == "sqlite" else f"kafka:{session_broker().bootstrap}"
    made = Ground(setting, f"keyed-{request.param}-{id(request):x}")
    made.task_options |= {"order": "key", "max_batch_items": 4}
    await made.prepare()
    yield made
    await made.log.close()


async def work_until(ground: Ground, directory: Path, ended: int) -> None:
    """A worker of the same slot each time, killed -9 as soon as so many results are there."""
    worker = started(ground, directory)
    try:
        await ground.until_ended(ended)
    finally:
        worker.kill()
        worker.wait()


async def test_killed_workers_keep_the_order_of_each_key(ground: Ground, tmp_path):
    """Law of `order="key"` and law 1: over seven kills, three of them with calls that hang, no result stands before one of an older event of its key."""
    let, sent = tmp_path / "let", 0
    for _ in range(3):
        let.unlink(missing_ok=True)
        await ground.send(HOT, ["hold" if number % 100 == 57 else "quick" for number in range(EACH)], keys=KEYS)
        sent += EACH
        await work_until(ground, tmp_path, len(ground.ended) + 20)
        await ground.send(HOT, ["quick"] * EACH, keys=KEYS)
        sent += EACH
        let.touch()
        await work_until(ground, tmp_path, sent - 300)
    await work_until(ground, tmp_path, sent)
    assert set(ground.ended.values()) == {1}
    of_key: dict[str, list[int]] = defaultdict(list)
    for offset, key in ground.in_order:
        of_key[key].append(offset)
    assert len(of_key) == KEYS
    assert [key for key, offsets in of_key.items() if offsets != sorted(offsets)] == []
