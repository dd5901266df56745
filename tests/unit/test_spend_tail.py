"""What all workers spend is read to the end of the state topic, whatever else stands there; `penstock status` shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest

from cli_calls import cli_in
from fakes import until
from penstock.errors import LogUnavailable
from penstock.flow.ceilings import SpendOptions, periods_at
from penstock.flow.claims import Entry, Key, Totals, entry_record
from penstock.flow.spend import Spend
from penstock.flow.tail import SpendTail, Topic, read_claims
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC, state_record
from penstock.record import Partition

MONTH = periods_at(time.time()).labels[2]


def entry(run: str, *totals: int, number: int = 1, at: float | None = None):
    key = Key("t", "m", run)
    return entry_record(Entry(key, number, time.time() if at is None else at, {MONTH: Totals(*totals)}))


@pytest.fixture(params=[1, 3], ids=["one partition", "three"])
async def log(tmp_path, request):
    log = SqliteLog(tmp_path / "penstock.db")
    await log.create_topics([TopicSpec(STATE_TOPIC, request.param, is_compacted=True)])
    yield log
    await log.close()


async def test_each_look_goes_on_where_the_last_one_ended(log):
    """In order per key, none twice, none left out, with other kinds of state between."""
    topic = Topic(log)
    assert await topic.look() == []
    await log.append([entry(f"r{n}", n, n, 0) for n in range(50)] + [state_record("t", "waste", "c/1", {"why": "x"})])
    assert sorted(found.key.run for found in await topic.look()) == sorted(f"r{n}" for n in range(50))
    assert await topic.look() == []
    await log.append([entry("r7", 9, 9, 0, number=n) for n in (2, 3)])
    assert [found.number for found in await topic.look()] == [2, 3]


async def test_a_record_of_somebody_else_is_named_once_and_claims_nothing(log, caplog):
    """The spend guard goes on; a person is told which key to delete."""
    topic = Topic(log)
    broken = state_record("t", "spend", "r/m", {"periods": {"never": [1]}})
    with caplog.at_level(logging.ERROR):
        await log.append([broken, entry("r1", 5, 5, 0)])
        assert [found.key.run for found in await topic.look()] == ["r1"]
        await log.append([broken])
        assert await topic.look() == []
    assert len(caplog.records) == 1
    assert "[t, spend, r/m]" in caplog.text


async def test_who_looks_once_sees_reserves_by_their_age(log):
    """A record that holds something and is older than a minute is a dead worker's."""
    await log.append([entry("alive", 90, 50, 10), entry("dead", 70, 40, 0, at=time.time() - 120)])
    claims = await read_claims(log)
    account = ("task", "t", MONTH)
    assert claims.sum(account) == (160, 90, 10)
    assert claims.reserve(account) == 30
    assert claims.firm(account) == 130


class Interrupted:
    """A log in which something happens at a reading, counted from 1: it fails, or somebody writes."""

    def __init__(self, log) -> None:
        self._log = log
        self.reads = 0
        self.bounds = log.bounds
        self.failing: dict[int, Exception] = {}
        self.meanwhile: dict[int, list] = {}

    async def read(self, partition, offset, max_records):
        self.reads += 1
        if error := self.failing.get(self.reads):
            raise error
        found = await self._log.read(partition, offset, max_records)
        await self._log.append(self.meanwhile.pop(self.reads, []))
        return found


@pytest.mark.parametrize("failing_read", [1, 2, 3, 4])
async def test_a_look_that_the_log_interrupts_loses_nothing(log, failing_read):
    """What was read before the log was gone is handed over by the next look: a claim unheard would be spent by two."""
    await log.append([entry(f"r{n}", n, n, 0) for n in range(20)])
    weather = Interrupted(log)
    weather.failing[failing_read] = LogUnavailable("no broker")
    topic = Topic(weather)
    found = []
    for _ in range(2):
        with contextlib.suppress(LogUnavailable):
            found += await topic.look()
    assert sorted(found_.key.run for found_ in found) == sorted(f"r{n}" for n in range(20))


async def test_our_own_record_counts_when_all_partitions_were_read_after_it(tmp_path):
    """One that becomes visible in the midst of the last reading waits for the next look: others may stand before it, unread."""
    log = SqliteLog(tmp_path / "penstock.db")
    await log.create_topics([TopicSpec(STATE_TOPIC, 2, is_compacted=True)])
    await log.append([entry(f"o{n}", n, n, 0) for n in range(40)])
    first = {r.key for r in await log.read(Partition(STATE_TOPIC, 0), 0, 100)}
    other = next(n for n in range(40) if entry(f"o{n}", 0, 0, 0).key in first)
    own = next(n for n in range(40) if entry(f"o{n}", 0, 0, 0).key not in first)
    racing = Interrupted(log)
    topic = Topic(racing, f"o{own}")
    await topic.look()
    # Each partition's end is one reading: 0, 1, and once more 0, 1. After the last reading of 0 both records come.
    racing.meanwhile[racing.reads + 3] = [
        entry(f"o{other}", 900, 0, 0, number=7),
        entry(f"o{own}", 900, 0, 0, number=7),
    ]
    assert await topic.look() == []
    assert sorted(found.key.run for found in await topic.look()) == sorted([f"o{other}", f"o{own}"])
    await log.close()


async def test_whatever_goes_wrong_it_looks_again(log, caplog):
    """An error that nobody foresaw is logged with its place, and the next look comes: else calls would wait for ever."""
    weather = Interrupted(log)
    weather.failing[1] = RuntimeError("a bug")
    spend = Spend(SpendOptions(day_usd=1.0), run="r1")
    spend.check("t", "m", 1_000)
    await log.append(spend.records("t"))
    spend.written("t")

    async def may_spend() -> bool:
        return spend.check("t", "m", 1_000) is None

    async with SpendTail(weather, spend, 0.02):
        await until(may_spend)
    assert "a bug" in caplog.text
    assert "Traceback" in caplog.text


async def test_calls_wait_while_the_topic_can_not_be_read(tmp_path, caplog):
    """No topic yet: it is said once, nothing may be spent, and it goes on by itself when the topic is there."""
    log = SqliteLog(tmp_path / "penstock.db")
    spend = Spend(SpendOptions(day_usd=1.0), run="r1")
    with caplog.at_level(logging.WARNING, "penstock.spend"):
        async with SpendTail(log, spend, 0.02):

            async def is_said() -> bool:
                return "can't be read" in caplog.text

            await until(is_said)
            await asyncio.sleep(0.1)  # it looks again, and says nothing more
            assert spend.check("t", "m", 1_000) is not None
            assert caplog.text.count("can't be read") == 1
            await log.create_topics([TopicSpec(STATE_TOPIC, 1, is_compacted=True)])
            await log.append(spend.records("t"))
            spend.written("t")

            async def may_spend() -> bool:
                return spend.check("t", "m", 1_000) is None

            await until(may_spend)
    await log.close()


def test_status_shows_every_ceiling(tmp_path):
    """What all workers have spent of it, what is held, and what is reserved; as JSON too."""

    async def prepare() -> None:
        log = SqliteLog(tmp_path / "penstock.db")
        await log.create_topics([TopicSpec(STATE_TOPIC, 1, is_compacted=True), TopicSpec("notes", 1)])
        await log.append([entry("r1", 3 * 10**9, 2 * 10**9, 5 * 10**8)])
        await log.close()

    asyncio.run(prepare())
    with cli_in(tmp_path) as cli:
        (budget,) = cli.page("status", "--json", "-X", "spend.month_usd=10")["spend"]
        assert (budget["setting"], budget["period"], budget["ceiling_usd"]) == ("spend.month_usd", MONTH, 10.0)
        assert (budget["spent_usd"], budget["unconfirmed_usd"], budget["margin_usd"]) == (2.0, 0.5, 0.5)
        assert cli.page("status", "--json")["spend"] == []
        told = cli("status", "-X", "spend.month_usd=10").stderr
        assert f"spend.month_usd: $2 of $10 spent in {MONTH} UTC ($0.5 held for calls in flight" in told
        assert "spend.models.nobody" in cli.refused("status", "-X", "spend.models.nobody.day_usd=1")
