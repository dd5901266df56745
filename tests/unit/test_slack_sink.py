"""Digests to Slack: told once per kind and window, never lost, never shown as more than text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from cli_calls import cli_in
from deliverers import MODULE
from penstock import NewRecord
from penstock.cli.commands import app
from penstock.errors import SettingsError, SinkAway, UserError
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import Partition, Position
from penstock.sinks.reading import feeds_of
from penstock.sinks.slack.digests import Digest, Fingerprint
from penstock.sinks.slack.message import MOST_BLOCKS, MOST_CHARACTERS, escaped, message_of, redacted
from penstock.sinks.slack.options import SlackOptions
from penstock.sinks.slack.sink import SlackSink
from sink_feed import TASK, Feeder, deliveries, delivering, letters_in, made_topics, until
from slack_receiver import SlackReceiver

HOSTILE = "<!channel> <@U012> <https://evil.example|here> & *bold* \u202e"


class Clock:
    def __init__(self, at: float = 1_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


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
    yield made
    await made.close()


def a_sink(slack: SlackReceiver, clock: Any = None, **options: Any) -> SlackSink:
    seams = {"clock": clock} if clock else {}
    return SlackSink("desk", slack.options(**options), feeds_of([TASK]), pace_seconds=0.0, **seams)


async def test_one_message_tells_of_all_of_a_kind(slack: SlackReceiver) -> None:
    """A digest per fingerprint with its count and at most three samples, when its wait is over and not before."""
    clock, feed = Clock(), Feeder()
    sink = a_sink(slack, clock, group_wait_seconds=30, group_interval_seconds=300)
    await sink.deliver(deliveries([feed.result(f"e{n}", "bad") for n in range(40)] + [feed.result("good one")]))
    clock.at += 29
    assert await sink.given_up() == []
    assert slack.taken == []
    clock.at += 1
    for _ in range(3):
        await sink.given_up()
    assert slack.titles() == ["40 of bad (labeler)", "1 of good (labeler)"]
    shown = json.dumps(slack.taken[0], ensure_ascii=False)
    assert [f'"e{n} · sure"' in shown for n in range(4)] == [True, True, True, False]
    assert "and 37 more" in shown


async def test_the_next_digest_of_a_kind_waits_for_the_interval(slack: SlackReceiver) -> None:
    """Once told, a kind is quiet for `group_interval_seconds`; another kind is not held by it."""
    clock, feed = Clock(), Feeder()
    sink = a_sink(slack, clock, group_wait_seconds=30, group_interval_seconds=300)
    await sink.deliver(deliveries([feed.result("a", "bad")]))
    clock.at += 30
    await sink.given_up()
    await sink.deliver(deliveries([feed.result("b", "bad"), feed.result("c")], first=1))
    clock.at += 30
    await sink.given_up()
    await sink.given_up()
    assert slack.titles() == ["1 of bad (labeler)", "1 of good (labeler)"]
    clock.at += 270
    await sink.given_up()
    assert slack.titles()[2:] == ["1 of bad (labeler)"]


async def test_messages_keep_the_pace_of_a_channel(slack: SlackReceiver) -> None:
    """One message per second."""
    clock, feed = Clock(), Feeder()
    sink = SlackSink("desk", slack.options(), feeds_of([TASK]), clock=clock)
    await sink.deliver(deliveries([feed.result("a", "bad"), feed.result("b")]))
    for told, step in ((0, 0.5), (1, 0.9), (1, 0.2), (2, 0)):
        assert len(slack.taken) == told
        clock.at += step
        await sink.given_up()
    assert len(slack.taken) == 2


async def test_quiet_hours_hold_and_what_was_held_goes_out(slack: SlackReceiver) -> None:
    """In the zone that is set, over midnight; the counts go on meanwhile."""
    clock, feed = Clock(datetime(2026, 7, 1, 20, 30, tzinfo=UTC).timestamp()), Feeder()
    sink = a_sink(slack, clock, quiet_hours="22:00-07:00", quiet_zone="Europe/Berlin")
    for first in range(2):
        await sink.deliver(deliveries([feed.result(f"e{first}")], first=first))
        clock.at += 3600
        await sink.given_up()
    assert slack.taken == []
    assert list(sink.unsent()) == [Position(TASK.writes, 0, 0)]
    clock.at = datetime(2026, 7, 2, 5, 0, tzinfo=UTC).timestamp()
    await sink.given_up()
    assert slack.titles() == ["2 of good (labeler)"]
    assert list(sink.unsent()) == []


async def test_rules_choose(slack: SlackReceiver) -> None:
    """`where`, the confidence, tasks and kinds; a provisional result is not told unless wanted."""
    feed = Feeder()
    records = [feed.result("a", "bad"), feed.result("b"), feed.result("c", "bad", lane="person"), feed.letter("d")]
    counts = []
    for options in (
        {"where": {"label": ("bad",)}, "kinds": ("result",)},
        {"where": {"label": ("bad",)}, "provisional": True},
        {"max_confidence": "unsure", "kinds": ("result",)},
        {"tasks": ("another",)},
    ):
        sink = a_sink(slack, **options)
        await sink.deliver(deliveries(records))
        counts.append(len(list(sink.unsent())))
    assert counts == [1, 2, 0, 0]


async def test_few_dead_letters_are_no_flood(slack: SlackReceiver) -> None:
    """Fewer than `min_letters` in a window are never told; as many are."""
    clock, feed = Clock(), Feeder()
    sink = a_sink(slack, clock, min_letters=3, group_wait_seconds=30, group_interval_seconds=300)
    await sink.deliver(deliveries([feed.letter("a"), feed.letter("b")]))
    clock.at += 301
    await sink.given_up()
    assert (slack.taken, list(sink.unsent())) == ([], [])
    await sink.deliver(deliveries([feed.letter(f"e{n}") for n in range(3)]))
    clock.at += 31
    await sink.given_up()
    assert slack.titles() == ["3 of dead letters: answer · refused (labeler)"]


async def test_an_erased_event_is_not_named(slack: SlackReceiver) -> None:
    """A sample that is erased while its digest is held is not sent."""
    feed = Feeder()
    old = feed.result("secret-one", "bad", subject="s", key=b"k")
    erase = next(record for record in feed.erasure("gone", "s", key=b"k") if record.topic == TASK.writes)
    sink = a_sink(slack, sample_fields=("label",))
    await sink.deliver(deliveries([old, feed.result("other", "bad"), erase]))
    await asyncio.sleep(0.02)
    await sink.given_up()
    assert "other" in json.dumps(slack.taken)
    assert "secret-one" not in json.dumps(slack.taken)


async def test_partitions_that_go_are_not_told(slack: SlackReceiver) -> None:
    """After a rebalance another process counts them."""
    sink, feed = a_sink(slack), Feeder()
    await sink.deliver(deliveries([feed.result("a")]))
    sink.let_go([Partition(TASK.writes, 0)])
    await asyncio.sleep(0.02)
    await sink.given_up()
    assert (slack.tried, list(sink.unsent())) == (0, [])


async def test_the_wish_of_a_429_is_kept(slack: SlackReceiver) -> None:
    """Nothing is posted before `retry-after` is over, deliveries stay in the log, and the same digest goes out then."""
    clock, feed = Clock(), Feeder()
    slack.script = lambda _: web.Response(status=429, headers={"Retry-After": "17"}, text="rate_limited")
    sink = a_sink(slack, clock)
    await sink.deliver(deliveries([feed.result("a")]))
    clock.at += 1
    with pytest.raises(SinkAway) as away:
        await sink.given_up()
    assert away.value.after_seconds == 17
    with pytest.raises(SinkAway):
        await sink.deliver(deliveries([feed.result("b")], first=1))
    clock.at += 16
    await sink.given_up()
    assert slack.tried == 1
    slack.script = None
    clock.at += 1
    await sink.given_up()
    assert slack.titles() == ["1 of good (labeler)"]
    await sink.deliver(deliveries([feed.result("b")], first=1))


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (404, "no_service", UserError),
        (404, "channel_not_found", UserError),
        (403, "action_prohibited", UserError),
        (410, "channel_is_archived", UserError),
        (500, "", SinkAway),
        (503, "<html>", SinkAway),
        (200, "<html>", SinkAway),
        (400, "invalid_blocks", None),
        (400, "invalid_payload", None),
    ],
)
async def test_who_fails_decides(slack: SlackReceiver, status: int, word: str, kind: Any) -> None:
    """The channel needs a person, Slack's weather waits, and a message that Slack will never take is given up; no secret is told."""
    slack.script = lambda _: web.Response(status=status, text=word)
    sink, feed = a_sink(slack), Feeder()
    await sink.deliver(deliveries([feed.result("a")]))
    await asyncio.sleep(0.02)
    if kind is not None:
        with pytest.raises(kind) as told:
            await sink.given_up()
        assert "services" not in str(told.value)
        assert list(sink.unsent()) == [Position(TASK.writes, 0, 0)]
        return
    (refused,) = await sink.given_up()
    assert (refused.reason, refused.delivery.content.event_id) == ("slack_refused", "a")
    assert list(sink.unsent()) == [Position(TASK.writes, 0, 0)]
    await sink.buried([refused])
    assert list(sink.unsent()) == []
    assert slack.tried == 1


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("channel_not_found", UserError),
        ("invalid_auth", UserError),
        ("ratelimited", SinkAway),
        ("fatal_error", SinkAway),
    ],
)
async def test_a_token_posts_and_is_judged_alike(slack: SlackReceiver, word: str, kind: Any) -> None:
    """`chat.postMessage` with the token, its channel and nothing unfurled; its errors come with status 200."""
    sink, feed = a_sink(slack, token=SecretStr("xoxb-1"), channel="C1"), Feeder()
    await sink.deliver(deliveries([feed.result("a")]))
    await asyncio.sleep(0.02)
    slack.script = lambda _: web.json_response({"ok": False, "error": word}, headers={"Retry-After": "3"})
    with pytest.raises(kind):
        await sink.given_up()
    slack.script = None
    await asyncio.sleep(0.02)
    sink._next_at = 0.0
    await sink.given_up()
    (message,) = slack.taken
    assert (message["channel"], message["text"]) == ("C1", "1 of good (labeler)")
    assert slack.headers[-1]["Authorization"] == "Bearer xoxb-1"
    assert str(message["unfurl_links"]).lower() in {"false", "0"}


async def test_nothing_untold_is_passed_in_the_log(slack: SlackReceiver, log: SqliteLog) -> None:
    """The group's progress stops in front of a held digest; another process tells it, and only then progress goes on."""
    feed = Feeder()
    await log.append([feed.result(f"e{n}", "bad") for n in range(5)])
    group, at = "sink.slack.desk", Partition(TASK.writes, 0)
    async with delivering(a_sink(slack, group_wait_seconds=600), log) as loop:
        await until(lambda: loop.counts.delivered["result"] == 5, "taken")
    assert (await log.committed(group, TASK.writes)).get(at) is None or (await log.committed(group, TASK.writes))[
        at
    ].base == 0
    assert slack.taken == []
    async with delivering(a_sink(slack, group_wait_seconds=0.2), log) as loop:
        await until(lambda: slack.taken, "told")
        await until(lambda: loop.positions()[at].base == 5, "committed")
    assert slack.titles() == ["5 of bad (labeler)"]
    assert (await log.committed(group, TASK.writes))[at].base == 5
    async with delivering(a_sink(slack), log) as loop:
        await until(lambda: loop.is_settled, "settled")
    assert len(slack.taken) == 1


async def test_an_outage_of_slack_loses_nothing(slack: SlackReceiver, log: SqliteLog) -> None:
    """While nobody answers results stay in the log; all of them are told afterwards."""
    feed = Feeder()
    slack.stop()
    async with delivering(a_sink(slack), log) as loop:
        await log.append([feed.result("a")])
        await until(lambda: loop.counts.delivered["result"] == 1, "taken")
        await asyncio.sleep(0.2)
        await log.append([feed.result("b"), feed.result("c")])
        await until(lambda: loop.counts.troubles["away"], "seen to be away")
        slack.start()
        await until(lambda: sum(int(title.split()[0]) for title in slack.titles()) == 3, "told")
        await until(lambda: loop.positions()[Partition(TASK.writes, 0)].base == 3, "committed")


async def test_a_refused_digest_becomes_a_dead_letter(slack: SlackReceiver, log: SqliteLog) -> None:
    """Delivery goes on behind it."""
    slack.script = lambda _: web.Response(status=400, text="invalid_blocks")
    async with delivering(a_sink(slack, kinds=("result",)), log) as loop:
        await log.append([Feeder().result("a")])
        await until(
            lambda: (
                loop.positions().get(Partition(TASK.writes, 0))
                and loop.positions()[Partition(TASK.writes, 0)].base == 1
            ),
            "passed",
        )
    assert len(await letters_in(log)) == 1


def a_digest(text: str, samples: int = 3) -> Digest:
    digest = Digest(Fingerprint("labeler", "result", (("label", text[:80]),) * 30), 0.0)
    feed = Feeder()
    for delivery in deliveries(
        [feed.result(f"{n}{text}".encode("utf-8", "replace").decode(), echo=text) for n in range(5)]
    ):
        digest.add(delivery, samples)
    return digest


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=4_000))
def test_every_message_is_within_the_limits_of_slack(text: str) -> None:
    """Blocks, their texts and their sum, whatever stands in the events; the library's own checks pass."""
    options = SlackOptions(sample_fields=("echo",) * 20, console_url="https://c.example/{task}/{event_id}?a=1&b=2")
    message = message_of(a_digest(text), options)
    assert len(message.blocks) <= MOST_BLOCKS
    assert len(json.dumps(message.blocks, ensure_ascii=False)) <= MOST_CHARACTERS
    assert 0 < len(message.text) <= 150


def test_hostile_text_is_only_text() -> None:
    """No mention, link or markup of an event reaches Slack unescaped; only our own link is no plain text."""
    options = SlackOptions(sample_fields=("echo",), console_url="https://c.example/{event_id}")
    payload = message_of(a_digest(HOSTILE), options).payload()
    assert "<" not in payload["text"]
    assert not payload["unfurl_links"]
    assert not payload["mrkdwn"]
    texts = [found for block in payload["blocks"] for found in _texts(block)]
    plain = [one["text"] for one in texts if one["type"] == "plain_text"]
    links = [one["text"] for one in texts if one["type"] == "mrkdwn"]
    assert any("&lt;!channel&gt;" in text for text in plain)
    assert not any(sign in text for text in plain for sign in "<>\u202e")
    assert all(link.startswith("<https://c.example/") and link.endswith("|Look at it>") for link in links)
    assert all(link.count("<") == link.count(">") == link.count("|") == 1 for link in links)
    assert len(links) == 3


def _texts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("type") in {"plain_text", "mrkdwn"}:
            yield value
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


@given(st.text(), st.integers(6, 200))
def test_escaped_text_is_cut_between_characters(text: str, most: int) -> None:
    """Never within `&amp;`, and never longer than allowed."""
    found = escaped(text, most)
    assert len(found) <= most
    assert "&" not in found.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")


def test_addresses_and_numbers_are_blotted_out() -> None:
    """What identifies a person in a quoted sentence is not carried to a chat."""
    assert redacted("write to a.b@example.com or +49 170 1234567, 5 stars") == "write to [address] or [number], 5 stars"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "webhook_secret"),
        ({"token": SecretStr("x")}, "channel"),
        ({"token": SecretStr("x"), "webhook_secret": SecretStr("https://h.example/")}, "either"),
        ({"webhook_secret": SecretStr("http://hooks.example/secret-path")}, "https"),
    ],
)
def test_a_channel_that_cannot_work_is_refused(options: dict[str, Any], told: str) -> None:
    """With the name of the setting, and without the secret."""
    with pytest.raises(SettingsError, match=told) as error:
        SlackSink("desk", SlackOptions(**options))
    assert "secret-path" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [{"quiet_hours": "25:00-07:00"}, {"quiet_zone": "Mars/Olympus"}, {"console_url": "https://x/{secret}"}, {"samples": 4},
     {"group_wait_seconds": 0}],
)  # fmt: skip
def test_mistaken_settings_name_themselves(options: dict[str, Any]) -> None:
    """Before anything is read."""
    with pytest.raises(SettingsError, match=next(iter(options))):
        replace(SlackOptions(), **options)


def test_a_preview_prints_what_the_rules_make_of_the_log(slack: SlackReceiver, tmp_path: Path) -> None:
    """Digests of real results, whatever the quiet hours; nothing is sent, too few letters are not told, made-up verdicts only if wanted."""

    async def fill(directory: Path) -> None:
        log, feed = SqliteLog(directory / "penstock.db"), Feeder()
        await made_topics(log)
        shown = [feed.result(f"e{n}", "bad") for n in range(5)] + [feed.letter("d"), feed.result("s", simulated=True)]
        await log.append([*shown, NewRecord(TASK.writes, b"k", b"of somebody else")])
        await log.close()

    with cli_in(tmp_path) as cli:
        cli.write("labels.py", MODULE)
        cli.write(
            "penstock.toml",
            f'[sinks.slack.desk]\nwebhook_secret = "http://127.0.0.1:{slack.port}/services/x"\nallow_http = true\n'
            'quiet_hours = "00:00-23:59"\nmin_letters = 2\n',
        )
        asyncio.run(fill(tmp_path))
        shown = ("slack", "preview", "desk", "--task", "labels:labeler")
        assert [line["text"] for line in cli.lines(*shown)] == ["5 of bad (labeler)"]
        texts = {line["text"] for line in cli.lines(*shown, "--simulated")}
        assert texts == {"5 of bad (labeler)", "1 of good (labeler)"}
        assert cli.lines(*shown, "--from", "1m") == []
        assert "--from" in cli.refused(*shown, "--from", "yesterday")
    assert slack.tried == 0


def test_a_dry_run_prints_what_would_be_sent(slack: SlackReceiver, tmp_path: Path) -> None:
    """And sends nothing; without it the message arrives."""
    file = tmp_path / "penstock.toml"
    file.write_text(
        f'[sinks.slack.desk]\nwebhook_secret = "http://127.0.0.1:{slack.port}/services/x"\nallow_http = true\n'
        'where = { decision = ["hold"] }\n'
    )
    dry = CliRunner().invoke(app, ["slack", "test", "desk", "--dry-run", "--config", str(file)])
    assert dry.exit_code == 0, dry.output
    assert slack.tried == 0
    said = json.loads(dry.stdout)
    real = CliRunner().invoke(app, ["slack", "test", "desk", "--config", str(file)])
    assert (real.exit_code, real.stdout) == (0, "desk: took it\n")
    assert slack.taken[0]["text"] == said["text"] == "1 of hold (test)"
