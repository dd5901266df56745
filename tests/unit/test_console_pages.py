"""The console's other pages over HTTP, on SQLite and PostgreSQL: one event, one dead letter, the overview."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from console_calls import NOW, RICH, cost, fill, letter, looking, put, verdict
from gateway_calls import order_task
from penstock import NewRecord, SinkAway
from penstock.engine.cascade import Ending
from penstock.log.base import PartProgress, Progress, TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.ops.deliveries import DeliveryOps
from penstock.ops.server import OpsOptions
from penstock.ops.why import status_page
from penstock.outcome import Answer, Charge, Responder
from penstock.sinks.slack.digests import Digest, Fingerprint
from penstock.sinks.slack.message import message_of
from penstock.sinks.slack.options import SlackOptions
from penstock.store.options import DatabaseOptions
from penstock.store.outbox import Outbox
from penstock.store.schema import connect
from sink_feed import Feeder, Remembering, deliveries, delivering, made_topics, until

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    if request.param == "sqlite":
        return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")
    return DatabaseOptions(url=request.getfixturevalue("postgres").make())


def event_page(event_id: str, task: str = "labeler") -> str:
    return f"/console/event?task={quote(task, safe='')}&event_id={quote(event_id, safe='')}"


def source(text: str, **given: Any) -> NewRecord:
    return NewRecord("notes", b"key-1", text.encode(), given.get("headers", ()), 1_795_000_000_000)


# --- one event --------------------------------------------------------------------------------------------------------


async def test_an_event_is_shown_with_every_tasks_verdict(tmp_path, database):
    """Its own text from the log, and of each task label, confidence, fields, who answered, attempts, cost, times, marks."""
    of_rich = Feeder(RICH)
    item = of_rich.item("e-1", offset=0)
    item.charges = [Charge("c", "model-9", 1_500_000, 10, 0, 0, 3)]
    answer = Answer(
        RICH.output(decision="no", tags=["a", "c"], why="bought it twice"),
        "likely",
        Responder("sonnet", "model-9", "p", simulated=True),
    )
    rich = of_rich._encoded(Ending(item, answer))
    await fill(database, Feeder().result("e-1", "bad", offset=0), rich)
    events = [
        source('{"text": "I bought it twice", "n": {"deep": [1]}}', headers=(("ce_id", b"e-1"), ("odd", b"\xff")))
    ]
    async with looking(tmp_path, database, events=events) as reader:
        page = await reader.get(event_page("e-1", "rich"))
    first, second = page.tree.all("section", cls="card")[:2]
    for told in (
        "rich",
        "no",
        "likely",
        "a, c",
        "bought it twice",
        "sonnet",
        "model-9",
        "$0.0015",
        "simulated",
        "committed",
    ):
        assert told in first.text
    assert ("labeler" in second.text, "bad" in second.text, "sure" in second.text, "simulated" in second.text) == (
        True,
        True,
        True,
        False,
    )
    (own,) = page.tree.all("section", cls="source")
    assert "I bought it twice" in own.text
    assert [mark.text for mark in own.all("mark")] == ["bought it twice"]
    assert ('"deep"' in own.text, "ce_id" in own.text, "\\xff" in own.text, "key-1" in own.text) == (True,) * 4
    assert "notes/0 offset 0" in page.text


async def test_what_happened_is_told_in_its_order(tmp_path, database):
    """A dead letter, a provisional verdict, the final one that superseded it after a redrive: what is known, oldest first."""
    at = [NOW - timedelta(minutes=minutes) for minutes in (9, 8, 7, 6)]
    rows = [letter("x", at[1], event_id="e-1"), cost("r-1", at[2])]
    await put(database, *rows, verdict("e-1", at[2], provisional=True, produced_at=at[0], result_id="r-1"))
    async with looking(tmp_path, database, tasks=[RICH]) as reader:
        before = await reader.get(event_page("e-1", "rich"))
        final = verdict("e-1", at[3], result_id="r-2", supersedes="r-1", generation=1, produced_at=at[0], label="no")
        await put(database, final | {"task": "again"})
        after = await reader.get(event_page("e-1", "again"))
    assert "provisional" in before.tree.all("section", cls="card")[0].text
    (steps,) = after.tree.all("ol", cls="steps")
    told = [" ".join(step.text.split()) for step in steps.all("li")]
    parts = ("produced", "dead letter", "again: provisional verdict by model-1", "again: final verdict no")
    order = [next(n for n, text in enumerate(told) if part in text) for part in parts]
    assert order == sorted(order)
    assert any("again: sent through again once" in text for text in told)


async def test_what_was_erased_is_not_shown(tmp_path, database):
    """Neither the verdict, which is gone, nor the text, which the log may hold for long: also where another task still has one."""
    feeder, rich = Feeder(), Feeder(RICH)
    item = rich.item("e-1", offset=0)
    other = rich._encoded(Ending(item, Answer(RICH.output(), "sure", Responder("haiku"))))
    await fill(database, feeder.result("e-1", offset=0), feeder.result("gone", offset=1), other)
    await fill(database, *feeder.erasure("e-2", "e-1", offset=5), *feeder.erasure("e-3", "gone", offset=6))
    events = [source('{"text": "my secret"}'), source('{"text": "my secret"}')]
    async with looking(tmp_path, database, events=events) as reader:
        left, gone = await reader.get(event_page("e-1")), await reader.get(event_page("gone"))
    assert ("erased" in left.text, "rich" in left.text, "my secret" in left.text) == (True, True, False)
    assert (gone.status, "This event was erased" in gone.text, "my secret" in gone.text) == (200, True, False)


async def test_an_event_that_nobody_ended_says_what_is_known(tmp_path, database):
    """Accepted and waiting; ended but not in the database; never heard of: three different pages."""
    await fill(database)
    task = order_task()
    async with looking(tmp_path, database, tasks=[task]) as reader:
        async with reader.session.post(f"{reader.url}/v1/events", json={"id": "o-1", "text": "x"}) as reply:
            assert reply.status == 202
        waits = await reader.get(event_page("o-1", task.name))
        feeder = Feeder(task)
        await reader.log.append([feeder.letter("o-1", offset=0)])
        for _ in range(500):
            ended = await reader.get(event_page("o-1", task.name))
            if "It waits" not in ended.text:
                break
            await asyncio.sleep(0.02)
        unknown = await reader.get(event_page("o-2", task.name))
        nothing = await reader.get("/console/event")
    assert (waits.status, "It waits" in waits.text) == (200, True)
    assert (ended.status, "Not in the database yet" in ended.text, "dead letter" in ended.text) == (200, True, True)
    assert (unknown.status, "Nothing is known of it" in unknown.text, nothing.status) == (404, True, 404)


async def test_an_event_that_the_log_has_lost_keeps_its_verdict(tmp_path, database):
    """Older than the topic's retention, or a log that does not answer: the page says why there is no text."""

    class Away(SqliteLog):
        async def read(self, partition, offset, max_records):
            if partition.topic == "notes":
                await asyncio.sleep(30)
            return await super().read(partition, offset, max_records)

    await fill(database, Feeder().result("e-1", offset=7))
    async with looking(tmp_path, database) as reader:
        lost = await reader.get(event_page("e-1"))
    async with looking(tmp_path, database, log=Away(tmp_path / "other.db"), log_seconds=0.1) as reader:
        away = await reader.get(event_page("e-1"))
        reading = {task for task in asyncio.all_tasks() if "Away.read" in str(task)}
        for task in reading:
            task.cancel()
    assert (lost.status, "older than its topic's retention" in lost.text, "good" in lost.text) == (200, True, True)
    assert (away.status, "did not answer within 0.1 s" in away.text, "good" in away.text) == (200, True, True)


async def test_ids_of_every_kind_have_a_page(tmp_path, database):
    """Slashes, dots, signs of addresses, other scripts: what a list links to is the event's page."""
    ids = ["..", ".", "a/b/../c", "x?y#z&q=1", "100%", "ü  漢", "<b>", " ", "a" * 500, "q\"'`"]
    feeder = Feeder()
    await fill(database, *(feeder.result(name) for name in ids))
    async with looking(tmp_path, database) as reader:
        listed = await reader.get("/console/events")
        links = [cell.all("a")[0].attrs["href"] for cell in listed.tree.all("td", cls="id")]
        pages = [await reader.get(link) for link in links]
    assert [page.status for page in pages] == [200] * len(ids)
    assert all(page.tree.all("section", cls="card") for page in pages)


async def test_a_link_of_the_slack_sink_opens_the_events_page(tmp_path, database):
    """`console_url` as it is documented, filled in by the sink, is the address of this event and task."""
    ids = ["e-1", "a/b ?&#<é>|"]
    feeder = Feeder()
    records = [feeder.result(name) for name in ids]
    await fill(database, *records)
    async with looking(tmp_path, database) as reader:
        template = documented_url().replace("https://penstock.example.com", reader.url)
        for name, delivery in zip(ids, deliveries(records), strict=True):
            digest = Digest(Fingerprint("labeler", "result", ()), 0.0)
            digest.add(delivery, 1)
            payload = message_of(digest, SlackOptions(console_url=template)).payload()
            (link,) = set(re.findall(r"<(http[^|>]+)\|", str(payload["blocks"])))
            address = urlsplit(html.unescape(link))
            page = await reader.get(f"{address.path}?{address.query}")
            (title,) = page.tree.all("h1")
            assert (page.status, title.text, "labeler" in page.tree.all("section", cls="card")[0].text) == (
                200,
                name,
                True,
            )


def documented_url() -> str:
    """As the page on Slack has it."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "deliver-to-slack.md").read_text()
    (url,) = re.findall(r'^console_url = "(.+)"', page, re.MULTILINE)
    return str(url)


# --- one dead letter ------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_shown_with_its_events_bytes(tmp_path, database):
    """Why, where, how often, at what cost; the event as text where it is text, as hexadecimal where it is none."""
    await put(
        database,
        letter("l-json", value='{"text": "ü"}'.encode(), key=b"k", nanousd=2_000_000, attempts=4),
        letter("l-bytes", value=b"\xff\x00\x01 abc", reason="undecodable", stage="intake"),
        letter("l-text", value=b"<b>not json</b>"),
        letter("l-large", value=b'{"a": "' + b"x" * 300_000 + b'"}'),
        letter("l-pointer", value=b'{"topic": "notes"}', is_pointer=True),
        letter("l-null", value=None),
    )
    async with looking(tmp_path, database, events=[source('{"text": "the large one"}')]) as reader:
        names = ("l-json", "l-bytes", "l-text", "l-large", "l-pointer", "l-null", "l-none")
        pages = {name: await reader.get(f"/console/letter?id={name}") for name in names}
    told = {name: page.text for name, page in pages.items()}
    assert [page.status for page in pages.values()] == [200] * 6 + [404]
    assert all(part in told["l-json"] for part in ("refused", "nobody would", "ü", "$0.0020", "4"))
    assert "ff 00 01 20 61 62 63" in told["l-bytes"]
    assert "<b>not json</b>" in told["l-text"]
    assert ("300,009 bytes" in told["l-large"], len(told["l-large"]) < 50_000) == (True, True)
    assert "the large one" in told["l-pointer"]
    assert "No such dead letter" in told["l-none"]


# --- the overview ----------------------------------------------------------------------------------------------------


async def test_the_overview_counts_what_was_decided(tmp_path, database):
    """By class in the last hour and day, dead letters by reason, cost, what a person shall see; other tasks' rows too."""
    ages = (0, 1, 2, 61, 90, 60 * 20, 60 * 30)
    rows = [verdict(f"y{n}", NOW - timedelta(minutes=m)) for n, m in enumerate(ages)]
    rows += [
        verdict("n1", NOW, output={"decision": "no"}, needs_review=True),
        letter("d1"),
        verdict("s1", NOW, "stranger", label=None),
    ]
    rows += [cost("c1", nanousd=2_000_000_000), cost("c2", NOW - timedelta(hours=5), nanousd=500_000_000)]
    await put(database, *rows)
    async with looking(tmp_path, database) as reader:
        page = await reader.get("/console/")
        links = [one.attrs["href"] for one in page.tree.all("table", cls="classes")[0].all("a")]
        lists = [sorted((await reader.get(link)).ids) for link in links]
    assert [one.text for one in page.tree.all("section", cls="task")[1].all("h2")] == ["rich"]
    tables = {
        section.all("h2")[0].text: [
            [cell.text.strip() for cell in row.all("td")[:3]] for row in section.all("tr", data_row="")
        ]
        for section in page.tree.all("section", cls="task")
    }
    assert tables["rich"] == [["yes", "3", "6"], ["no", "1", "1"], ["refused", "1", "1"]]
    assert tables["stranger"] == [["no label", "1", "1"]]
    assert lists == [["y0", "y1", "y2", "y3", "y4", "y5"], ["n1"], ["d1"]]
    (facts,) = page.tree.all("section", cls="task")[1].all("dl", cls="facts")
    told = {" ".join(one.all("dt")[0].text.split()): one.all("dd")[0].text for one in facts.all("div")}
    assert told | {"now": ""} == {
        "now": "", "last hour": "5", "24 hours": "8", "died, 24 h": "1", "for a person": "1", "skipped": "-",
        "cost, hour": "$2.00", "cost, 24 h": "$2.50",
    }  # fmt: skip
    assert len(page.tree.all("section", cls="task")[1].all("svg")) == 2


async def test_the_overview_tells_who_waits_and_why(tmp_path, database):
    """Lag of groups, sinks by what their processes say, endpoints by their table, skipped events; first what needs a person."""
    await fill(database)
    engine = connect(database)
    Outbox(engine, "shop").disable("answered 410")
    engine.dispose()
    log = SqliteLog(tmp_path / "log.db")
    await made_topics(log)
    await log.create_topics([TopicSpec("notes", 1), TopicSpec("rich.retry", 1)])
    await behind(log, "rich", "notes", 7)
    await log.append([Feeder().result("e-1"), Feeder().result("e-2")])

    def away(_):
        raise SinkAway("disk full")

    async with (
        delivering(Remembering("shelf", away), log) as loop,
        DeliveryOps(OpsOptions(port=0), [loop], log, place=f"test:{tmp_path}") as sinks,
        worker_that_skipped(rich=4) as worker,
    ):
        await until(lambda: loop.trouble.why, "the sink is away")
        await sinks.look()
        workers = tuple(one.removeprefix("http://") for one in (sinks.server.url, worker, "127.0.0.1:1"))
        parts = {"endpoints": ["shop", "idle"], "workers": workers, "live_seconds": 30.0}
        async with looking(tmp_path, database, **parts) as reader:
            page = await reader.get("/console/")
    (first,) = page.tree.all("ul", cls="attention")
    for part in ("sink.shelf: away (disk full)", "rich: 7 wait in notes", "webhook shop is disabled: answered 410"):
        assert part in first.text
    cells = [[cell.text for cell in row.all("td")] for row in page.tree.all("tr") if row.all("td")]
    rows = {one[0]: one for one in cells} | {f"{one[0]} {one[1]}": one for one in reversed(cells)}
    assert (rows["sink.shelf"][2], rows["rich notes"][2], rows["idle"][1]) == ("2", "7", "enabled")
    assert "nobody works on them" in page.text
    assert "http://127.0.0.1:1 did not answer" in page.text
    told = {
        dt.text: dd.text
        for one in page.tree.all("dl", cls="facts")[1:]
        for dt, dd in zip(one.all("dt"), one.all("dd"), strict=True)
    }
    assert told["skipped"] == "4"


async def behind(log: SqliteLog, group: str, topic: str, count: int) -> None:
    """A group that has begun and gone away, and what came since."""
    listener = Noting()
    consumer = await log.join(group, [topic], listener, start_from="earliest")
    while not listener.given:
        await consumer.poll(0, 0.01)
    parts = tuple(PartProgress(one.partition, one.done) for one in listener.given)
    await consumer.commit(Progress(parts))
    await consumer.close()
    await log.append([NewRecord(topic, None, b"{}", (), 1_000) for _ in range(count)])


class Noting:
    """A listener that notes what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    async def assigned(self, assignments):
        self.given += assignments

    async def revoked(self, partitions, deadline):
        pass

    async def lost(self, partitions):
        pass

    async def passed(self, losses):
        pass


@asynccontextmanager
async def worker_that_skipped(**counts: int) -> AsyncIterator[str]:
    """The ops port of a worker, as far as the console asks it."""
    tasks = [{"task": name, "group": name, "skipped": count, "partitions": []} for name, count in counts.items()]

    async def status(_: web.Request) -> web.Response:
        return web.Response(body=status_page("test", tasks=tasks), content_type="application/json")

    app = web.Application()
    app.router.add_get("/status", status)
    async with TestServer(app) as server:
        yield f"http://{server.host}:{server.port}"
