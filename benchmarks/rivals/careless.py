"""The honest ceiling: 50 events a call, 256 calls in flight, the fastest parts there are, and no safety whatever.

Offsets are committed by a timer, results are sent and forgotten, replies are believed to hold the entries in the order
of the events, an error of a call loses its fifty events. No order, no limits, no costs on the results.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import anthropic
import httpx2
import orjson
import uvloop
from confluent_kafka import Consumer, Producer

from benchmarks.rivals.question import CALLS_IN_FLIGHT, about_many, place, result

BATCH = 50
WAIT_SECONDS = 0.2


async def main() -> None:
    where = place()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    limits = httpx2.Limits(max_connections=CALLS_IN_FLIGHT)
    http = anthropic.DefaultAioHttpClient(limits=limits, trust_env=False)
    claude = anthropic.AsyncAnthropic(api_key="offline", base_url=where.api_url, http_client=http)
    producer = Producer({"bootstrap.servers": where.bootstrap, "linger.ms": 20})
    consumer = Consumer(
        {
            "bootstrap.servers": where.bootstrap,
            "group.id": where.group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6_000,
        }
    )
    consumer.subscribe([where.topic])
    semaphore = asyncio.Semaphore(CALLS_IN_FLIGHT)
    tasks: set[asyncio.Task[None]] = set()

    async def judge(messages: list[Any]) -> None:
        try:
            events = [orjson.loads(message.value()) for message in messages]
            raw = await claude.messages.with_raw_response.create(**about_many(events))
            entries = orjson.loads(orjson.loads(await raw.read())["content"][0]["text"])["r"]
            for message, event, entry in zip(messages, events, entries, strict=False):
                producer.produce(where.results, result(event, entry), message.key())
            producer.poll(0)
        finally:
            semaphore.release()

    async def consume() -> None:
        while not stop.is_set():
            await semaphore.acquire()
            messages = await loop.run_in_executor(None, consumer.consume, BATCH, WAIT_SECONDS)
            good = [message for message in messages if not message.error()]
            if not good:
                semaphore.release()
                continue
            task = asyncio.create_task(judge(good))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    await consume()
    await asyncio.gather(*tasks, return_exceptions=True)
    await claude.close()
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    uvloop.run(main())
