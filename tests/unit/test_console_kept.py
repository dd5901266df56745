"""Answers that readers of the console share: how long one is kept, a fault less long."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.web.pages.kept import FAULT_SECONDS, MOST_SECONDS, Kept, kept_seconds


def test_an_answer_is_kept_by_what_it_cost() -> None:
    """Twenty times as long as it took, at least the time of a turn, never for ever."""
    assert [kept_seconds(took, 4.0, MOST_SECONDS) for took in (0.01, 1.0, 6.0)] == [4.0, 20.0, MOST_SECONDS]


@pytest.mark.parametrize(("fails", "most"), [(True, FAULT_SECONDS), (False, MOST_SECONDS)])
async def test_a_fault_is_kept_less_long_than_an_answer(monkeypatch, fails, most):
    """A making that took a minute: its fault is asked for again after ten seconds, its answer after sixty."""
    clock, made = [1000.0], []

    async def make() -> int:
        made.append(1)
        clock[0] += 60.0
        await asyncio.sleep(0)
        if fails:
            raise OSError("away")
        return 1

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    kept = Kept(make, at_least_seconds=1.0)
    for passed in (0.0, most - 1, 2.0):
        clock[0] += passed
        running = asyncio.gather(kept.get(1e9), return_exceptions=True)
        (found,) = await running
        assert isinstance(found, OSError) is fails
    assert len(made) == 2
