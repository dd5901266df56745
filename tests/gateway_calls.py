"""A gateway as its callers see it: a real server on a free port of this machine, and a client that speaks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import aiohttp
from pydantic import BaseModel, ConfigDict, Field

from penstock import Route, Task
from penstock.log.base import EventLog
from penstock.log.topics import topic_specs
from penstock.web.build import build_server
from penstock.web.keys import SCOPES, add_key, new_key
from penstock.web.options import GatewayOptions
from penstock.web.server import WebServer

PATIENCE_SECONDS = 60
SECRET_TEXT = "what-nobody-may-read-in-an-error"


class Order(BaseModel):
    """An input with an id, a key and types that can be wrong."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=100)
    text: str
    shop: str = "one"
    amount: int = Field(1, ge=0, le=1_000_000)


class Verdict(BaseModel):
    """An output."""

    label: Literal["good", "bad"] = "good"


def order_task(name: str = "orders-checker", reads: str = "orders", **settings: Any) -> Task[Any, Any]:
    """A task that reads orders."""
    settings = {"input": Order, "route": Route("haiku")} | settings
    return Task(name, reads=reads, output=Verdict, instructions="Decide.", **settings)


def order(number: int | str, **fields: Any) -> dict[str, Any]:
    """An event that is right."""
    return {"id": f"o-{number}", "text": f"order {number}", **fields}


class Client:
    """Speaks to one gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str = "") -> None:
        self.session, self.url, self.key = session, url, key

    async def post(self, content: Any = None, *, path: str = "/v1/events", data: Any = None, **headers: str):
        """Status, decoded answer, headers. Names of headers with `_` for `-`."""
        sent = {"content-type": "application/json", **self._headers(headers)}
        given = {"json": content} if data is None else {"data": data}
        async with self.session.post(self.url + path, headers=sent, **given) as reply:
            return reply.status, await reply.json(content_type=None), reply.headers

    async def get(self, event_id: str, *, path: str = "/v1/events", wait: str = "", **headers: str):
        """Status and decoded answer."""
        asked = {"wait": wait} if wait else {}
        async with self.session.get(
            f"{self.url}{path}/{event_id}", params=asked, headers=self._headers(headers)
        ) as reply:
            return reply.status, await reply.json(content_type=None)

    def _headers(self, given: dict[str, str]) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in given.items()}
        return ({"authorization": f"Bearer {self.key}"} if self.key else {}) | named


def made_key(file: Path, name: str = "shop", scopes: Sequence[str] = SCOPES, **settings: Any) -> str:
    """A new key in the file."""
    key, shown = new_key(name, scopes, **settings)
    add_key(file, key)
    return shown


def options_in(directory: Path, **settings: Any) -> GatewayOptions:
    """A gateway without keys on a free port."""
    quick = GatewayOptions(
        port=0, auth="none", ledger_file=directory / "ledger.db", keys_file=directory / "keys.toml", tail_seconds=0.02
    )
    return replace(quick, **settings)


@asynccontextmanager
async def serving(
    log: EventLog, options: GatewayOptions, *tasks: Task[Any, Any], key: str = "", makes_topics: bool = True
) -> AsyncIterator[Client]:
    """A server over HTTP, closed with its log."""
    tasks = tasks or (order_task(),)
    if makes_topics:
        await log.create_topics([spec for task in tasks for spec in topic_specs(task, 3)])
    server = build_server(tasks, log, options)
    running = asyncio.create_task(server.run())
    try:
        await started(server, running)
        async with aiohttp.ClientSession() as session:
            yield Client(session, server.url, key)
    finally:
        await stopped(server, running)


async def started(server: WebServer, running: asyncio.Task[None]) -> None:
    """Wait for it; what stopped it is raised."""
    waiting = asyncio.create_task(server.started.wait())
    done, _ = await asyncio.wait([waiting, running], timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert done, f"the gateway did not start within {PATIENCE_SECONDS} s"
    if running.done():
        await running


async def stopped(server: WebServer, running: asyncio.Task[None]) -> None:
    """Tell it to end and wait for that."""
    server.stop()
    done, _ = await asyncio.wait([running], timeout=PATIENCE_SECONDS)
    assert done, f"the gateway did not end within {PATIENCE_SECONDS} s of being told"
    await running
