"""Who fails decides: the endpoint is waited for, one message waits in the outbox, 410 needs a person; nothing is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select, update
from sqlalchemy import text as sql
from standardwebhooks import Webhook, WebhookVerificationError

from penstock.errors import SettingsError, SinkAway
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord
from penstock.sinks.orders import pause_order, resume_order
from penstock.sinks.webhook.message import is_wanted, message_of
from penstock.sinks.webhook.options import WebhookOptions
from penstock.sinks.webhook.signing import new_secret
from penstock.sinks.webhook.sink import EndpointDisabled, WebhookSink
from penstock.store.options import DatabaseOptions
from penstock.store.outbox import Outbox
from penstock.store.schema import connect, upgrade
from penstock.store.tables import webhook_messages
from penstock.wiring_sinks import made_sinks
from sink_feed import Feeder, deliveries, delivering, letters_in, made_topics, until
from webhook_receiver import SECRET, Received, Receiver, of_event, secret_of


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    made = SqliteLog(tmp_path / "log.db", options=SqliteOptions(heartbeat_seconds=0.1, synchronous="normal"))
    await made_topics(made)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows; to make it takes longer than to copy it."""
    file = tmp_path_factory.mktemp("store") / "store.db"
    engine = connect(DatabaseOptions(url=f"sqlite:{file}"))
    upgrade(engine)
    engine.dispose()
    return file


class Shop:
    """An endpoint with its outbox, as one process or the next one has it."""

    def __init__(self, receiver: Receiver, url: str) -> None:
        self.receiver = receiver
        self.database = DatabaseOptions(url=url)
        self.engine = connect(self.database)
        self.outbox = Outbox(self.engine, "shop")

    def sink(self, attempts: int = 10, wait_seconds: float = 0.01, **changed: Any) -> WebhookSink:
        """Its schedule is the standard's number of attempts, in milliseconds."""

        def delay(made: int, wish_seconds: float | None) -> float | None:
            return None if made >= attempts else wait_seconds

        options = self.receiver.options(**changed)
        return WebhookSink("shop", options, self.database, delay=delay, look_seconds=0.01)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def shop(request: pytest.FixtureRequest, receiver: Receiver, tables: Path, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "postgresql":
        made = Shop(receiver, request.getfixturevalue("postgres").make())
        upgrade(made.engine)
    else:
        shutil.copy(tables, tmp_path / "store.db")
        made = Shop(receiver, f"sqlite:{tmp_path / 'store.db'}")
    yield made
    made.engine.dispose()


async def deliver(sink: WebhookSink, records: list[NewRecord], first: int = 0) -> Any:
    try:
        await sink.open()
        return await sink.deliver(deliveries(records, first))
    finally:
        await sink.close()


# --- what is posted


async def test_a_message_is_thin_versioned_and_signed(shop: Shop) -> None:
    """Type, time and data; the id is the result's own, and the secret of another endpoint does not fit."""
    record = Feeder().result("a", "bad", key=b"k")
    await deliver(shop.sink(), [record])
    (one,) = shop.receiver.taken
    assert one.type == "penstock.result.v1"
    assert one.id == deliveries([record])[0].id == one.data["id"]
    assert "." not in one.id
    assert one.data["output"] == {"label": "bad", "echo": ""}
    assert (one.data["event_id"], one.data["key"], one.data["confidence"]) == ("a", "k", "sure")
    assert not {"usage", "nanousd"} & set(one.data)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(b"{}", one.headers)


async def test_while_a_secret_is_changed_both_sign(shop: Shop) -> None:
    """The receiver still has the old one, or has the new one already."""
    await deliver(shop.sink(secrets=secret_of(f"{new_secret()} {SECRET}")), [Feeder().result("a")])
    assert shop.receiver.events() == ["a"]


async def test_a_large_output_is_left_out_and_said_so(shop: Shop) -> None:
    """A message stays under 20 kB; what cannot is refused."""
    feed = Feeder()
    refused = await deliver(shop.sink(), [feed.result("a", echo="x" * 30_000), feed.result("b" * 30_000)])
    (one,) = shop.receiver.taken
    assert (one.data["output"], one.data["output_left_out"]) == (None, True)
    assert [(one.reason, one.attempts) for one in refused] == [("too_large", 1)]


def test_an_endpoint_gets_what_it_wants() -> None:
    """By task, kind, value and confidence; what supersedes something goes out whatever it says."""
    feed = Feeder()
    good, bad, waits, letter = deliveries(
        [feed.result("a"), feed.result("b", "bad"), feed.result("c", "bad", lane="person"), feed.letter("d")]
    )
    (erasure,) = deliveries([one for one in feed.erasure("e", "s") if one.topic == "labels"])
    options = WebhookOptions(where={"label": ("bad",)})
    assert [is_wanted(one, options) for one in (good, bad, waits, letter, erasure)] == [False, True, True, False, True]
    assert not is_wanted(waits, replace(options, provisional=False))
    assert not is_wanted(bad, replace(options, tasks=("other",)))
    assert is_wanted(letter, replace(options, kinds=("letter",)))
    correction = replace(good, content=replace(good.content, supersedes=waits.id))
    assert is_wanted(correction, options)
    unsure = replace(bad, content=replace(bad.content, confidence="unsure"))
    assert is_wanted(unsure, options)
    assert not is_wanted(unsure, replace(options, min_confidence="likely"))


async def test_of_one_key_all_goes_one_by_one(shop: Shop) -> None:
    """Side by side only what has different keys: a later one never arrives before an earlier one has been answered."""
    at_once: set[str] = set()
    most = 0

    async def slowly(found: Received) -> web.StreamResponse:
        nonlocal most
        assert found.data["key"] not in at_once
        at_once.add(found.data["key"])
        most = max(most, len(at_once))
        await asyncio.sleep(0.01)
        at_once.remove(found.data["key"])
        return web.Response()

    shop.receiver.script = slowly
    feed = Feeder()
    records = [feed.result(f"{number}", key=b"%d" % (number % 4)) for number in range(20)]
    await deliver(shop.sink(), records)
    for key in range(4):
        arrived = [int(one.data["event_id"]) for one in shop.receiver.taken if one.data["key"] == str(key)]
        assert arrived == sorted(arrived)
    assert most > 1


# --- the endpoint fails


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_throttles_is_weather(shop: Shop, status: int) -> None:
    """Nothing is used up or put aside; the receiver's wish is kept; what passed is not sent again."""
    shop.receiver.script = lambda _: web.Response(status=status, headers={"retry-after": "7"})
    with pytest.raises(SinkAway) as away:
        await deliver(shop.sink(), [Feeder().result("a")])
    assert away.value.after_seconds == 7
    assert shop.outbox.standing()[0] == 0
    feed = Feeder()
    script = of_event("b", status)
    shop.receiver.script = script
    records = [feed.result("a"), feed.result("b")]
    with pytest.raises(SinkAway) as away:
        await deliver(shop.sink(max_concurrent=1), records)
    assert [one.content.event_id for one in away.value.delivered] == ["a"]


async def test_a_forbidden_address_is_weather_that_names_the_setting(shop: Shop) -> None:
    """127.0.0.1 without permission: nothing is connected to, nothing lost."""
    shop.receiver.script = lambda _: pytest.fail("was connected to")
    sink = WebhookSink(
        "shop", WebhookOptions(url="http://localhost/", secrets=secret_of(SECRET), allow_http=True), shop.database
    )
    with pytest.raises(SinkAway, match="allow_networks"):
        await deliver(sink, [Feeder().result("a")])


async def test_a_receiver_that_fails_for_a_while_gets_all_of_it(shop: Shop, log: SqliteLog) -> None:
    """500 to everything, then well again: each event arrives, none is dead."""
    failing = [True]
    shop.receiver.script = lambda _: web.Response(status=500) if failing[0] else None
    feed = Feeder()
    async with delivering(shop.sink(attempts=10_000), log):
        await log.append([feed.result(f"{number}") for number in range(20)])
        await until(lambda: len(shop.receiver.tried) > 30, "it was tried often")
        failing[0] = False
        await until(lambda: len(shop.receiver.taken) == 20, "all arrived")
        await until(lambda: shop.outbox.standing()[0] == 0, "nothing waits")
    assert await letters_in(log) == []


async def test_a_receiver_that_hangs_holds_only_itself(shop: Shop) -> None:
    """An attempt ends in its time; the message is kept in the log."""

    async def hang(_: Received) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    shop.receiver.script = hang
    with pytest.raises(SinkAway, match="no answer within"):
        await deliver(shop.sink(timeout_seconds=0.2), [Feeder().result("a")])
    assert shop.outbox.standing()[0] == 0


async def test_410_stops_the_endpoint_until_a_person_enables_it(shop: Shop, log: SqliteLog) -> None:
    """Its group stands still, over restarts; enabled again it gets everything."""
    shop.receiver.script = lambda _: web.Response(status=410)
    await log.append([Feeder().result("a")])
    with pytest.raises(EndpointDisabled, match="penstock webhook enable shop"):
        async with delivering(shop.sink(), log) as loop:
            await until(lambda: loop.fault, "it stopped")
    with pytest.raises(EndpointDisabled):
        await deliver(shop.sink(), [])
    assert len(shop.receiver.tried) == 1
    shop.receiver.script = None
    shop.outbox.enable()
    async with delivering(shop.sink(), log):
        await until(lambda: shop.receiver.events() == ["a"], "it arrived")
    assert await letters_in(log) == []


async def test_410_to_a_message_of_the_outbox_stops_it_too(shop: Shop, log: SqliteLog) -> None:
    """Found by the task that tries again: the loop is told, the message waits on."""
    shop.receiver.script = of_event("a", 500, 1)
    feed = Feeder()
    await deliver(shop.sink(attempts=10, wait_seconds=600.0), [feed.result("b"), feed.result("a")])
    assert shop.outbox.standing()[0] == 1
    shop.receiver.script = of_event("a", 410)
    shop.outbox.hurry()
    with pytest.raises(EndpointDisabled):
        async with delivering(shop.sink(), log) as loop:
            await until(lambda: loop.fault, "it stopped")
    assert shop.outbox.standing()[0] == 1


# --- a message fails


@pytest.mark.parametrize("status", [302, 400, 404, 500])
async def test_a_message_that_fails_lets_the_others_pass(shop: Shop, log: SqliteLog, status: int) -> None:
    """It waits in the outbox, is tried on the schedule, with the same id and another time, and arrives."""
    shop.receiver.script = of_event("b", status, 3)
    feed = Feeder()
    async with delivering(shop.sink(), log):
        await log.append([feed.result("a"), feed.result("b"), feed.result("c")])
        await until(lambda: len(shop.receiver.taken) == 3, "all arrived")
        await until(lambda: shop.outbox.standing()[0] == 0, "nothing waits")
    tries = [one.id for one in shop.receiver.tried if one.data["event_id"] == "b"]
    assert len(tries) == 4
    assert len(set(tries)) == 1
    noted = shop.outbox.attempts(100, tries[0])
    assert sorted(row["attempt"] for row in noted) == [1, 2, 3, 4]
    assert [row["status"] for row in noted] == [204, status, status, status]


async def test_after_the_last_attempt_it_is_a_dead_letter(shop: Shop, log: SqliteLog) -> None:
    """`stage=deliver`, byte for byte, with the number of attempts; once, and the outbox is empty."""
    shop.receiver.script = of_event("b", 400)
    feed = Feeder()
    poison = feed.result("b")
    async with delivering(shop.sink(attempts=4), log) as loop:
        await log.append([feed.result("a"), poison])
        await until(lambda: loop.counts.letters == 1, "the letter is committed")
        await until(lambda: shop.outbox.standing()[0] == 0, "it left the outbox")
    (letter,) = await letters_in(log)
    headers = dict(letter.headers)
    assert letter.value == poison.value
    assert (headers["penstock.errors.stage"], headers["penstock.errors.reason"]) == (b"deliver", b"not_taken")
    assert headers["penstock.errors.attempts"] == b"4"


async def test_a_message_that_makes_the_receiver_hang_is_found_out(shop: Shop, log: SqliteLog) -> None:
    """Alone it looks like weather; a message that says nothing passes, so it is the message that waits."""
    shop.receiver.script = of_event("a", 503, 8)
    feed = Feeder()
    async with delivering(shop.sink(attempts=100), log):
        await log.append([feed.result("a")])
        await until(lambda: shop.outbox.standing()[0] == 1, "it waits in the outbox")
        await log.append([feed.result("b")])
        await until(lambda: set(shop.receiver.events()) == {"a", "b"}, "both arrived")


async def test_the_outbox_has_a_bound(shop: Shop) -> None:
    """When it is full the endpoint's group stands still; nothing is dropped."""
    shop.receiver.script = lambda found: web.Response(status=400) if found.data["event_id"] != "ok" else None
    feed = Feeder()
    records = [feed.result("ok"), *(feed.result(f"{number}") for number in range(5))]
    with pytest.raises(SinkAway, match="max_waiting"):
        await deliver(shop.sink(max_waiting=3), records)
    assert shop.outbox.standing()[0] == 3


async def test_a_restart_keeps_the_outbox(shop: Shop) -> None:
    """Another process goes on where the first one was."""
    shop.receiver.script = of_event("b", 500)
    feed = Feeder()
    await deliver(shop.sink(attempts=1_000), [feed.result("a"), feed.result("b")])
    shop.receiver.script = None
    sink = shop.sink()
    await sink.open()
    try:
        await until(lambda: shop.receiver.events() == ["a", "b"], "it arrived")
    finally:
        await sink.close()


@pytest.mark.slow
async def test_what_is_claimed_while_a_process_stops_is_given_back(receiver: Receiver, postgres: Any) -> None:
    """A claim that is under way when its process is told to stop holds nothing up: the next process may send it at once."""
    shop = Shop(receiver, postgres.make())
    upgrade(shop.engine)
    receiver.script = of_event("b", 500)
    feed = Feeder()
    sink = shop.sink(wait_seconds=3_600)
    await sink.open()
    await sink.deliver(deliveries([feed.result("a"), feed.result("b")]))
    with shop.engine.begin() as writer:  # the claim waits for it, and will find the message due
        writer.execute(sql("LOCK TABLE webhook_messages IN EXCLUSIVE MODE"))
        writer.execute(update(webhook_messages).values(next_at=datetime.now(UTC) - timedelta(hours=1)))
        await asyncio.sleep(0.5)
        closing = asyncio.create_task(sink.close())
        await asyncio.sleep(0.2)
    await closing
    with shop.engine.connect() as reader:
        assert reader.execute(select(webhook_messages.c.claimed_until)).scalars().all() == [None]
    shop.engine.dispose()


async def test_a_paused_endpoint_is_left_alone(shop: Shop, log: SqliteLog) -> None:
    """A pause holds what waits in the outbox too, also for a process that starts into it; it goes on when a person says so."""
    shop.receiver.script = of_event("b", 500)
    feed = Feeder()
    await deliver(shop.sink(attempts=1_000), [feed.result("a"), feed.result("b")])
    await log.append([pause_order("sink.webhook.shop")])
    tried = len(shop.receiver.tried)
    shop.receiver.script = None
    async with delivering(shop.sink(), log) as loop:
        await until(lambda: loop.orders.is_paused, "it knows")
        await asyncio.sleep(0.3)
        assert len(shop.receiver.tried) == tried
        await log.append([resume_order("sink.webhook.shop")])
        await until(lambda: shop.receiver.events() == ["a", "b"], "it arrived")


async def test_two_processes_never_try_one_message_at_once(shop: Shop) -> None:
    """Who tries it has claimed it; a claim that ran out gives it back."""
    one = message_of(deliveries([Feeder().result("a")])[0]).waiting(1, -1.0, "x")
    shop.outbox.put([one], 10)
    assert [found.id for found in shop.outbox.claim(10, 60.0)] == [one.id]
    assert shop.outbox.claim(10, 60.0) == []
    shop.outbox.release([one.id])
    assert [found.id for found in shop.outbox.claim(10, -1.0)] == [one.id]
    (again,) = shop.outbox.claim(10, 60.0)
    assert replace(again, next_at=one.next_at) == one


async def test_the_final_one_makes_a_waiting_provisional_one_superfluous(shop: Shop, log: SqliteLog) -> None:
    """It never arrives behind the one that superseded it."""
    shop.receiver.script = lambda found: web.Response(status=500) if found.type == "penstock.provisional.v1" else None
    feed = Feeder()
    first, final = feed.result("a", "bad", lane="person"), feed.result("a", "good")
    async with delivering(shop.sink(attempts=10_000), log):
        await log.append([feed.result("b"), first])
        await until(lambda: shop.outbox.standing()[0] == 1, "the provisional one waits")
        await log.append([final])
        await until(lambda: shop.receiver.labels().get("a") == "good", "the final one arrived")
        await until(lambda: shop.outbox.standing()[0] == 0, "the provisional one is gone")
    assert shop.receiver.labels() == {"a": "good", "b": "good"}


async def test_a_final_one_of_the_same_batch_is_not_overtaken(shop: Shop) -> None:
    """The provisional one fails once while others pass: it comes before the final one of the same batch or never."""
    failed: list[str] = []

    def fails_once(found: Received) -> web.Response | None:
        if found.type != "penstock.provisional.v1" or failed:
            return None
        failed.append(found.id)
        return web.Response(status=500)

    shop.receiver.script = fails_once
    feed = Feeder()
    records = [feed.result("b"), feed.result("a", "bad", lane="person"), feed.result("a", "good")]
    await deliver(shop.sink(), records)
    sink = shop.sink()
    await sink.open()
    try:
        await until(lambda: shop.outbox.standing()[0] == 0, "nothing waits")
    finally:
        await sink.close()
    assert failed
    assert shop.receiver.labels() == {"a": "good", "b": "good"}
    types = [one.type for one in shop.receiver.taken if one.data["event_id"] == "a"]
    assert types in (["penstock.result.v1"], ["penstock.provisional.v1", "penstock.result.v1"])


def test_what_is_under_way_is_not_superseded(shop: Shop) -> None:
    """A message that somebody has claimed stays, and its successor hears that it must wait behind it."""
    feed = Feeder()
    first, final = (message_of(one) for one in deliveries([feed.result("a", lane="person"), feed.result("a")]))
    assert shop.outbox.supersede(final.event, final.rank)
    shop.outbox.put([first.waiting(1, -1.0, "x")], 10)
    assert [one.id for one in shop.outbox.claim(10, 60.0)] == [first.id]
    assert not shop.outbox.supersede(final.event, final.rank)
    assert shop.outbox.standing()[0] == 1
    shop.outbox.release([first.id])
    assert shop.outbox.supersede(final.event, final.rank)
    assert shop.outbox.standing()[0] == 0


async def test_an_erasure_empties_the_outbox_of_what_it_covers(shop: Shop) -> None:
    """What waits of an erased subject is never sent; its neighbours are."""
    shop.receiver.script = lambda found: web.Response(status=500) if found.data["event_id"] in "ab" else None
    feed = Feeder()
    records = [feed.result("ok"), feed.result("a", subject="s", key=b"k"), feed.result("b", subject="t", key=b"l")]
    await deliver(shop.sink(wait_seconds=600.0), records)
    assert shop.outbox.standing()[0] == 2
    erasure = [one for one in feed.erasure("gone", "s", key=b"k") if one.topic == "labels"]
    shop.outbox.hurry()
    under_way = [one.id for one in shop.outbox.claim(10, 60.0)]
    assert len(under_way) == 2
    with pytest.raises(SinkAway, match="under way"):
        await deliver(shop.sink(), erasure, first=3)
    shop.outbox.release(under_way)
    with shop.engine.begin() as connection:
        connection.execute(webhook_messages.update().values(next_at=datetime.now(UTC) + timedelta(hours=1)))
    await deliver(shop.sink(), erasure, first=3)
    assert [one.type for one in shop.receiver.taken] == ["penstock.result.v1", "penstock.erased.v1"]
    assert shop.outbox.standing()[0] == 1


# --- what is told


async def test_no_secret_and_no_path_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs, errors, metrics or the delivery log, whatever the receiver does."""
    caplog.set_level(logging.DEBUG)
    sink = shop.sink()
    feed = Feeder()
    told = []
    for status in (500, 503, 302, 410):
        shop.receiver.script = of_event("a", status)
        try:
            await deliver(sink := shop.sink(), [feed.result("b"), feed.result("a")])
        except (SinkAway, EndpointDisabled) as error:
            told.append(str(error))
    told += [caplog.text, json.dumps(shop.outbox.attempts(100), default=str), str(list(sink.samples())), repr(sink)]
    told.append(repr(shop.receiver.options()))
    assert len(told) > 4
    for text in told[:-1]:
        assert "s3cr3t-path" not in text
    for text in told:
        assert SECRET.removeprefix("whsec_") not in text


async def test_old_lines_of_the_delivery_log_go(shop: Shop) -> None:
    """After `keep_log_days`, and not before."""
    await deliver(shop.sink(), [Feeder().result("a")])
    assert shop.outbox.prune(1.0) == 0
    assert len(shop.outbox.attempts(10)) == 1
    await asyncio.sleep(0.01)
    assert shop.outbox.prune(1e-9) == 1
    assert shop.outbox.attempts(10) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": ""}, "sinks.webhooks.shop.url is missing"),
        ({"url": "http://shop.example.com/"}, "use https"),
        ({"secrets": secret_of("")}, "sinks.webhooks.shop.secrets is empty"),
        ({"secrets": secret_of("hunter2")}, "sinks.webhooks.shop.secrets"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, Any], said: str) -> None:
    """Before anything is connected, with what to write instead and without the secret."""
    options = replace(WebhookOptions(url="https://shop.example.com/", secrets=secret_of(SECRET)), **changed)
    with pytest.raises(SettingsError, match=said) as error:
        WebhookSink("shop", options, DatabaseOptions())
    assert "hunter2" not in str(error.value)
    with pytest.raises(SettingsError, match="max_concurrent"):
        WebhookOptions(max_concurrent=0)


def test_an_unknown_endpoint_is_named() -> None:
    """With those that there are."""
    from penstock.settings import load_settings

    settings = load_settings(None, ["sinks.webhooks.shop.url=https://shop.example.com/"]).settings
    with pytest.raises(SettingsError, match="there are shop"):
        made_sinks("webhook.shpo", settings, [])
    with pytest.raises(SettingsError, match="secrets is empty"):
        made_sinks("webhooks", settings, [])
