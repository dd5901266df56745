"""One `Progress` as Kafka will write it: sizes checked, maps encoded, offsets beside their metadata.

checkpoint → [act] → committer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import TopicPartition

from penstock.errors import LogError, PartitionsLost, RecordTooLarge
from penstock.log.kafka.admin import Committed
from penstock.log.kafka.ownership import Owned
from penstock.record import HEADER_LENGTHS_BYTES, NewRecord, Partition

if TYPE_CHECKING:
    from penstock.log.base import PartProgress, Progress
    from penstock.log.kafka.ownership import Ownership

MAX_METADATA_BYTES = 4096


class Act(NamedTuple):
    """Everything that one transaction writes."""

    records: list[NewRecord]
    progress: dict[Partition, Owned]
    changed: frozenset[Partition]
    """Partitions whose committed progress differs from this one: after the act they tell whether it happened."""

    @property
    def offsets(self) -> list[TopicPartition]:
        """The progress in librdkafka's words."""
        return [TopicPartition(p.topic, p.number, *owned.committed) for p, owned in self.progress.items()]


def composed(progress: Progress, ownership: Ownership) -> Act:
    """The act of a `Progress`. Call it with the ownership's lock held. Raises `PartitionsLost`, `RecordTooLarge`."""
    lost = [part.partition for part in progress.parts if part.partition not in ownership]
    if lost:
        raise PartitionsLost(lost)
    marks = {part.partition: _mark(part, ownership[part.partition]) for part in progress.parts}
    records = records_of(progress)
    changed = frozenset(p for p, mark in marks.items() if ownership[p].committed != mark.committed)
    return Act(records, marks, changed)


def records_of(progress: Progress) -> list[NewRecord]:
    """All that is appended, in order."""
    return [record for part in progress.parts for record in part.appends] + list(progress.appends)


def _mark(part: PartProgress, owned: Owned) -> Owned:
    name = f"{part.partition.topic}/{part.partition.number}"
    if not part.done.covers(owned.done):
        raise LogError(
            f"progress of {name} would move back from {owned.done.base} to {part.done.base}, "
            "or forget offsets done above: refused"
        )
    metadata = part.done.encode(owned.topic_id)
    if len(metadata) > MAX_METADATA_BYTES:
        raise RecordTooLarge(
            f"the offset map of {name} has {len(metadata):,} bytes, the log takes {MAX_METADATA_BYTES:,}: "
            "pause the partition before it grows so far"
        )
    return Owned(owned.topic_id, Committed(part.done.base, metadata), part.done)


def check_sizes(records: list[NewRecord], max_record_bytes: int) -> None:
    """Raises `RecordTooLarge` before anything is begun: one letter that is too large would fail every retry."""
    for record in records:
        if _at_most(record) > max_record_bytes and record.size > max_record_bytes:
            raise RecordTooLarge(
                f"a record for {record.topic} has {record.size:,} bytes; the log takes {max_record_bytes:,}"
            )


def _at_most(record: NewRecord) -> int:
    """Its size, or a little more: to measure every header exactly takes longer, and nearly all records are far from the limit."""
    headers = [HEADER_LENGTHS_BYTES + 4 * len(name) + len(content or b"") for name, content in record.headers]
    return len(record.key or b"") + len(record.value or b"") + sum(headers)
