"""Where a group stands in partitions that were just assigned: committed progress, or `start_from` for those without.

rebalance → [standing] → consumer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogDamaged, RecordsLost
from penstock.log.base import Assignment, Bounds
from penstock.log.kafka.admin import Admin, Committed
from penstock.log.kafka.connection import logger
from penstock.log.kafka.faults import missing
from penstock.log.kafka.ownership import Owned
from penstock.log.offset_map import OffsetMap, topic_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from penstock.log.base import TopicInfo
    from penstock.log.kafka.starts import Starts
    from penstock.record import Partition
    from penstock.task import StartFrom


class Standing(NamedTuple):
    """A partition as it is assigned."""

    assignment: Assignment
    owned: Owned
    begins: TopicInfo | None = None
    """Its topic, where the start is not what is committed: it is committed before the first record, or a crash would skip
    what came between."""


class Stands(NamedTuple):
    """What has to be known to find a group's standing."""

    admin: Admin
    starts: Starts
    group: str
    start_from: StartFrom
    wait_seconds: float
    unread_lost: Literal["stop", "continue"]

    def of(self, partitions: Sequence[Partition]) -> list[Standing]:
        """The standing of each. Raises `RecordsLost`, `ProgressLost`, and `LogDamaged` where a map can't be believed."""
        topics = self.admin.topic_infos(sorted({p.topic for p in partitions}))
        if absent := {p.topic for p in partitions} - set(topics):
            raise missing(absent)
        committed = self.admin.committed(self.group, partitions, self.wait_seconds)
        lows = self.admin.lows(partitions)
        highs = self.admin.highs(committed)
        new, later = self.starts.sort([p for p in partitions if p not in committed], topics)
        starts = self._starts(new, lows) | {p: lows[p] for p in later}
        return [
            self._started(p, topics[p.topic], starts[p], is_new=p in new)
            if p in starts
            else self._resumed(p, topics[p.topic], committed[p], Bounds(lows[p], highs[p]))
            for p in partitions
        ]

    def _starts(self, partitions: Sequence[Partition], lows: dict[Partition, int]) -> dict[Partition, int]:
        if self.start_from == "earliest":
            return {p: lows[p] for p in partitions}
        if self.start_from == "latest":
            return self.admin.ends(partitions)
        return self.admin.at(partitions, int(self.start_from.timestamp() * 1000))

    def unsettled(self, partitions: Sequence[Partition]) -> frozenset[Partition]:
        """Those where it is not known yet: a transaction on their progress is open."""
        return self.admin.unsettled(self.group, partitions)

    def _started(self, partition: Partition, topic: TopicInfo, base: int, *, is_new: bool) -> Standing:
        done = OffsetMap(base)
        return Standing(Assignment(partition, done, is_new=is_new), _owned(topic.id, done), topic)

    def _resumed(self, partition: Partition, topic: TopicInfo, committed: Committed, bounds: Bounds) -> Standing:
        topic_id = topic.id
        written_id = topic_id_of(committed.metadata)
        if written_id and written_id != topic_id:
            # Made again under the same name: the old progress says nothing, and all that it holds is unread.
            logger.warning(
                "topic %s was deleted and made again: group %s reads it from its start", partition.topic, self.group
            )
            done = OffsetMap(bounds.low)
            return Standing(Assignment(partition, done), _owned(topic_id, done), topic)
        done = OffsetMap.decode(committed.metadata, base=committed.offset, topic_id=topic_id)
        if done.base > bounds.high:
            raise LogDamaged(
                f"group {self.group!r} stands at offset {done.base} of {partition.topic}/{partition.number}, which ends at "
                f"{bounds.high}: the topic lost its newest records, or the group's offsets were set by hand; set them right "
                "with `kafka-consumer-groups --reset-offsets` while no worker of the group runs"
            )
        done = self._after_loss(partition, done, bounds.low)
        return Standing(Assignment(partition, done), Owned(topic_id, committed, done))

    def _after_loss(self, partition: Partition, done: OffsetMap, low: int) -> OffsetMap:
        """Retention may have overtaken the watermark; what the map holds as done is no loss."""
        span = max(0, low - done.base)
        unread = span - (done.bits & ((1 << span) - 1)).bit_count()
        if unread:
            told = (
                f"retention deleted up to {unread:,} unread records of {partition.topic}/{partition.number}, "
                f"offsets {done.base} to {low - 1}, before group {self.group!r} had read them"
            )
            if self.unread_lost == "stop":
                raise RecordsLost(
                    f"{told}. To go on behind them set unread_lost='continue'; to keep records longer raise the topic's retention"
                )
            logger.error("%s; going on behind them, as unread_lost='continue' says", told)
        return done.from_offset(low)


def _owned(topic_id: str, done: OffsetMap) -> Owned:
    return Owned(topic_id, Committed(done.base, done.encode(topic_id)), done)
