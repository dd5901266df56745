"""What the rivals of flow control have in common: read, ask about so many events a call, write. How they hold back is theirs.

topic → [limited] → results topic

`BENCH_ITEMS` events a call (50, or 1 as most services do). Parts and safety are those of `careless`; unlike there no
event is given up: a call that was turned away is made again until it is answered.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Protocol

import anthropic
import httpx2
import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.rivals.question import about_many, about_one, place, result

ITEMS = int(os.environ.get("BENCH_ITEMS", "50"))
WAIT_SECONDS = 0.2
TURNED_AWAY = (anthropic.RateLimitError, anthropic.InternalServerError, anthropic.APIConnectionError)


class Holding(Protocol):
    """How a rival holds back."""

    max_retries: int
    """Of the SDK."""

    async def enter(self) -> None:
        """Before events are read for a call."""

    def leave(self) -> None:
        """The call has its answer."""

    async def ask(self, claude: anthropic.AsyncAnthropic, question: dict[str, Any]) -> bytes:
        """Ask until it is answered; the body of the reply."""


async def once(claude: anthropic.AsyncAnthropic, question: dict[str, Any]) -> bytes:
    """One call of the SDK, with whatever retries it makes."""
    raw = await claude.messages.with_raw_response.create(**question)
    return await raw.read()


async def run(holding: Holding) -> None:
    """Until SIGTERM."""
    where = place()
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    http = anthropic.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=256), trust_env=False)
    claude = anthropic.AsyncAnthropic(
        api_key="offline", base_url=where.api_url, http_client=http, max_retries=holding.max_retries
    )
    producer = Producer({"bootstrap.servers": where.bootstrap, "linger.ms": 5})
    settings = {"group.id": where.group, "auto.offset.reset": "earliest", "session.timeout.ms": 6_000}
    consumer = Consumer({"bootstrap.servers": where.bootstrap, **settings})
    consumer.subscribe([where.topic])
    tasks: set[asyncio.Task[None]] = set()

    async def judge(messages: list[Any]) -> None:
        try:
            events = [orjson.loads(message.value()) for message in messages]
            body = await holding.ask(claude, about_one(events[0]) if ITEMS == 1 else about_many(events))
            found = orjson.loads(orjson.loads(body)["content"][0]["text"])
            for message, event, entry in zip(messages, events, [found] if ITEMS == 1 else found["r"], strict=False):
                producer.produce(where.results, result(event, entry), message.key())
            producer.poll(0)
        finally:
            holding.leave()

    while not stop.is_set():
        await holding.enter()
        messages = await loop.run_in_executor(None, consumer.consume, ITEMS, WAIT_SECONDS)
        good = [message for message in messages if not message.error()]
        if not good:
            holding.leave()
            continue
        task = asyncio.create_task(judge(good))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await claude.close()
    producer.flush()
    consumer.close()
