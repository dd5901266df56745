"""Writes results first and progress second, for clusters whose ACLs refuse transactions (`delivery="at_least_once"`).

checkpoint → [two steps] → Kafka

What it keeps: nothing is lost, because progress is committed only when every record is durable; and whoever lost a
partition commits nothing of it, because the group's coordinator checks the member. What it cannot keep: between the two
steps a crash, or a partition that goes, leaves results whose events are answered again. Their ids are the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from penstock.errors import LogUnavailable, PartitionsLost, PenstockError
from penstock.log.kafka import faults
from penstock.log.kafka.act import check_sizes, composed, records_of
from penstock.log.kafka.committer import OldGeneration, error_of
from penstock.log.kafka.writing import Report, enqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.log.base import Progress
    from penstock.log.kafka.admin import Admin
    from penstock.log.kafka.connection import Connection
    from penstock.log.kafka.errands import Errands
    from penstock.log.kafka.ownership import Ownership
    from penstock.log.kafka.reader import Reader
    from penstock.record import NewRecord

REPORT_WAIT_SECONDS = 0.1
REPORT_SLACK_SECONDS = 5.0
"""librdkafka tells of every record within `message.timeout.ms`."""


class TwoStepCommitter:
    """One idempotent producer without transactions. `commit` runs on the committer's thread."""

    def __init__(
        self,
        connection: Connection,
        admin: Admin,
        reader: Reader,
        ownership: Ownership,
        errands: Errands,
        *,
        commit_marks: Callable[[Sequence[TopicPartition]], None],
        on_fenced: Callable[[str], None],
    ) -> None:
        self._connection, self._admin, self._reader, self._ownership = connection, admin, reader, ownership
        self._errands, self._commit_marks, self._on_fenced = errands, commit_marks, on_fenced
        self._options = connection.options
        self._producer: Any = None
        self._written: dict[int, NewRecord] = {}
        """Records of an act whose progress is not committed yet, by identity: when it is tried again they are not written again."""

    def start(self) -> None:
        """A producer whose records are told to be durable, or not, within the commit's time-out."""
        timeout_ms = int(self._options.commit_timeout_seconds * 1000)
        self._producer = self._connection.producer({"message.timeout.ms": timeout_ms, "linger.ms": 0})

    def commit(self, progress: Progress) -> None:
        """Records, then progress. An exception may leave records without progress: the same again writes the rest only."""
        records = records_of(progress)
        check_sizes(records, self._options.max_record_bytes)
        self._admin.require_topics({record.topic for record in records})
        with self._ownership.lock:
            composed(progress, self._ownership)  # what is known to be refused is refused before anything is written
        self._written = {id(record): record for record in records if id(record) in self._written}
        self._write([record for record in records if id(record) not in self._written])
        if progress.parts:
            self._errands.run(lambda: self._commit_progress(progress))
        self._written = {}

    def stop(self) -> None:
        """From any thread: nothing here waits longer than a commit's time-out."""

    def close(self) -> None:
        """Give back the producer."""
        self._producer = None

    def _write(self, records: list[NewRecord]) -> None:
        if not records:
            return
        if self._producer is None:
            self.start()
        report, left = Report(), set(map(id, records))
        try:
            for record in records:
                enqueue(
                    self._producer, record, self._telling(record, report, left), self._options.commit_timeout_seconds
                )
            self._await_reports(left)
        except (KafkaException, BufferError) as error:
            raise self._consequence(error_of(error)) from error
        if report.error is not None:
            raise self._consequence(report.error)
        self._reader.expect(report.positions)

    def _telling(self, record: NewRecord, report: Report, left: set[int]) -> Callable[[KafkaError | None, Any], None]:
        def told(error: KafkaError | None, message: Any) -> None:
            report.told(error, message)
            left.discard(id(record))
            if error is None:
                self._written[id(record)] = record

        return told

    def _await_reports(self, left: set[int]) -> None:
        end = time.monotonic() + self._options.commit_timeout_seconds + REPORT_SLACK_SECONDS
        while left:
            if time.monotonic() > end:
                raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT))  # noqa: SLF001
            self._producer.poll(REPORT_WAIT_SECONDS)

    def _commit_progress(self, progress: Progress) -> None:
        """On the consumer's thread: no partition comes or goes meanwhile."""
        with self._ownership.lock:
            act = composed(progress, self._ownership)
            try:
                self._commit_marks(act.offsets)
            except KafkaException as error:
                raise self._refusal(error.args[0], act.progress) from error
            self._ownership.note_committed(act.progress)

    def _refusal(self, error: KafkaError, parts: Any) -> PenstockError:
        """The coordinator did not take the progress."""
        code = error.code()
        if code in faults.NOT_A_MEMBER:
            self._on_fenced(error.str())
            return PartitionsLost(parts)
        if code in faults.OLD_GENERATION:
            self._ownership.is_stale = True
            return OldGeneration(f"commit: the group is rebalancing ({error.str()})")
        return self._meaning(error)

    def _consequence(self, error: KafkaError) -> PenstockError:
        """Records were not taken. What of them is durable nevertheless is not known: the producer goes with its queue."""
        self._producer = None
        return self._meaning(error)

    def _meaning(self, error: KafkaError) -> PenstockError:
        told = faults.meaning(error, "commit (at least once)", self._connection)
        return told if not isinstance(told, faults.Moving) else LogUnavailable(str(told))
