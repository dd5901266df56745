"""CPU of the Claude tier: what an item costs beside the SDK's own call, part by part and over real HTTP.

`python benchmarks/claude_tier.py [--items 50] [--calls 2000]` prints a table; `--json` prints it as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import orjson
import uvloop
from pydantic import BaseModel, Field

from penstock.claude.client import ClaudeClient, ClaudeOptions, read_reply
from penstock.claude.models import Models, Tokens
from penstock.claude.prompt import Prompt, fresh_ids
from penstock.claude.reply import Reply
from penstock.claude.tier import ClaudeTier
from penstock.codecs.text import clean, estimate_tokens
from penstock.flow.concurrency import ConcurrencyOptions
from penstock.flow.gate import Gate
from penstock.flow.limits import LimitOptions
from penstock.record import Partition, Record
from penstock.task import Task
from penstock.tier import Item

SENTENCE = "The kettle boils fast and the handle stays cool, but the lid came loose after two weeks of daily use. "
BODY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "stop_details": None,
    "usage": {
        "input_tokens": 6_200,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2_051,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 900,
        "service_tier": "standard",
        "inference_geo": "global",
    },
}


class Review(BaseModel):
    """About 300 bytes."""

    text: str


class Verdict(BaseModel):
    """Codes always; words where not clean."""

    decision: Literal["publish", "hold", "reject"] = Field(description="What happens to the review")
    violations: list[Literal["spam.advertising", "spam.links", "abuse.insult"]] = []
    evidence: str = ""


TASK = Task("bench", reads="events", input=Review, output=Verdict, instructions="Judge. " * 300)
WIDE = LimitOptions(requests_per_minute=10**7, input_tokens_per_minute=10**10, output_tokens_per_minute=10**10)


def make_items(count: int) -> list[Item]:
    """Rendered items as the engine makes them."""
    items = []
    for number in range(count):
        text = SENTENCE * 3 + str(number)
        shown = orjson.dumps({"text": text}).decode()
        record = Record("events", 0, number, None, b"", (), 0)
        items.append(
            Item(record, Partition("events", 0), str(number), Review(text=text), shown, estimate_tokens(shown))
        )
    return items


def reply_text(ids: list[str]) -> str:
    """One entry in ten is not clean."""
    flagged = {"v": ["1"], "e": "the lid came loose"}
    return orjson.dumps(
        {
            "r": [
                {"i": key, "c": "s", "d": "r" if n % 10 == 0 else "p", **(flagged if n % 10 == 0 else {})}
                for n, key in enumerate(ids)
            ]
        }
    ).decode()


class InstantClient:
    """Answers at once in this process: what is left is the tier's own work (building and reading bodies included)."""

    async def send(self, parameters: dict[str, Any], *, timeout_seconds: float | None = None) -> Reply:  # noqa: ARG002
        """As `ClaudeClient.send`, without the SDK and the network."""
        lines = parameters["messages"][0]["content"][0]["text"].split("\n")[1:]
        body = {**BODY, "content": [{"type": "text", "text": reply_text([line[7:12] for line in lines])}]}
        reply = read_reply(orjson.dumps(body), {"request-id": "req_1"})
        assert isinstance(reply, Reply)
        return reply


def cpu_us(work: Callable[[], Any], times: int) -> float:
    """CPU microseconds of one run, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - started) / times)
    return best * 1e6


async def tier_cpu_us(client: Any, count: int, calls: int, at_once: int) -> float:
    """CPU microseconds of one call through the tier, the best of three rounds."""
    gate = Gate(WIDE, concurrency=ConcurrencyOptions(10**6, start_calls=10**6))
    tier = ClaudeTier("haiku", Models.load().resolve("haiku"), client, gate)
    items = make_items(count)
    await tier.answer(TASK, items)  # the first call on a cold prompt goes alone
    left = 0

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            assert tier.capacity(TASK).items
            outcomes = await tier.answer(TASK, items)
            assert all(type(o).__name__ == "Answer" for o in outcomes), outcomes[0]

    best = float("inf")
    for _ in range(3):
        left = calls
        started = time.process_time()
        await asyncio.gather(*[caller() for _ in range(at_once)])
        best = min(best, (time.process_time() - started) / calls)
    return best * 1e6


def serve(ready: Any) -> None:
    """A server in a process of its own that answers any batch at once: it never hides the client."""

    class Http(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.pending = transport, b""

        def data_received(self, chunk: bytes) -> None:
            self.pending += chunk
            head, found, body = self.pending.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) if found else -1
            if not found or len(body) < length:
                return
            self.pending = b""
            at, ids = 0, []
            while (at := body.find(b'{\\"id\\":\\"', at)) >= 0:
                ids.append(body[at + 10 : at + 15].decode())
                at += 16
            answer = orjson.dumps({**BODY, "content": [{"type": "text", "text": reply_text(ids)}]})
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(answer), answer)
            )

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def over_http(count: int, calls: int, at_once: int) -> tuple[float, float]:
    """CPU microseconds a call: through the tier, and of the bare SDK call with the same body."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    client = ClaudeClient(ClaudeOptions(api_key="bench", base_url=f"http://127.0.0.1:{ours.recv()}"))
    try:
        whole = await tier_cpu_us(client, count, calls, at_once)
        prompt = Prompt(TASK, Models.load().resolve("haiku"))
        request = prompt.compose(make_items(count), fresh_ids(count), 9_000)
        left = calls

        async def bare() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                raw = await client._client.messages.with_raw_response.create(**request)  # noqa: SLF001
                await raw.read()

        started = time.process_time()
        await asyncio.gather(*[bare() for _ in range(at_once)])
        return whole, (time.process_time() - started) / calls * 1e6
    finally:
        await client.close()
        process.kill()
        process.join()


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--items", type=int, default=50)
    arguments.add_argument("--calls", type=int, default=1_000)
    arguments.add_argument("--at-once", type=int, default=64)
    arguments.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = arguments.parse_args()
    items, model = make_items(given.items), Models.load().resolve("haiku")
    prompt, text = Prompt(TASK, model), items[0].input.text
    own = uvloop.run(tier_cpu_us(InstantClient(), given.items, given.calls, 1))
    fake = cpu_us(
        lambda: (
            uvloop and orjson.dumps({**BODY, "content": [{"type": "text", "text": reply_text(fresh_ids(given.items))}]})
        ),
        500,
    )
    whole, bare = uvloop.run(over_http(given.items, given.calls, given.at_once))
    figures = {
        "clean + estimate_tokens, an item (engine)": cpu_us(lambda: (clean(text), estimate_tokens(text)), 20_000),
        "ids + compose, an item": cpu_us(lambda: prompt.compose(items, fresh_ids(given.items), 9_000), 500)
        / given.items,
        "cost of a call": cpu_us(lambda: model.cost_nanousd(Tokens(6_200, 0, 0, 2_051, 900)), 5_000),
        "the tier without SDK, an item": (own - fake) / given.items,
        "the SDK's `messages.create`, a call": bare,
        "tier + SDK over HTTP, a call": whole,
        "tier + SDK over HTTP, an item": whole / given.items,
        "tier beside the SDK, an item": (whole - bare) / given.items,
    }
    print(f"{given.items} items a call, {given.calls} calls, {given.at_once} at once; CPU microseconds")
    for name, value in figures.items():
        print(f"{value:10.2f}  {name}")
    if given.out:
        given.out.write_text(
            json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
