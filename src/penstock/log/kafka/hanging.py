"""What a transaction of ours left open for good: its coordinator says that it is over, and nothing marks its records so.

committer → [hanging] → Kafka

A broker of Kafka 4.3 or 4.4 (4.0 to 4.2 do not) that starts again ends the transactions which it finds timed out or half
ended while its partitions have no leader yet, and skips the marks there ("likely deleted already"). What stands unmarked
becomes part of the next transaction of the same producer: its commit would show what was never committed, its abort
would take away what was. Until then committed readers get no further. So whoever takes over a transactional id looks first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from penstock.log.kafka import faults
from penstock.log.kafka.writing import Report, produce
from penstock.record import NewRecord, Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.log.kafka.admin import Admin
    from penstock.log.kafka.connection import Connection

STUCK_SECONDS = 2.0
"""Transactions under way end within a fraction of this. One that is open for longer is ours from before, or a dead worker's."""
LOOK_SECONDS = 0.05
TOUCH_KEY = b"penstock"
"""Compacted topics take no record without a key."""
TOUCH_HEADER = ("penstock.undone", b"")
"""Of records that are never committed: only readers of uncommitted records see them."""
REFUSED_PROGRESS = faults.NOT_A_MEMBER | faults.OLD_GENERATION
"""The coordinator does not take the offsets; by then its partition is part of the transaction, which is all that is wanted."""


class Hanging:
    """Finds what stays open in topics and on a group's progress. Every call blocks, up to `STUCK_SECONDS` where something is open."""

    def __init__(self, admin: Admin, group: str) -> None:
        self._admin, self._group = admin, group

    def records(self, topics: Iterable[str]) -> list[Partition]:
        """Partitions of these topics where committed readers do not get past what stands there now."""
        left = [partition for topic in topics for partition in self._admin.partitions(topic)]
        highs = self._admin.highs(left)
        give_up = time.monotonic() + STUCK_SECONDS
        while left:
            ends = self._admin.ends(left)
            left = [partition for partition in left if ends[partition] < highs[partition]]
            if time.monotonic() > give_up:
                break
            if left:
                time.sleep(LOOK_SECONDS)
        return left

    def progress(self) -> list[Partition]:
        """Partitions on which a transaction of the group stays open."""
        topics = sorted(self._admin.topics_of(self._group))
        left: Sequence[Partition] = [partition for topic in topics for partition in self._admin.partitions(topic)]
        give_up = time.monotonic() + STUCK_SECONDS
        while left:
            left = sorted(self._admin.unsettled(self._group, left))
            if time.monotonic() > give_up:
                break
            if left:
                time.sleep(LOOK_SECONDS)
        return list(left)


def undo(
    producer: Any,
    connection: Connection,
    records: Sequence[Partition],
    progress: Sequence[Partition],
    group: str,
    metadata: Any,
    within_seconds: float,
) -> None:
    """A transaction in all of these that is aborted: it takes with it what the producer left open there, and nobody else's.

    Raises `KafkaException` or `BufferError` where that could not be done; the producer is not to be used any more then.
    """
    producer.begin_transaction()
    report = Report()
    touches = [NewRecord(p.topic, TOUCH_KEY, None, (TOUCH_HEADER,), partition=p.number) for p in records]
    produce(producer, touches, report, within_seconds)
    if producer.flush(within_seconds) or report.error is not None:
        raise KafkaException(report.error or KafkaError(KafkaError._MSG_TIMED_OUT))  # noqa: SLF001
    if progress:
        try:
            producer.send_offsets_to_transaction(
                [TopicPartition(p.topic, p.number, 0) for p in progress],
                metadata or _stranger(connection, group),
                within_seconds,
            )
        except KafkaException as error:
            if error.args[0].code() not in REFUSED_PROGRESS:
                raise
    producer.abort_transaction(within_seconds)


def _stranger(connection: Connection, group: str) -> Any:
    """Metadata of one that never joined."""
    consumer = connection.consumer({"group.id": group})
    try:
        return consumer.consumer_group_metadata()
    finally:
        consumer.close()
