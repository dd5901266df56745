"""The first thing everybody writes: a loop that asks one event after the other, with the SDK as it comes.

Everything is at its defaults: offsets are committed by a timer, so a crash asks and writes some events again.
"""

from __future__ import annotations

import signal
import sys

import anthropic
import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.rivals.question import about_one, place, result


def main() -> None:
    where = place()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    claude = anthropic.Anthropic(api_key="offline", base_url=where.api_url)
    producer = Producer({"bootstrap.servers": where.bootstrap})
    consumer = Consumer(
        {
            "bootstrap.servers": where.bootstrap,
            "group.id": where.group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6_000,
        }
    )
    consumer.subscribe([where.topic])
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            event = orjson.loads(message.value())
            reply = claude.messages.create(**about_one(event))
            entry = orjson.loads(reply.content[0].text)
            producer.produce(where.results, result(event, entry), message.key())
            producer.poll(0)
    finally:
        producer.flush()
        consumer.close()


if __name__ == "__main__":
    main()
