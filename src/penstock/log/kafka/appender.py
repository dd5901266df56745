"""Appends records outside of any transaction: durable, in order, not doubled by retries.

gateway, cli → [appender] → Kafka
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from penstock.errors import PenstockError
from penstock.log.kafka.faults import meaning
from penstock.log.kafka.writing import settings_of
from penstock.record import NewRecord, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.log.kafka.connection import Connection

QUEUE_FULL_SECONDS = 0.01


class Appender:
    """One idempotent producer for all callers, so that their records share batches; its reports come on a thread of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: Any = None
        self._thread: threading.Thread | None = None
        self._is_closed = threading.Event()

    async def append(self, records: Sequence[NewRecord]) -> list[Position]:
        """Write them; durable when this returns. On an exception some of them may be written."""
        if not records:
            return []
        producer = self._started()
        waiting = _Waiting(len(records), asyncio.get_running_loop())
        for number, record in enumerate(records):
            settings = {**settings_of(record), "on_delivery": waiting.report(number)}
            while True:
                try:
                    producer.produce(record.topic, record.value, record.key, **settings)
                except BufferError:
                    await asyncio.sleep(QUEUE_FULL_SECONDS)
                except KafkaException as error:
                    raise meaning(error.args[0], f"appending to {record.topic}", self._connection) from error
                else:
                    break
        try:
            return await waiting.done
        except KafkaException as error:
            if error.args[0].fatal():
                await asyncio.to_thread(self.close)
                self._is_closed.clear()
            raise self._failed(error) from error

    def close(self) -> None:
        """Give back the producer; what is still queued is waited for by its callers, not here."""
        self._is_closed.set()
        thread, self._thread = self._thread, None
        self._producer = None
        if thread is not None:
            thread.join()

    def _failed(self, error: KafkaException) -> PenstockError:
        return meaning(error.args[0], "appending", self._connection)

    def _started(self) -> Any:
        if self._producer is None:
            timeout_ms = int(self._connection.options.request_timeout_seconds * 1000)
            self._producer = self._connection.producer({"message.timeout.ms": timeout_ms, "linger.ms": 5})
            self._thread = threading.Thread(
                target=_serve, args=(self._producer, self._is_closed), name="penstock-kafka-append", daemon=True
            )
            self._thread.start()
        return self._producer


class _Waiting:
    """The reports that one `append` waits for. Reports come on the producer's thread, the future lives on the event loop."""

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[list[Position]] = loop.create_future()
        self._positions: list[Any] = [None] * count
        self._left, self._loop = count, loop
        self._error: Any = None

    def report(self, number: int) -> Any:
        def told(error: Any, message: Any) -> None:
            if error is not None:
                self._error = self._error or error
            else:
                self._positions[number] = Position(message.topic(), message.partition(), message.offset())
            self._left -= 1
            if not self._left:
                self._loop.call_soon_threadsafe(self._finish)

        return told

    def _finish(self) -> None:
        if self.done.done():  # the caller was cancelled
            return
        if self._error is not None:
            self.done.set_exception(KafkaException(self._error))
        else:
            self.done.set_result(self._positions)


def _serve(producer: Any, is_closed: threading.Event) -> None:
    while not is_closed.is_set():
        producer.poll(0.1)
    producer.flush(5)
