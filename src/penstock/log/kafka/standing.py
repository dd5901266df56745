"""Where a group stands in partitions that were just assigned: committed progress, or `start_from` for those without.

rebalance → [standing] → consumer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogDamaged
from penstock.log.base import Assignment, Bounds
from penstock.log.kafka.admin import Admin, Committed
from penstock.log.kafka.connection import logger
from penstock.log.kafka.faults import missing
from penstock.log.kafka.ownership import Owned
from penstock.log.losses import Loss, stop_after, unread_loss
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
    loss: Loss | None = None
    """What retention deleted unread in front of it."""


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
        found = [
            self._started(p, topics[p.topic], starts[p], is_new=p in new)
            if p in starts
            else self._resumed(p, topics[p.topic], committed[p], Bounds(lows[p], highs[p]))
            for p in partitions
        ]
        self.judge([standing.loss for standing in found if standing.loss])
        return found

    def loss(self, partition: Partition, done: OffsetMap) -> tuple[int, Loss | None]:
        """Where a partition begins now, and what is lost to a reader who has come as far as `done`."""
        low = self.admin.lows([partition])[partition]
        return low, unread_loss(self.group, partition, done, low, is_exact=False)

    def judge(self, losses: Sequence[Loss]) -> None:
        """Say them. Raises `RecordsLost` unless told to go on."""
        for loss in losses:
            loss.tell()
        if losses and self.unread_lost == "stop":
            raise stop_after(losses)

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
        loss = unread_loss(self.group, partition, done, bounds.low, is_exact=False)
        done = done.from_offset(bounds.low)
        return Standing(Assignment(partition, done), Owned(topic_id, committed, done), loss=loss)


def _owned(topic_id: str, done: OffsetMap) -> Owned:
    return Owned(topic_id, Committed(done.base, done.encode(topic_id)), done)
