"""The contract of a sink: what it is handed, in which order, and what it may say about it.

log → delivery → [sink] → the world

Promises of the delivery loop (`tests/contract/test_sink.py` holds every sink to its part of them):
  * each sink reads with a consumer group of its own: an outage of one holds nothing else, several processes share its work;
  * a sink is handed one batch at a time; the records of a partition come in their order, so that a provisional result comes
    before the final one, and an erasure behind all that it erases;
  * at least once: after a crash, a rebalance or `penstock redeliver` the same deliveries come again, with the same `id`. A
    sink must have its effect once: an upsert, an idempotency key, a file's name;
  * progress is committed when `deliver` has returned. Results of the offline simulator never come, unless told so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from penstock.deadletters.letter import Letter
from penstock.erasure import Erasure
from penstock.outcome import Confidence
from penstock.record import Partition, Position, Record

if TYPE_CHECKING:
    from penstock.task import StartFrom
    from penstock.telemetry.sample import Sample

Reads = Literal["results", "letters"]


class Times(NamedTuple):
    """Unix time in milliseconds; 0 where the result does not say."""

    produced: int = 0
    taken: int = 0
    asked: int = 0
    answered: int = 0
    committed: int = 0


class Usage(NamedTuple):
    """Tokens that were billed for this event."""

    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0


_NO_TIMES, _NO_USAGE, _NOWHERE = Times(), Usage(), Position("", 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result as read; `docs/reference/records.md` has the meaning of each field."""

    id: str
    """Deterministic: the same however often it is answered, written or delivered."""
    event_id: str
    subject: str
    task: str
    output: Mapping[str, Any]
    confidence: Confidence
    provisional: bool = False
    """Another result will supersede this one."""
    supersedes: str = ""
    """The id of the provisional result that this one replaces."""
    generation: int = 0
    """How often the event was sent through its task again (redrive, backfill): the higher one holds."""
    lane: str = ""
    tier: str = ""
    model: str = ""
    prompt: str = ""
    policy: str = ""
    simulated: bool = False
    attempts: int = 0
    usage: Usage = _NO_USAGE
    nanousd: int = 0
    source: Position = _NOWHERE
    """Where the event stands."""
    times: Times = _NO_TIMES


Content = Result | Letter | Erasure


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One thing to deliver: a result, a dead letter or an erasure. Compared by identity; `position` tells them apart."""

    content: Content
    record: Record
    """As it stands in the log: key, headers, the bytes of its value, and when it was committed (`timestamp_ms`)."""

    @property
    def id(self) -> str:
        """The same whenever this is delivered again: fit for an idempotency key or a file's name."""
        return self.content.id

    @property
    def kind(self) -> Literal["result", "letter", "erasure"]:
        """What it is, as a word."""
        if isinstance(self.content, Result):
            return "result"
        return "letter" if isinstance(self.content, Letter) else "erasure"

    @property
    def task(self) -> str:
        """Whose it is."""
        return self.content.task

    @property
    def position(self) -> Position:
        """Where it stands in the results or the dead letters: unique, and ascending within a partition."""
        return Position(self.record.topic, self.record.partition, self.record.offset)

    @property
    def committed_ms(self) -> int:
        """When it was written."""
        return self.record.timestamp_ms


@dataclass(frozen=True, slots=True)
class Refused:
    """The sink will never take this one: a dead letter with `stage=deliver` says so, and delivery goes on behind it."""

    delivery: Delivery
    detail: str
    """For people; no text of the event and no secret."""
    reason: str = "refused"
    """A word of few, for metrics and lists."""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How the delivery loop feeds one sink. A sink's class gives its own defaults as `options`."""

    max_batch_items: int = 500
    max_wait_seconds: float = 0.0
    """How long results may wait for company: a digest or a file wants many at once."""
    start_from: StartFrom = "earliest"
    """Where a group that has never read begins. `latest`: no messages about what was there before."""


class Sink(ABC):
    """Base of all sinks. A sink of one's own gives a `name` and `deliver`; the rest has defaults.

    What `open` and `deliver` may raise:
      * `SinkAway`: weather. The same deliveries come again after a while, as often as it takes;
      * `UserError`: nothing can be delivered until a person acts. This sink stops, the others go on;
      * anything else is a fault: the batch is taken apart, and a delivery that fails again and again while its neighbours
        pass becomes a dead letter. A fault that hits all of them is waited out like weather.
    `deliver` may be cancelled: at a stop that takes too long, or when its partitions go to another process.
    """

    name: str = ""
    """Names the consumer group and labels metrics: letters, digits, `.`, `_`, `-`."""
    reads: frozenset[Reads] = frozenset({"results"})
    """What it is handed; erasures come with either."""
    options: SinkOptions = SinkOptions()
    is_paused = False
    """A person wants it to wait (`penstock deliver --pause`): what it does by itself waits too."""

    async def open(self) -> None:  # noqa: B027 - a sink without connections needs none
        """Connect. Called again after `SinkAway`, and once per process otherwise."""

    @abstractmethod
    async def deliver(self, batch: Sequence[Delivery]) -> Iterable[Refused] | None:
        """Take all of it, but for what is refused. When this returns the batch is durable where it was sent to."""

    async def given_up(self) -> Sequence[Refused]:
        """What `deliver` took on to try again by itself and could not deliver after all: it becomes dead letters.

        Asked for every so often, for sinks that keep an outbox. It may raise what `deliver` may.
        """
        return ()

    async def buried(self, refused: Sequence[Refused]) -> None:  # noqa: B027 - likewise
        """The dead letters of what was given up are committed: forget it. After a crash before this it is asked for again."""

    def unsent(self) -> Iterable[Position]:
        """What `deliver` took and holds back, as a digest does: progress stays in front of the first one of each partition.

        So it comes again after a crash. Whoever holds back sends what is due in `given_up`.
        """
        return ()

    def took(self, partitions: Collection[Partition]) -> None:  # noqa: B027 - likewise
        """This process has these now. Each partition is with one process: what one of all shall do, the owner of one does."""

    def let_go(self, partitions: Collection[Partition]) -> None:  # noqa: B027 - likewise
        """Another process has these now: forget what is held back of them."""

    async def close(self) -> None:  # noqa: B027 - likewise
        """Give back what `open` took. Called after a failed `open` too."""

    def samples(self) -> Iterable[Sample]:
        """Further metrics of this sink, where it has any."""
        return ()


class Kept(NamedTuple):
    """Where a delivery stands among those that speak of the same event; later ones replace earlier ones."""

    generation: int
    committed_ms: int
    offset: int


def rank(delivery: Delivery) -> Kept:
    """The order in which results of one event and task replace each other (a redelivery changes nothing)."""
    content = delivery.content
    generation = content.generation if isinstance(content, Result) else 0
    return Kept(generation, delivery.committed_ms, delivery.record.offset)
