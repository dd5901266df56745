"""Records handed to a producer, and what the broker said about them.

committer → [writing] → producer → Kafka
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

from penstock.record import NewRecord, Partition, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Told = Callable[[KafkaError | None, Any], None]

QUEUE_FULL_SECONDS = 0.05


class Report:
    """What the broker said about the records of one act."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None
        self._first_of: dict[tuple[str, int], int] = {}
        self._last_of: dict[tuple[str, int], int] = {}
        self.last: Position | None = None
        """Where the act's last record is: without it a transaction's commit was never sent."""

    @property
    def positions(self) -> dict[Partition, int]:
        """The last offset written in each partition."""
        return {Partition(*place): offset for place, offset in self._last_of.items()}

    @property
    def one_of_each_topic(self) -> list[Position]:
        """A record in each topic that was written to, the act's last record first."""
        found = {} if self.last is None else {self.last.topic: self.last}
        for (topic, number), offset in self._last_of.items():
            found.setdefault(topic, Position(topic, number, offset))
        return list(found.values())

    @property
    def one_of_each_partition(self) -> list[Position]:
        """The last record in each partition that was written to."""
        return [Position(topic, number, offset) for (topic, number), offset in self._last_of.items()]

    def first_in(self, place: Position) -> int:
        """The offset of the first record in the partition of a position."""
        return self._first_of[place.topic, place.partition]

    def told(self, error: KafkaError | None, message: Any) -> None:
        """Of one record."""
        if error is None:
            place, offset = (message.topic(), message.partition()), message.offset()
            if place not in self._last_of:
                self._first_of[place] = offset
            self._last_of[place] = offset
        else:
            self.error = self.error or error

    def told_last(self, error: KafkaError | None, message: Any) -> None:
        """Of the act's last record."""
        self.told(error, message)
        if error is None:
            self.last = Position(message.topic(), message.partition(), message.offset())


def produce(producer: Any, records: Sequence[NewRecord], report: Report, queue_seconds: float) -> None:
    """Hand them over; reports come while the producer is polled. Raises `BufferError` where its queue stays full so long."""
    for record in records[:-1]:
        enqueue(producer, record, report.told, queue_seconds)
    for record in records[-1:]:
        enqueue(producer, record, report.told_last, queue_seconds)


def enqueue(producer: Any, record: NewRecord, told: Told, queue_seconds: float) -> None:
    """Hand one over, and wait while the producer's queue is full."""
    end = 0.0
    while True:
        try:
            hand_over(producer, record, told)
        except BufferError:
            end = end or time.monotonic() + queue_seconds
            if time.monotonic() > end:
                raise
            producer.poll(QUEUE_FULL_SECONDS)
        else:
            return


def hand_over(producer: Any, record: NewRecord, told: Told) -> None:
    """A record in the producer's words. Raises `BufferError` where its queue is full."""
    topic, key, value, headers, timestamp_ms, partition = record
    producer.produce(
        topic,
        value,
        key,
        -1 if partition is None else partition,
        on_delivery=told,
        timestamp=timestamp_ms or 0,
        headers=list(headers),
    )
