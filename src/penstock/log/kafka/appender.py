"""Appends records outside of any transaction: durable, in order, not doubled by retries.

gateway, cli → [appender] → Kafka
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from penstock.errors import LogUnavailable
from penstock.log.kafka.connection import logger
from penstock.log.kafka.faults import THROWN_AWAY, meaning
from penstock.log.kafka.writing import hand_over
from penstock.record import NewRecord, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.log.kafka.connection import Connection

QUEUE_FULL_SECONDS = 0.01
REPORT_SLACK_SECONDS = 10.0
"""librdkafka tells of every record within `message.timeout.ms`."""
LAST_REPORTS_SECONDS = 5.0


class Appender:
    """One idempotent producer for all callers, so that their records share batches; its reports come on a thread of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sender: _Sender | None = None

    async def append(self, records: Sequence[NewRecord]) -> list[Position]:
        """Write them; durable when this returns. On an exception some of them may be written."""
        if not records:
            return []
        sender = self._started()
        waiting = _Waiting(len(records), asyncio.get_running_loop())
        seconds = self._connection.options.request_timeout_seconds + REPORT_SLACK_SECONDS
        doing = f"appending to {records[0].topic}"
        try:
            async with asyncio.timeout(seconds):
                await self._enqueue(sender.producer, records, waiting)
                return await waiting.done
        except TimeoutError:
            raise LogUnavailable(
                f"{doing}: not told within {seconds:g} s whether it is written ({self._connection.last_error})"
            ) from None
        except KafkaException as error:
            if _is_the_end(error.args[0]):
                sender.broken_by = sender.broken_by or error.args[0]
            raise meaning(sender.broken_by or error.args[0], doing, self._connection) from error
        finally:
            self._give_up_if_broken(sender)

    def close(self) -> None:
        """Give back the producer; what is still queued is waited for by its callers, not here."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.stop()

    async def _enqueue(self, producer: Any, records: Sequence[NewRecord], waiting: _Waiting) -> None:
        for number, record in enumerate(records):
            told = waiting.report(number)
            while True:
                try:
                    hand_over(producer, record, told)
                except BufferError:
                    await asyncio.sleep(QUEUE_FULL_SECONDS)
                else:
                    break

    def _started(self) -> _Sender:
        if self._sender is not None:
            self._give_up_if_broken(self._sender)
        if self._sender is None:
            timeout_ms = int(self._connection.options.request_timeout_seconds * 1000)
            self._sender = _Sender(self._connection.producer({"message.timeout.ms": timeout_ms, "linger.ms": 5}))
        return self._sender

    def _give_up_if_broken(self, sender: _Sender) -> None:
        if sender.is_usable():
            return
        sender.end()
        if self._sender is sender:
            self._sender = None
            cause = sender.broken_by.str() if sender.broken_by else "its thread is over"
            logger.warning("appending: the next append makes a new producer (%s)", self._connection.redacted(cause))


def _is_the_end(error: KafkaError) -> bool:
    """Whether the producer behind it is broken for good. Only a fatal error throws away what no transaction holds, and neither
    that report nor a later refusal says itself that it is fatal."""
    code = error.code()
    return error.fatal() or code == KafkaError._FATAL or code in THROWN_AWAY  # noqa: SLF001


class _Sender:
    """A producer and the thread that hears its reports: they end together, and who appends meanwhile starts another."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.broken_by: KafkaError | None = None
        """A fatal error, after which it writes nothing more; what was given to it before is still told of."""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="penstock-kafka-append", daemon=True)
        self._thread.start()

    def is_usable(self) -> bool:
        """Whether it writes, and tells of it."""
        return self.broken_by is None and self._thread.is_alive()

    def end(self) -> None:
        """Hears the last reports, within seconds, on its thread."""
        self._is_over.set()

    def stop(self) -> None:
        """Ends, and waits for it."""
        self.end()
        self._thread.join(2 * LAST_REPORTS_SECONDS)

    def _serve(self) -> None:
        while not self._is_over.is_set():
            self._hear(self.producer.poll, 0.1)
        self._hear(self.producer.flush, LAST_REPORTS_SECONDS)

    def _hear(self, hear: Callable[[float], object], seconds: float) -> None:
        try:
            hear(seconds)
        except KafkaException as error:  # a fatal one, told once; the reports come after it
            self.broken_by = error.args[0]


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
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._finish)

        return told

    def _finish(self) -> None:
        if self.done.done():  # the caller was cancelled
            return
        if self._error is not None:
            self.done.set_exception(KafkaException(self._error))
        else:
            self.done.set_result(self._positions)
