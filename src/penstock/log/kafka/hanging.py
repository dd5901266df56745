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

from penstock.errors import LogUnavailable, SettingsError, TopicMissing
from penstock.log.kafka import faults
from penstock.log.kafka.connection import Connection, logger
from penstock.log.kafka.reader import NO_MEMBER, record_of, taken
from penstock.log.kafka.writing import Report, produce
from penstock.record import NewRecord, Partition, Position, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock.log.kafka.admin import Admin

STUCK_SECONDS = 2.0
"""Transactions under way end within a fraction of this. One that is open for longer is ours from before, or a dead worker's."""
LOOK_SECONDS, SELDOM_SECONDS = 0.05, 0.25
MOST_RECORDS = 500
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
        # Of a deleted topic offsets may still be there.
        known = self._admin.topic_infos(sorted(self._admin.topics_of(self._group)))
        left: Sequence[Partition] = [Partition(name, n) for name, info in known.items() for n in range(info.partitions)]
        give_up = time.monotonic() + STUCK_SECONDS
        while left:
            left = sorted(self._admin.unsettled(self._group, left))
            if time.monotonic() > give_up:
                break
            if left:
                time.sleep(SELDOM_SECONDS)
        return list(left)


def taken_back(
    connection: Connection, records: Sequence[NewRecord], report: Report, gone: Sequence[Position]
) -> list[NewRecord]:
    """Those of an act's records that stood in the partitions of these positions, each for the partition that it was in."""
    left: dict[tuple[str, bytes | None, bytes | None], list[NewRecord]] = {}
    for record in records:
        left.setdefault((record.topic, record.key, record.value), []).append(record)
    stood: list[Record] = []
    for place in gone:
        try:
            stood += _written_in(connection, place, report.first_in(place))
        except (SettingsError, TopicMissing) as error:
            logger.error("what the cluster took back can't be written again: %s", error)
    return [
        same.pop()._replace(partition=record.partition)
        for record in stood
        if (same := left.get((record.topic, record.key, record.value)))
    ]


def _written_in(connection: Connection, last: Position, first: int) -> list[Record]:
    """What stands in a partition from an offset to a position, committed or not."""
    give_up = time.monotonic() + connection.options.request_timeout_seconds
    found: list[Record] = []
    consumer = connection.consumer({"group.id": "penstock-reader", "isolation.level": "read_uncommitted", **NO_MEMBER})
    try:
        consumer.assign([TopicPartition(last.topic, last.partition, first)])
        while not found or found[-1].offset < last.offset:
            for message in taken(consumer, MOST_RECORDS, LOOK_SECONDS):
                error = message.error()
                if error is None:
                    found.append(record_of(message))
                elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # of a group that is never joined
                    raise faults.meaning(error, f"reading {last.topic}/{last.partition}", connection)
            if time.monotonic() > give_up:
                raise LogUnavailable(f"reading {last.topic}/{last.partition}: no answer ({connection.last_error})")
    finally:
        consumer.close()
    return [record for record in found if record.offset <= last.offset]


def undo(
    producer: Any,
    records: Sequence[Partition],
    progress: Sequence[Partition],
    metadata: Any,
    insist: Callable[[Callable[[float], Any]], None],
    within_seconds: float,
) -> None:
    """A transaction in all of these that is aborted: it takes with it what the producer left open there, and nobody else's.

    `insist` repeats what may be repeated. Raises `KafkaException` or `BufferError` where it could not be done; the producer
    is not to be used any more then.
    """
    producer.begin_transaction()
    report = Report()
    touches = [NewRecord(p.topic, TOUCH_KEY, None, (TOUCH_HEADER,), partition=p.number) for p in records]
    produce(producer, touches, report, within_seconds)
    try:
        is_left = producer.flush(within_seconds)
    except SystemError as error:  # the client's word for a fatal error that meets a delivery report
        raise KafkaException(KafkaError(KafkaError._FENCED)) from error  # noqa: SLF001
    if is_left or report.error is not None:
        raise KafkaException(report.error or KafkaError(KafkaError._MSG_TIMED_OUT))  # noqa: SLF001
    if progress:
        offsets = [TopicPartition(p.topic, p.number, 0) for p in progress]
        try:
            insist(lambda seconds: producer.send_offsets_to_transaction(offsets, metadata, seconds))
        except KafkaException as error:
            if error.args[0].code() not in REFUSED_PROGRESS:
                raise
    insist(producer.abort_transaction)


def metadata_of_nobody(connection: Connection, group: str) -> Any:
    """Of one that never joined the group."""
    consumer = connection.consumer({"group.id": group})
    try:
        return consumer.consumer_group_metadata()
    finally:
        consumer.close()
