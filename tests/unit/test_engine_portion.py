"""The part of a task's partitions that is ours is told whenever it changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from fakes import ScriptedTier, make_task, note
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.portion import INPUT_WEIGHT, Portion
from penstock.errors import LogUnavailable
from penstock.log.sqlite import SqliteLog
from penstock.log.topics import topic_specs
from penstock.record import Partition

ALL = 6 * INPUT_WEIGHT + 2
"""Six partitions of the input and two of the retry topic."""
QUICK = PipelineOptions(commit_interval_seconds=0.01, drain_seconds=1.0)


@dataclass
class Told:
    """Who is told."""

    shares: list[tuple[str, int, int]] = field(default_factory=list)

    def note_share(self, task: str, assigned: int, total: int) -> None:
        """Keep it."""
        self.shares.append((task, assigned, total))


async def until(condition):
    """Wait for it; the caller's time-out is a bound against hanging."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class Moody(SqliteLog):
    """A log that is away for its first two questions."""

    asked = 0

    async def bounds(self, topic):
        """As the log does, from the third question on."""
        self.asked += 1
        if self.asked <= 2:
            raise LogUnavailable("the log is away")
        return await super().bounds(topic)


async def test_a_log_that_is_away_is_asked_again(tmp_path: Path):
    """A worker that could not learn how many partitions there are must not take the whole account until the next rebalance."""
    log, task, told = Moody(tmp_path / "events.db"), make_task(ScriptedTier()), Told()
    await log.create_topics(topic_specs(task, 6))
    portion = Portion(task, log, told, again_seconds=0.01)
    portion.changed([Partition("notes", number) for number in range(4)])
    try:
        async with asyncio.timeout(20):
            await until(lambda: told.shares)
        assert told.shares == [("labeler", 4 * INPUT_WEIGHT, ALL)]
    finally:
        await portion.close()
        await log.close()


async def test_who_owns_none_of_the_input_has_a_small_share(tmp_path: Path):
    """Partitions of the retry topic are nearly always empty: they count, but little, and what all are told adds up."""
    log, task = SqliteLog(tmp_path / "events.db"), make_task(ScriptedTier())
    await log.create_topics(topic_specs(task, 6))
    owned = [
        [Partition("notes", number) for number in range(6)],
        [Partition("labeler.retry", number) for number in (0, 1)],
    ]
    told = [Told(), Told()]
    portions = [Portion(task, log, one) for one in told]
    try:
        async with asyncio.timeout(20):
            for portion, partitions in zip(portions, owned, strict=True):
                portion.changed(partitions)
            await until(lambda: all(one.shares for one in told))
        (busy, total), (beside, again) = (one.shares[-1][1:] for one in told)
        assert 0 < 10 * beside < busy
        assert busy + beside == total == again
    finally:
        for portion in portions:
            await portion.close()
        await log.close()


async def test_two_workers_are_told_their_parts(tmp_path: Path):
    """One worker has all partitions; with a second one each has its part of them, and together they have all."""
    log, task = SqliteLog(tmp_path / "events.db"), make_task(ScriptedTier())
    await log.create_topics(topic_specs(task, 6))
    await log.append([note(number) for number in range(10)])
    one, two, ends = Told(), Told(), (asyncio.Event(), asyncio.Event())
    runs = [Pipeline(task, [ScriptedTier()], log, QUICK, shares=told) for told in (one, two)]
    try:
        async with asyncio.timeout(20):
            first = asyncio.create_task(runs[0].run(ends[0]))
            await until(lambda: ("labeler", ALL, ALL) in one.shares)
            second = asyncio.create_task(runs[1].run(ends[1]))
            await until(lambda: two.shares and 0 < two.shares[-1][1] < ALL)
            await until(lambda: one.shares[-1][1] + two.shares[-1][1] == ALL)
            assert one.shares[-1][2] == two.shares[-1][2] == ALL
            ends[1].set()
            await second
            assert two.shares[-1][1] == 0
            await until(lambda: one.shares[-1] == ("labeler", ALL, ALL))
            ends[0].set()
            await first
    finally:
        await log.close()
