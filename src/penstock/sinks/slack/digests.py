"""What is gathered by fingerprint until its digest is due: counts, a few samples, and where the first of each stands.

sink → [digests] → message
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.erasure import Erasure
from penstock.record import Partition, Position
from penstock.sinks.base import Delivery, Result

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from penstock.sinks.slack.options import SlackOptions

MOST_KINDS = 200
"""Digests held at once; what is of a further kind is told together with the others of its task."""
MOST_CHARACTERS = 80
"""Of a value in a fingerprint: some output fields are free text."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What deliveries of one digest have in common."""

    task: str
    kind: str
    """`result` or `letter`."""
    says: tuple[tuple[str, str], ...]
    """Names and values: of output fields, or stage and reason."""

    @property
    def key(self) -> str:
        """The same for all digests of this kind, also for one that is repeated after a crash."""
        told = "\0".join((self.task, self.kind, *(part for pair in self.says for part in pair)))
        return hashlib.blake2b(told.encode("utf-8", "backslashreplace"), digest_size=4).hexdigest()


@dataclass(slots=True, eq=False)
class Digest:
    """What one message will tell."""

    fingerprint: Fingerprint
    since: float
    """Unix time at which its first came."""
    count: int = 0
    samples: list[Delivery] = field(default_factory=list)
    first: dict[Partition, int] = field(default_factory=dict)
    counts: dict[Partition, int] = field(default_factory=dict)
    first_ms: int = 0
    last_ms: int = 0
    """When the first and the last of them were committed."""

    def add(self, delivery: Delivery, most_samples: int) -> None:
        """One more."""
        topic, number, offset = delivery.position
        partition = Partition(topic, number)
        self.count += 1
        self.counts[partition] = self.counts.get(partition, 0) + 1
        self.first[partition] = min(offset, self.first.get(partition, offset))
        self.first_ms = min(self.first_ms or delivery.committed_ms, delivery.committed_ms)
        self.last_ms = max(self.last_ms, delivery.committed_ms)
        if len(self.samples) < max(1, most_samples):  # one, to have whom to speak of when it is refused
            self.samples.append(delivery)

    def let_go(self, partitions: Collection[Partition]) -> None:
        """As if these had never come."""
        for partition in partitions:
            self.first.pop(partition, None)
            self.count -= self.counts.pop(partition, 0)
        self.samples = [
            one for one in self.samples if Partition(one.record.topic, one.record.partition) not in partitions
        ]

    def unsent(self) -> Iterable[Position]:
        """The first of each partition."""
        return [Position(*partition, offset) for partition, offset in self.first.items()]


class Digests:
    """Times are Unix times in seconds, given by whoever asks."""

    def __init__(self, options: SlackOptions, labels: Mapping[str, str]) -> None:
        self._options, self._labels = options, labels
        self._held: dict[Fingerprint, Digest] = {}
        self._sent_at: dict[Fingerprint, float] = {}
        self._under_way: Digest | None = None

    def __len__(self) -> int:
        return len(self._all())

    def add(self, delivery: Delivery, now: float) -> None:
        """Count it where it belongs, if the rules want it; an erasure takes samples away."""
        if isinstance(delivery.content, Erasure):
            self._erase(delivery.content)
        elif is_wanted(delivery, self._options):
            fingerprint = self._fingerprint(delivery)
            if fingerprint not in self._held and len(self._held) >= MOST_KINDS:
                fingerprint = Fingerprint(fingerprint.task, fingerprint.kind, (("of", "many kinds"),))
            digest = self._held.setdefault(fingerprint, Digest(fingerprint, now))
            digest.add(delivery, self._options.samples)

    def due(self, now: float) -> Digest | None:
        """The one that is due longest; None in quiet hours."""
        self._forget_drops(now)
        if self._options.is_quiet(now):
            return None
        ready = [(self._due_at(one), at) for at, one in enumerate(self._held.values()) if self._is_enough(one)]
        found = min(ready, default=None)
        return None if found is None or found[0] > now else list(self._held.values())[found[1]]

    def sent(self, digest: Digest, now: float) -> None:
        """It is told (or will never be): the next of its kind begins anew."""
        interval = self._options.group_interval_seconds
        self._sent_at = {one: at for one, at in self._sent_at.items() if now - at < interval}
        self._sent_at[digest.fingerprint] = now
        self._under_way = None

    def put_back(self, digest: Digest) -> None:
        """It could not be sent: what came meanwhile joins it."""
        self._under_way = None
        if not digest.count:
            return
        later = self._held.get(digest.fingerprint)
        self._held[digest.fingerprint] = digest if later is None else _joined(digest, later)

    def take(self, digest: Digest) -> None:
        """It is on its way: what comes meanwhile is of the next one."""
        self._under_way = self._held.pop(digest.fingerprint)

    def unsent(self) -> Iterable[Position]:
        """Likewise, of each digest."""
        return [position for one in self._all() for position in one.unsent()]

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Somebody else tells of these."""
        for digest in self._all():
            digest.let_go(partitions)
        self._held = {fingerprint: one for fingerprint, one in self._held.items() if one.count}

    def _all(self) -> list[Digest]:
        return [*self._held.values(), *([self._under_way] if self._under_way is not None else ())]

    def _due_at(self, digest: Digest) -> float:
        last = self._sent_at.get(digest.fingerprint, float("-inf"))
        wait, interval = self._options.group_wait_seconds, self._options.group_interval_seconds
        return max(digest.since + wait, last + interval)

    def _is_enough(self, digest: Digest) -> bool:
        return digest.fingerprint.kind != "letter" or digest.count >= self._options.min_letters

    def _forget_drops(self, now: float) -> None:
        """Too few dead letters for a message, and their time is over."""
        for digest in list(self._held.values()):
            if not self._is_enough(digest) and now - digest.since >= self._options.group_interval_seconds:
                del self._held[digest.fingerprint]

    def _erase(self, erasure: Erasure) -> None:
        for digest in self._all():
            digest.samples = [
                one
                for one in digest.samples
                if isinstance(one.content, Erasure)
                or one.content.task != erasure.task
                or not erasure.covers(one.record.key, one.content.subject)
            ]

    def _fingerprint(self, delivery: Delivery) -> Fingerprint:
        content = delivery.content
        if not isinstance(content, Result):
            said = {"stage": getattr(content, "stage", ""), "reason": getattr(content, "reason", "")}
            return Fingerprint(content.task, delivery.kind, tuple(said.items()))
        label = self._labels.get(content.task, "")
        names = dict.fromkeys((*self._options.where, *([label] if label else []), *self._options.group_by))
        says = tuple((name, _in_a_word(content.output.get(name))) for name in names)
        return Fingerprint(content.task, delivery.kind, says)


def is_wanted(delivery: Delivery, options: SlackOptions) -> bool:
    """Whether the rules tell of it."""
    content = delivery.content
    if delivery.kind not in options.kinds or (options.tasks and content.task not in options.tasks):
        return False
    if not isinstance(content, Result):
        return True
    if (content.provisional and not options.provisional) or not options.is_sure_as_wanted(content.confidence):
        return False
    return all(_has_one(content.output.get(name), values) for name, values in options.where.items())


def _has_one(said: Any, values: tuple[Any, ...]) -> bool:
    several = said if isinstance(said, list) else [said]
    return any(type(one) is type(value) and one == value for one in several for value in values)


def _in_a_word(value: Any) -> str:
    """Of a list the first: a review that breaks three rules is told once."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)[:MOST_CHARACTERS]


def _joined(digest: Digest, later: Digest) -> Digest:
    for partition, offset in later.first.items():
        digest.first[partition] = min(offset, digest.first.get(partition, offset))
        digest.counts[partition] = digest.counts.get(partition, 0) + later.counts[partition]
    digest.count += later.count
    digest.samples = (digest.samples + later.samples)[: max(len(digest.samples), len(later.samples))]
    digest.last_ms = max(digest.last_ms, later.last_ms)
    return digest
