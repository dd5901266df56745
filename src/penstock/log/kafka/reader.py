"""Reads committed records from an offset on, without a group: for inspection, and to see whether a record became visible.

Kafka → [reader] → cli, console, committer
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from penstock.errors import LogUnavailable
from penstock.log.kafka.faults import meaning
from penstock.record import Partition, Position, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.log.kafka.admin import Admin
    from penstock.log.kafka.connection import Connection

CONSUME_SECONDS = 0.2
MARKER_SECONDS = 0.005
NO_MEMBER = {"max.poll.interval.ms": 300_000, "session.timeout.ms": 45_000}
SELF_SECONDS = 5.0
"""At most so long a read waits for what this log committed itself."""


class Reader:
    """One consumer, made when first needed and kept; its calls are serialised by a lock. Every call blocks."""

    def __init__(self, connection: Connection, admin: Admin) -> None:
        self._connection, self._admin = connection, admin
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._next: tuple[Partition, int] | None = None
        """Where the consumer stands: a reader that goes on needs no new assignment."""
        self._expected: dict[Partition, int] = {}

    def expect(self, written: Mapping[Partition, int]) -> None:
        """Our own commits wrote up to these offsets: Kafka shows them to readers some milliseconds after the commit."""
        self._expected.update(written)

    def read(self, partition: Partition, offset: int, max_records: int) -> list[Record]:
        """Committed records from `offset` on; empty at the end."""
        with self._lock:
            low = self._admin.lows([partition])[partition]
            end = self._end_beyond(partition, self._expected.pop(partition, -1), SELF_SECONDS)
            start = max(offset, low)
            if start >= end or max_records < 1:
                return []
            self._place(partition, start)
            return self._collected(partition, end, max_records)

    def has_committed(self, position: Position, wait_seconds: float) -> bool | None:
        """Whether the record at a position became visible; waits until its transaction is over. None: nobody can tell any more,
        since what is kept begins behind it, or ends before it (the topic was made again), or because somebody else's
        transaction stays open before it: ours is over by then.
        """
        partition = Partition(position.topic, position.partition)
        end = self._end_beyond(partition, position.offset, wait_seconds)
        if end <= position.offset:
            return None
        if any(record.offset == position.offset for record in self.read(partition, position.offset, 1)):
            return True
        return None if self._admin.lows([partition])[partition] > position.offset else False

    def close(self) -> None:
        """Give back the consumer."""
        with self._lock:
            consumer, self._consumer, self._next = self._consumer, None, None
            if consumer is not None:
                consumer.close()

    def _end_beyond(self, partition: Partition, offset: int, wait_seconds: float) -> int:
        """How far committed readers get, once that is beyond `offset` or has taken too long."""
        give_up = time.monotonic() + wait_seconds
        while True:
            end = self._admin.ends([partition])[partition]
            if end > offset or time.monotonic() > give_up:
                return end
            time.sleep(MARKER_SECONDS)

    def _place(self, partition: Partition, offset: int) -> None:
        if self._consumer is None:
            # `group.id` is required but never used: nothing is joined or committed.
            # Hence the time-outs of members are librdkafka's own: those of the user may not fit each other here.
            settings = {"group.id": "penstock-reader", "enable.partition.eof": True, "fetch.wait.max.ms": 50}
            self._consumer = self._connection.consumer({**settings, **NO_MEMBER})
        if self._next != (partition, offset):
            self._consumer.assign([TopicPartition(partition.topic, partition.number, offset)])
        self._next = None

    def _collected(self, partition: Partition, end: int, max_records: int) -> list[Record]:
        """Reads until `max_records` are there or the consumer has passed `end`, over gaps that show no record."""
        found: list[Record] = []
        give_up = time.monotonic() + self._connection.options.request_timeout_seconds
        while len(found) < max_records:
            is_at_end = False
            for message in taken(self._consumer, max_records - len(found), CONSUME_SECONDS):
                error = message.error()
                if error is None:
                    found.append(record_of(message))
                elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    continue  # the group that librdkafka wants to have is joined by nobody, and may be forbidden
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                    raise meaning(error, f"reading {partition.topic}/{partition.number}", self._connection)
                else:  # an end that was true before the latest records is no end
                    is_at_end = message.offset() >= end
            if is_at_end or (found and found[-1].offset + 1 >= end):
                return found
            if time.monotonic() > give_up:
                raise LogUnavailable(
                    f"reading {partition.topic}/{partition.number}: no answer ({self._connection.last_error})"
                )
        self._next = (partition, found[-1].offset + 1)
        return found


def taken(consumer: Any, max_messages: int, timeout_seconds: float) -> list[Any]:
    """What is there at once, or the first that comes in time and what came with it: `consume` alone would wait for all."""
    messages: list[Any] = consumer.consume(max_messages, 0)
    if not messages and timeout_seconds > 0:
        messages = consumer.consume(1, timeout_seconds)
        if messages and max_messages > 1:
            messages += consumer.consume(max_messages - 1, 0)
    return messages


def record_of(message: Any) -> Record:
    """A message of librdkafka in our words."""
    headers = message.headers()
    # Made for every event, and so without the detour over a named tuple's own `__new__`.
    return _new(
        Record,
        (
            message.topic(),
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            tuple(headers) if headers else (),
            message.timestamp()[1],
        ),
    )


_new = tuple.__new__
