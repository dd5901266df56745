"""The usual asyncio service: aiokafka, a task per event, a semaphore around the calls.

Offsets are committed by aiokafka's timer, as in its documentation's first example. They run ahead of the answers: what
is in flight at a crash is lost. The SDK has its fast backend here, the loop is uvloop.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import anthropic
import httpx2
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.rivals.question import CALLS_IN_FLIGHT, about_one, place, result


async def main() -> None:
    where = place()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limits = httpx2.Limits(max_connections=CALLS_IN_FLIGHT)
    http = anthropic.DefaultAioHttpClient(limits=limits, trust_env=False)
    claude = anthropic.AsyncAnthropic(api_key="offline", base_url=where.api_url, http_client=http)
    producer = AIOKafkaProducer(bootstrap_servers=where.bootstrap, linger_ms=5)
    consumer = AIOKafkaConsumer(
        where.topic,
        bootstrap_servers=where.bootstrap,
        group_id=where.group,
        auto_offset_reset="earliest",
        session_timeout_ms=6_000,
    )
    await producer.start()
    await consumer.start()
    semaphore = asyncio.Semaphore(CALLS_IN_FLIGHT)
    tasks: set[asyncio.Task[None]] = set()

    async def judge(message: Any) -> None:
        try:
            event = orjson.loads(message.value)
            reply = await claude.messages.create(**about_one(event))
            entry = orjson.loads(reply.content[0].text)
            await producer.send(where.results, result(event, entry), key=message.key)
        finally:
            semaphore.release()

    async def consume() -> None:
        async for message in consumer:
            await semaphore.acquire()
            task = asyncio.create_task(judge(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    consuming = asyncio.create_task(consume())
    await asyncio.wait([consuming, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    consuming.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await claude.close()
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    uvloop.run(main())
