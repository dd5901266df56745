"""The contract of an event log: topics, partitions, groups, and one act that writes results and progress together.

producers → [log] → intake …  checkpoint → [log] → sinks

Promises of every choice (`tests/contract/` holds them):
  * records of a partition keep their order; readers see committed records only;
  * `commit` writes everything of a `Progress` or nothing (law 2; a log whose `delivery` is `at_least_once` writes progress
    after the rest and says so), and only for partitions that this consumer owns
    at that very moment (law 3); the ownership of a partition ends when `Listener.revoked` returns;
  * after a restart, `Assignment` gives back the watermark and the map exactly as committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition, Position, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.log.losses import Loss
    from penstock.task import StartFrom


Guarantee = Literal["exactly_once", "at_least_once"]
"""Whether results and progress are one act (law 2), or results may be there twice after a crash, with the same ids."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition that this consumer owns from now on, and where its group stands there."""

    partition: Partition
    done: OffsetMap
    """Everything below `done.base` is resolved, and what the map holds above it. Reading starts at `done.base`."""
    is_new: bool = False
    """The group had no offsets here: `done.base` comes from `start_from`."""


@dataclass(frozen=True, slots=True)
class PartProgress:
    """What one partition's progress adds: where it stands now, and the records that brought it there."""

    partition: Partition
    done: OffsetMap
    appends: tuple[NewRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """One act (law 2): results, dead letters, state, hand-overs, watermark and map of the partitions that changed.

    `appends` are records of no partition of ours (waste): they are written with any of the parts, or alone.
    """

    parts: tuple[PartProgress, ...]
    appends: tuple[NewRecord, ...] = ()

    def without(self, partitions: frozenset[Partition]) -> Progress:
        """The same act without the parts of partitions that were lost."""
        return Progress(tuple(p for p in self.parts if p.partition not in partitions), self.appends)


class Listener(Protocol):
    """Told by a consumer when partitions come and go. Called on the event loop, one at a time."""

    async def assigned(self, assignments: Sequence[Assignment]) -> None:
        """These partitions are ours; the first record of them comes after this returns."""
        ...

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        """Finish and commit what can be finished before `deadline` (`time.monotonic()`); then they are gone."""
        ...

    async def lost(self, partitions: Sequence[Partition]) -> None:
        """They are gone already: nothing of them can be committed."""
        ...

    async def passed(self, losses: Sequence[Loss]) -> None:
        """Retention deleted these unread, and reading goes on behind them as it was told to: write them down.

        Told before any record behind them, and again at the next start until progress has passed them.
        """
        ...


class Consumer(Protocol):
    """A member of a group: reads the partitions it owns, writes progress and results in one act."""

    max_metadata_bytes: int
    """An encoded map may be this long (4,096 on Kafka)."""
    max_record_bytes: int
    """A record that is written may be this large (key, value and headers)."""

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """Up to `max_records` of owned, unpaused partitions, each partition in order; also serves rebalances.

        With `max_records == 0` it only serves rebalances. Never reads ahead of what it returns by more than a bounded amount.
        """
        ...

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Return no records of these until `resume`. Forgotten when a partition is revoked."""
        ...

    def resume(self, partitions: Sequence[Partition]) -> None:
        """The reverse of `pause`; nothing is skipped."""
        ...

    async def commit(self, progress: Progress) -> None:
        """Write all of it in one act.

        Raises `PartitionsLost` (nothing was written: commit again `without` them), `LogUnavailable` (nothing was written:
        commit the same again), `RecordTooLarge` (nothing was written). Where the outcome of the act is unknown the
        log itself finds out before it returns or raises.
        """
        ...

    async def close(self) -> None:
        """Leave the group: `revoked` is called for all that is owned, then neighbours may take over at once."""
        ...


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be made."""

    name: str
    partitions: int = 12
    retention_ms: int | None = 7 * 24 * 3600 * 1000
    """None: kept for ever."""
    is_compacted: bool = False
    """Only the last record of a key is kept (state topics)."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the log in use, passed through."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is."""

    name: str
    id: str
    """Changes when a topic is deleted and made again."""
    partitions: int
    is_compacted: bool = False
    replicas: int = 0
    """The fewest copies of any partition; 0 where the log keeps none."""
    settings: Mapping[str, str] = field(default_factory=dict, compare=False)
    """`cleanup.policy`, `retention.ms` and others in Kafka's words; empty where they may not be read."""


class Bounds(NamedTuple):
    """Offsets of a partition: the first that is kept, and the one that the next record will get."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A consumer of a group, as the log sees it."""

    member: str
    partitions: tuple[Partition, ...]
    is_alive: bool = True


class EventLog(Protocol):
    """The whole log. Opening it is cheap; one serves a process."""

    @property
    def kind(self) -> str:
        """Which choice it is: `sqlite`, `kafka`."""
        ...

    @property
    def delivery(self) -> Guarantee:
        """What its commits promise; told wherever a person looks."""
        ...

    async def append(self, records: Sequence[NewRecord]) -> list[Position]:
        """Write records, durable when this returns. Keys decide partitions as Kafka's own clients do (murmur2)."""
        ...

    async def join(
        self, group: str, topics: Sequence[str], listener: Listener, *, start_from: StartFrom = "latest", slot: str = ""
    ) -> Consumer:
        """Become a member of a group. `slot` names this worker stably over restarts (Kafka: transactional id)."""
        ...

    async def read(self, partition: Partition, offset: int, max_records: int) -> list[Record]:
        """Committed records from `offset` on, without any group; empty at the end. Gaps are passed over."""
        ...

    async def topics(self) -> dict[str, TopicInfo]:
        """All topics, by name."""
        ...

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make what is missing; the names that were made. An existing topic is left as it is."""
        ...

    async def bounds(self, topic: str) -> dict[Partition, Bounds]:
        """First and next offset of each partition. Raises `TopicMissing`."""
        ...

    async def committed(self, group: str, topic: str) -> dict[Partition, OffsetMap]:
        """How far a group has come; partitions without offsets are left out."""
        ...

    async def topics_of(self, group: str) -> set[str]:
        """The topics that a group has progress in: a cluster may have thousands that it has none in."""
        ...

    async def groups(self) -> dict[str, list[GroupMember]]:
        """All groups and their members."""
        ...

    async def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        """The first offset whose record is not older; the next offset where there is none."""
        ...

    async def close(self) -> None:
        """Give back files and connections."""
        ...
