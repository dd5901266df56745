"""A console as its readers see it: a real gateway with a database that a real sink filled, and what its pages hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import aiohttp
from pydantic import BaseModel
from sqlalchemy import insert

from gateway_calls import options_in, started
from penstock import NewRecord, Route, Task
from penstock.errors import SinkAway
from penstock.log.base import EventLog, TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.topics import topic_specs
from penstock.sinks.database import DatabaseSink
from penstock.sinks.reading import feeds_of
from penstock.store.options import DatabaseOptions
from penstock.store.schema import connect, upgrade
from penstock.store.tables import costs, dead_letters, verdicts
from penstock.web.build import build_server
from penstock.web.pages.console import ConsoleParts
from penstock.web.pages.options import ConsoleOptions
from sink_feed import TASK, deliveries

QUICK = SqliteOptions(synchronous="normal")
NOW = datetime.now(UTC).replace(microsecond=0)
VOID = frozenset({"meta", "link", "img", "input", "br"})


class Rich(BaseModel):
    """An output with every kind of closed values."""

    decision: Literal["yes", "no"] = "yes"
    colour: Literal["red", "green", "blue"] = "red"
    urgent: bool = False
    stars: Literal[1, 2, 3] = 1
    tags: list[Literal["a", "b", "c"]] = []
    why: str = ""


RICH: Task[Any, Any] = Task(
    "rich", reads="notes", writes="riches", dead_letters="riches-dlq", input=TASK.input, output=Rich,
    instructions="Decide.", route=Route("haiku"),
)  # fmt: skip


@dataclass
class Node:
    """An element."""

    tag: str
    attrs: dict[str, str]
    parts: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Of it and all below it."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    def all(self, tag: str = "", **attrs: str) -> list[Node]:
        """Below it, in order; `cls` is one of the classes."""
        found: list[Node] = []
        for part in self.parts:
            if isinstance(part, str):
                continue
            if (not tag or part.tag == tag) and all(part.has(name, value) for name, value in attrs.items()):
                found.append(part)
            found += part.all(tag, **attrs)
        return found

    def has(self, name: str, value: str) -> bool:
        if name == "cls":
            return value in self.attrs.get("class", "").split()
        return self.attrs.get(name.replace("_", "-")) == value


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def read(html: str) -> Node:
    """A page as a tree; every element must be closed where it belongs."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is never closed"
    return reader.root


@dataclass
class Seen:
    """One answer."""

    status: int
    headers: Any
    html: str
    url: str = ""

    @property
    def tree(self) -> Node:
        return read(self.html)

    @property
    def text(self) -> str:
        """What a person reads, blanks as one."""
        (main,) = self.tree.all("main")
        return " ".join(main.text.split())

    @property
    def ids(self) -> list[str]:
        """The events of a list, from the top."""
        return [cell.text.strip() for cell in self.tree.all("td", cls="id")]

    def link(self, go: str) -> str:
        """Where a link of the page leads; empty where it has none."""
        return next((one.attrs["href"] for one in self.tree.all("a", data_go=go)), "")


class Reader:
    """Somebody who looks."""

    def __init__(self, session: aiohttp.ClientSession, url: str, log: EventLog) -> None:
        self.session, self.url, self.log = session, url, log

    async def get(self, path: str, **headers: str) -> Seen:
        """A page; a redirect is not followed."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(self.url + path, headers=sent, allow_redirects=False) as reply:
            return Seen(reply.status, reply.headers, await reply.text(), str(reply.url))

    async def post(self, path: str, form: dict[str, str], **headers: str) -> Seen:
        """A form as our own page sends it, unless other headers are given."""
        sent = {"sec-fetch-site": "same-origin"} | {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value}
        async with self.session.post(self.url + path, data=form, headers=sent, allow_redirects=False) as reply:
            return Seen(reply.status, reply.headers, await reply.text())


@asynccontextmanager
async def looking(
    directory: Path,
    database: DatabaseOptions,
    *,
    tasks: Sequence[Task[Any, Any]] = (TASK, RICH),
    endpoints: Sequence[str] = (),
    auth: Literal["keys", "none"] = "none",
    events: Sequence[NewRecord] = (),
    log: EventLog | None = None,
    drain_seconds: float = 10.0,
    **settings: Any,
) -> AsyncIterator[Reader]:
    """A gateway with its console over HTTP. `events` are in the log's topic, from offset 0 on."""
    log = log or SqliteLog(directory / "log.db", options=QUICK)
    specs = {spec.name: spec for task in tasks for spec in topic_specs(task, 1)} | {
        task.reads: TopicSpec(task.reads, 1) for task in tasks
    }
    await log.create_topics(list(specs.values()))
    if events:
        await log.append(events)
    console = ConsoleParts(
        options=ConsoleOptions(**{"live_seconds": 0.05, **settings}),
        database=database,
        log_place=f"test:{directory}",
        endpoints=endpoints,
    )
    server = build_server(tasks, log, options_in(directory, auth=auth, drain_seconds=drain_seconds), console=console)
    running = asyncio.create_task(server.run())
    try:
        await started(server, running)
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            yield Reader(session, server.url, log)
    finally:
        server.stop()
        await running


async def fill(options: DatabaseOptions, *records: NewRecord, tasks: Sequence[Task[Any, Any]] = (TASK, RICH)) -> None:
    """What a worker wrote, through the database's sink."""
    engine = connect(options)
    await asyncio.to_thread(upgrade, engine)
    engine.dispose()
    sink = DatabaseSink(options, feeds_of(list(tasks)))
    await sink.open()
    try:
        while True:
            try:
                assert await sink.deliver(deliveries(records)) == []
            except SinkAway:  # another test of this machine is slow
                continue
            break
    finally:
        await sink.close()


def verdict(event_id: str, at: datetime = NOW, task: str = "rich", **given: Any) -> dict[str, Any]:
    output = given.pop("output", {"decision": "yes"})
    row: dict[str, Any] = {
        "task": task, "event_id": event_id, "result_id": f"r-{task}-{event_id}"[:64], "subject": event_id,
        "label": output.get("decision"), "confidence": "sure", "needs_review": False, "provisional": False,
        "supersedes": None, "simulated": False, "output": output, "tier": "haiku", "model": "m", "prompt": "p",
        "policy": "", "attempts": 1, "nanousd": 70, "produced_at": at, "answered_at": at, "committed_at": at,
        "generation": 0, "key": None, "source_topic": "notes", "source_partition": 0, "source_offset": 0, "log_offset": 0,
    }  # fmt: skip
    return row | given


def letter(letter_id: str, at: datetime = NOW, task: str = "rich", **given: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": letter_id, "task": task, "event_id": letter_id, "subject": letter_id, "stage": "answer",
        "reason": "refused", "detail": "nobody would", "attempts": 2, "nanousd": 5, "first_at": at, "last_at": at,
        "committed_at": at, "is_pointer": False, "key": None, "value": b"{}", "source_topic": "notes",
        "source_partition": 0, "source_offset": 0, "log_topic": "d", "log_partition": 0, "log_offset": 0,
    }  # fmt: skip
    return row | given


def cost(result_id: str, at: datetime = NOW, task: str = "rich", **given: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "result_id": result_id, "task": task, "kind": "result", "model": "model-1", "tier": "haiku", "simulated": False,
        "committed_at": at, "nanousd": 1_000_000, "input_tokens": 1, "cache_write_tokens": 0, "cache_read_tokens": 0,
        "output_tokens": 1,
    }  # fmt: skip
    return row | given


async def put(options: DatabaseOptions, *rows: dict[str, Any]) -> None:
    """Rows as they are, without a sink."""

    def write() -> None:
        engine = connect(options)
        upgrade(engine)
        with engine.begin() as connection:
            for table, mark in ((verdicts, "output"), (dead_letters, "detail"), (costs, "input_tokens")):
                some = [row for row in rows if mark in row]
                if some:
                    connection.execute(insert(table), some)
        engine.dispose()

    await asyncio.to_thread(write)
