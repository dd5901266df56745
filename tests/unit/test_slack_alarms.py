"""Alarms to Slack: a ceiling that is nearly spent and a task that is behind are told once, by one process, over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from contract.log_fixtures import Worker
from penstock import NewRecord
from penstock.errors import SettingsError, SinkAway, UserError
from penstock.flow.ceilings import SpendOptions
from penstock.flow.claims import Entry, Key, Totals, entry_record
from penstock.log.base import PartProgress, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import Partition
from penstock.settings import load_settings
from penstock.sinks.orders import pause_order, resume_order
from penstock.sinks.reading import feeds_of
from penstock.sinks.slack.alarms import Alarm, Alarms, Followed
from penstock.sinks.slack.message import MOST_CHARACTERS, message_of_alarm
from penstock.sinks.slack.options import SlackOptions
from penstock.sinks.slack.sink import SlackSink
from penstock.wiring_sinks import made_sinks, with_alarms
from sink_feed import TASK, Feeder, delivering, made_topics, until
from slack_receiver import SlackReceiver

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC).timestamp()
GROUP = "sink.slack.desk"
FIRST = Partition(TASK.dead_letters, 0)
CEILINGS = list(SpendOptions(day_usd=1.0, at_ceiling="bury").ceilings())


@pytest.fixture
def slack() -> Iterator[SlackReceiver]:
    made = SlackReceiver()
    yield made
    made.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    options = SqliteOptions(heartbeat_seconds=0.1, session_timeout_seconds=2.0, synchronous="normal")
    made = SqliteLog(tmp_path / "log.db", options=options)
    await made_topics(made)
    await made.create_topics([TopicSpec(TASK.reads, 2)])
    yield made
    await made.close()


class Process:
    """One of the processes that tell the channel, at a time that the test chooses."""

    def __init__(self, slack: SlackReceiver, log: SqliteLog, *, is_first: bool = True, **options: Any) -> None:
        self.at, self.slack = NOON, slack
        given = slack.options(kinds=("budget", "lag"), **options)
        self.sink = SlackSink("desk", given, feeds_of([TASK]), clock=lambda: self.at, pace_seconds=0.0)
        follows = [Followed(TASK.name, TASK.group, TASK.reads)]
        self.sink.alarms = Alarms(log, GROUP, given, follows=follows, ceilings=CEILINGS, unix=lambda: self.at)
        if is_first:
            self.sink.took([FIRST])

    async def look(self, later_seconds: float = 60.0) -> list[str]:
        """What was posted since the last look."""
        before = len(self.slack.taken)
        self.at += later_seconds
        for _ in range(3):
            await self.sink.given_up()
        return self.slack.titles()[before:]


async def spent(log: SqliteLog, usd: float, period: str = "2026-11-24", run: str = "r1", number: int = 1) -> None:
    """What a worker writes of its spending."""
    nanousd = int(usd * 1e9)
    entry = Entry(Key(TASK.name, "model-1", run), number, NOON, {period: Totals(nanousd, nanousd, 0)})
    await log.append([entry_record(entry)])


async def test_a_budget_is_told_once_for_each_part_of_a_period(slack: SlackReceiver, log: SqliteLog) -> None:
    """At 80 % and at 95 % of what all workers spent together, with what happens then; the next day anew."""
    one = Process(slack, log)
    await spent(log, 0.5)
    assert await one.look() == []
    await spent(log, 0.35, run="r2")
    assert await one.look() == ["85% of a budget: spend.day_usd"]
    assert "over_budget" in str(slack.taken[0]["blocks"])
    assert "$0.85 of $1 spent in 2026-11-24" in str(slack.taken[0]["blocks"])
    assert await one.look() == []
    await spent(log, 0.61, number=2)
    assert await one.look() == ["96% of a budget: spend.day_usd"]
    assert await one.look() == []
    await spent(log, 0.9, "2026-11-25", run="r3")
    assert await one.look(86_400) == ["90% of a budget: spend.day_usd"]


async def test_what_was_told_is_known_to_others(slack: SlackReceiver, log: SqliteLog) -> None:
    """A restarted process does not tell it again; one without the first partition tells nothing, and tells when it gets it."""
    await spent(log, 0.85)
    other = Process(slack, log, is_first=False)
    assert await other.look() == []
    assert await Process(slack, log).look() == ["85% of a budget: spend.day_usd"]
    assert await Process(slack, log).look() == []
    await spent(log, 0.97, number=2)
    other.sink.took([FIRST])
    assert await other.look() == ["97% of a budget: spend.day_usd"]
    other.sink.let_go([FIRST])
    await spent(log, 0.97, "2026-11-25", run="r2")
    assert await other.look(86_400) == []


async def test_a_task_that_is_behind_is_told_until_it_has_caught_up(slack: SlackReceiver, log: SqliteLog) -> None:
    """By the age of its oldest unresolved event, whatever is done behind that one; again after a while; its end too."""
    one = Process(slack, log, lag_seconds=600, lag_repeat_seconds=3_600)
    old_ms = int((NOON - 300) * 1000)
    await log.append([NewRecord(TASK.reads, b"k", b"{}", (), old_ms + n) for n in range(3)])
    assert await one.look(1_000) == [], "nobody has begun"
    worker = await Worker.joined(log, TASK.group, TASK.reads)
    (first, *_) = await worker.read_count(3)
    at = Partition(first.topic, first.partition)
    await worker.consumer.commit(Progress((PartProgress(at, OffsetMap(0)),)))
    assert await one.look() == ["labeler is behind: the oldest event has waited for 23 min"]
    assert "3 events wait" in str(slack.taken[0]["blocks"])
    assert await one.look() == []
    assert await Process(slack, log).look(1_200) == [], "known from the log"
    assert await one.look(3_600) == ["labeler is behind: the oldest event has waited for 84 min"]
    await worker.consumer.commit(Progress((PartProgress(at, OffsetMap(3)),)))
    assert await one.look() == ["labeler has caught up"]
    assert await one.look() == []
    await worker.consumer.close()


async def test_quiet_hours_hold_alarms(slack: SlackReceiver, log: SqliteLog) -> None:
    """What still holds afterwards is told then."""
    one = Process(slack, log, quiet_hours="11:00-12:10")
    await spent(log, 0.85)
    assert await one.look(300) == []
    assert await one.look(600) == ["85% of a budget: spend.day_usd"]


async def test_an_alarm_waits_for_slack(slack: SlackReceiver, log: SqliteLog) -> None:
    """429 and 5xx are waited out, and it is told afterwards; a channel that is gone needs a person."""
    one = Process(slack, log)
    await spent(log, 0.85)
    slack.script = lambda _: web.Response(status=429, headers={"retry-after": "30"}, text="")
    with pytest.raises(SinkAway) as away:
        await one.look()
    assert away.value.after_seconds == 30
    slack.script = lambda _: web.Response(status=404, text="channel_not_found")
    with pytest.raises(UserError):
        await one.look()
    slack.script = None
    assert await one.look() == ["85% of a budget: spend.day_usd"]


async def test_an_alarm_that_slack_refuses_is_not_tried_for_ever(slack: SlackReceiver, log: SqliteLog) -> None:
    """It is in the process's own log, and digests go on."""
    one = Process(slack, log)
    await spent(log, 0.85)
    slack.script = lambda _: web.Response(status=400, text="invalid_blocks")
    assert await one.look() == []
    slack.script = None
    assert (await one.look(), slack.tried) == ([], 1)


async def test_a_paused_channel_is_silent(slack: SlackReceiver, log: SqliteLog) -> None:
    """A pause holds digests and alarms too, also for a process that starts into it; they come when it ends."""
    await spent(log, 0.85)
    await log.append([pause_order(GROUP), Feeder().letter("a")])
    one = Process(slack, log)
    one.sink.alarms = Alarms(log, GROUP, one.sink._slack, ceilings=CEILINGS, unix=lambda: NOON)
    async with delivering(one.sink, log) as loop:
        await until(lambda: loop.orders.is_paused, "it knows")
        await asyncio.sleep(0.3)
        assert slack.tried == 0
        await log.append([resume_order(GROUP)])
        await until(lambda: slack.titles() == ["85% of a budget: spend.day_usd"], "told")


async def test_a_loop_says_which_process_tells(slack: SlackReceiver, log: SqliteLog) -> None:
    """Two processes on one group, one alarm: the loop hands a sink its partitions."""
    await spent(log, 0.85)
    processes = [Process(slack, log, is_first=False) for _ in range(2)]
    async with delivering(processes[0].sink, log), delivering(processes[1].sink, log):
        await until(lambda: slack.taken, "told")
        await asyncio.sleep(0.3)
    assert slack.titles() == ["85% of a budget: spend.day_usd"]


def test_an_alarm_is_only_text() -> None:
    """A task's name mentions nobody; the message keeps to Slack's limits."""
    alarm = Alarm("lag <!channel>", "<!channel> " * 100, ("<@U012> " * 500,), {})
    message = message_of_alarm(alarm, SlackOptions(console_url="https://c.example/events/{event_id}"), NOON)
    shown = str(message.blocks)
    assert len(shown) < MOST_CHARACTERS
    assert "<!" not in shown
    assert "<@" not in shown
    assert "<https://c.example/|Look at it>" in shown
    assert len(message.text) <= 150


def test_settings_make_channels_with_alarms(tmp_path: Path) -> None:
    """Those whose kinds say so get what they watch; other channels and sinks do not."""
    file = tmp_path / "penstock.toml"
    channel = 'webhook_secret = "https://hooks.slack.example/x"'
    file.write_text(f'[sinks.slack.desk]\n{channel}\n[sinks.slack.oncall]\n{channel}\nkinds = ["budget"]\n')
    settings = load_settings(file).settings
    sinks = made_sinks("slack", settings, feeds_of([TASK]))
    log: Any = object()
    with_alarms(settings, sinks, [TASK], log, CEILINGS)
    found = {sink.name: sink.alarms for sink in sinks if isinstance(sink, SlackSink)}
    assert {name: alarms is not None for name, alarms in found.items()} == {"slack.desk": False, "slack.oncall": True}


@pytest.mark.parametrize("options", [{"budget_at": (80,)}, {"lag_seconds": 0}, {"lag_repeat_seconds": -1}])
def test_mistaken_settings_name_themselves(options: dict[str, Any]) -> None:
    """Before anything is read."""
    with pytest.raises(SettingsError, match=next(iter(options))):
        replace(SlackOptions(), **options)
