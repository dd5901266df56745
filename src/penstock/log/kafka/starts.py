"""Which partitions a group has begun: what its offsets alone cannot tell once they are gone.

rebalance → standing → [starts] → penstock-state

A partition without a committed offset is one of three, and each wants something else:
  * the group is only beginning: `start_from` says where;
  * the partition was added to the topic after the group began: it is read from its first offset, never skipped;
  * the offset expired or was deleted: the group never starts over unasked, a person says where to go on.
Kafka forgets the offsets of a group that was away for `offsets.retention.minutes`, all of them at once, so what tells
these apart has to stand elsewhere. When a group begins a partition its start is committed, and then one record goes to
the state topic: `[group, "start", "topic/number"]` with the topic's id and how many partitions it had. The topic is read only
where an offset is missing. A worker killed in the milliseconds between commit and record leaves a partition of which this
module knows nothing; on a log without a state topic it never knows anything: then `start_from` says where, as for a new group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogUnavailable, ProgressLost
from penstock.log.kafka.connection import logger
from penstock.log.kafka.faults import meaning
from penstock.log.kafka.writing import Report, produce
from penstock.log.state import STATE_TOPIC, State, read_state, state_record
from penstock.record import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from penstock.log.base import TopicInfo
    from penstock.log.kafka.admin import Admin
    from penstock.log.kafka.connection import Connection
    from penstock.log.kafka.reader import Reader

PAGE_RECORDS = 5_000


class Start(NamedTuple):
    """A partition that the group has begun."""

    topic_id: str
    partitions: int
    """How many the topic had then."""


class Sorted(NamedTuple):
    """Partitions without a committed offset."""

    new: list[Partition]
    """The group is only beginning."""
    later: list[Partition]
    """They came after the group had begun: nothing of them was ever read."""


class Starts:
    """Reads the state topic as far as it was not read before. Every call blocks."""

    def __init__(self, connection: Connection, admin: Admin, reader: Reader, group: str) -> None:
        self._connection, self._admin, self._reader, self._group = connection, admin, reader, group
        self._begun: dict[Partition, Start] = {}
        self._owed: dict[Partition, TopicInfo] = {}
        """Committed, and not yet written down: a rejoin after weather makes up for it."""
        self._read_to: dict[Partition, int] = {}

    def sort(self, partitions: Sequence[Partition], topics: Mapping[str, TopicInfo]) -> Sorted:
        """What each of these without a committed offset is. Raises `ProgressLost`."""
        if not partitions:
            return Sorted([], [])
        self._read_on()
        lost = [p for p in partitions if p in self._begun and self._begun[p].topic_id == topics[p.topic].id]
        if lost:
            raise ProgressLost(self._told(lost))
        later = [p for p in partitions if self._is_later(p, topics[p.topic].id)]
        for partition in later:
            logger.info(
                "%s/%d came after group %s had begun: it is read from its first offset", *partition, self._group
            )
        return Sorted([p for p in partitions if p not in later], later)

    def remember(self, begun: Mapping[Partition, TopicInfo]) -> None:
        """Their starts are committed. Also writes down what an earlier call could not."""
        begun = self._owed = {**self._owed, **begun}
        if not begun or STATE_TOPIC not in self._admin.topic_infos([STATE_TOPIC]):
            return
        starts = {p: Start(topic.id, topic.partitions) for p, topic in begun.items()}
        records = [
            state_record(self._group, "start", f"{p.topic}/{p.number}", start._asdict()) for p, start in starts.items()
        ]
        seconds = self._connection.options.request_timeout_seconds
        producer = self._connection.producer({"linger.ms": 0, "message.timeout.ms": int(seconds * 1000)})
        report = Report()
        produce(producer, records, report, seconds)
        producer.flush(seconds)
        if report.error is not None:
            raise meaning(report.error, f"writing to {STATE_TOPIC}", self._connection)
        if report.last is None:
            raise LogUnavailable(f"writing to {STATE_TOPIC}: no answer ({self._connection.last_error})")
        self._begun.update(starts)
        self._owed = {}

    def _is_later(self, partition: Partition, topic_id: str) -> bool:
        """Another partition of the topic was begun when this one was not there; or the whole topic was not, by this id."""
        siblings = [start for p, start in self._begun.items() if p.topic == partition.topic]
        alive = [start.partitions for start in siblings if start.topic_id == topic_id]
        return partition.number >= min(alive) if alive else bool(siblings)

    def _read_on(self) -> None:
        if STATE_TOPIC not in self._admin.topic_infos([STATE_TOPIC]):
            return
        for partition in self._admin.partitions(STATE_TOPIC):
            while records := self._reader.read(partition, self._read_to.get(partition, 0), PAGE_RECORDS):
                self._read_to[partition] = records[-1].offset + 1
                for record in records:
                    self._note(read_state(record))

    def _note(self, state: State) -> None:
        if state.task != self._group or state.kind != "start":
            return
        topic, _, number = state.id.rpartition("/")
        partition = Partition(topic, int(number))
        self._begun.pop(partition, None)
        if state.value is not None:
            self._begun[partition] = Start(str(state.value["topic_id"]), int(state.value["partitions"]))

    def _told(self, lost: Iterable[Partition]) -> str:
        names = ", ".join(f"{p.topic}/{p.number}" for p in lost)
        topics: dict[str, list[str]] = {}
        for partition in lost:
            topics.setdefault(partition.topic, []).append(str(partition.number))
        places = " ".join(f"--topic {topic}:{','.join(numbers)}" for topic, numbers in topics.items())
        return (
            f"group {self._group!r} has worked on {names} before, and its committed offsets are gone: they expired "
            "(offsets.retention.minutes of the brokers) or were deleted. It does not start over unasked. Say where it goes on, "
            f"while none of its workers runs: kafka-consumer-groups --bootstrap-server {self._connection.bootstrap_servers} "
            f"--group {self._group} {places} --reset-offsets --to-earliest --execute (everything that is kept is answered and "
            "paid for again; or --to-datetime 2026-01-31T12:00:00.000, or --to-latest)"
        )
