"""Progress committed outside of a transaction: a group's starts, and all of it where `delivery` is at least once.

membership → [marks] → Kafka
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import TopicPartition


def commit_marks(consumer: Any, marks: Sequence[TopicPartition]) -> None:
    """On the consumer's thread; returns when all of them are committed. Raises `KafkaException`."""
    for mark in consumer.commit(offsets=list(marks), asynchronous=False):
        if mark.error is not None:
            raise KafkaException(mark.error)
