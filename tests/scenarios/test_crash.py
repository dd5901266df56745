"""Crash proof of the embedded log: kills, stops, workers coming and going, while events keep coming."""

from __future__ import annotations

import asyncio
import signal

import pytest

from crash import assert_laws, crash_run, stage
from crash_zombie import wasted

pytestmark = pytest.mark.slow


async def test_killed_and_frozen_workers_lose_nothing_and_double_nothing(tmp_path):
    """Laws 1, 2, 9: after kills and a zombie at seeded moments every event has one ending and every nanodollar is explained."""
    made, found = await crash_run(tmp_path, events=5_000, per_second=250, faults=["kill"] * 4 + ["zombie"], seed=7)
    assert_laws(made, found, 5_000)
    assert sum(kill.in_flight > 0 for kill in made.kills) >= 4


async def test_stopped_workers_pay_nothing_twice(tmp_path):
    """SIGTERM with calls shorter than the drain deadline: nothing is paid twice and nothing is unconfirmed."""
    async with stage(tmp_path, workers_per_task=2) as made:
        producing = asyncio.create_task(made.produce(2_500, 250, seed=3))
        for worker in [made.workers[0], made.workers[2], made.workers[0]]:
            await asyncio.sleep(2.5)
            await made.until_owned(4)  # one that is still starting has no drain to prove
            worker.signal(signal.SIGTERM)
            assert await worker.stopped() == 0
            worker.start()
        await producing
        found = await made.until_ended(120)
        assert_laws(made, found, 2_500)
        assert (found.unaccounted_items, found.unconfirmed_nanousd) == (0, 0)
        # That a review was deleted meanwhile is no fault of a worker.
        assert [waste for waste in await wasted(made.log) if not waste["why"].startswith("erased")] == []


async def test_workers_may_come_and_go(tmp_path):
    """Workers removed and added while events keep coming: neighbours take over, nothing is paid twice or lost."""
    async with stage(tmp_path, workers_per_task=2) as made:
        producing = asyncio.create_task(made.produce(3_000, 250, seed=4))
        for leaving in ((1, 3), (0, 2)):
            await asyncio.sleep(1.5)
            for number in leaving:
                made.workers[number].signal(signal.SIGTERM)
            assert [await made.workers[number].stopped() for number in leaving] == [0, 0]
            await asyncio.sleep(2.0)
            for number in leaving:
                made.workers[number].start()
            await made.until_owned(4)
        await producing
        found = await made.until_ended(120)
        assert_laws(made, found, 3_000)
        assert (found.unaccounted_items, found.unconfirmed_nanousd) == (0, 0)


@pytest.mark.soak
async def test_the_whole_crash_proof(tmp_path):
    """At least 20 kills over at least 50,000 events that keep coming, most of them with calls in flight."""
    made, found = await crash_run(tmp_path, events=50_000, per_second=400, faults=["kill"] * 24, seed=11)
    assert_laws(made, found, 50_000)
    assert len(made.kills) >= 20
    assert sum(kill.in_flight > 0 for kill in made.kills) >= 0.9 * len(made.kills)
