"""Which topics tasks need, what each is for, and what it must be like for that. The doctor and a starting worker ask here.

tasks, log → [topics] → wiring, doctor, cli
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.log.base import TopicSpec
from penstock.log.state import STATE_TOPIC

if TYPE_CHECKING:
    from penstock.task import Task

PARTITIONS = 12
DAY_MS = 24 * 3600 * 1000
KEPT_MS = 7 * DAY_MS
LETTERS_KEPT_MS = 14 * DAY_MS
LARGEST_RECORD_BYTES = 1_048_588
"""Kafka's own default of `max.message.bytes`."""
SMALL_BYTES = 100 * 1024 * 1024


def state_spec() -> TopicSpec:
    """The topic of what must survive a restart."""
    return TopicSpec(STATE_TOPIC, 1, retention_ms=None, is_compacted=True)


def retry_partitions(partitions: int) -> int:
    """How many a retry topic gets beside an input of so many."""
    # A classic group's assignor evens out the sum over both topics, so that with equal counts a second worker may get all of the
    # retry topic, which is nearly always empty, and not one of the input. Fewer of them can take the place of few only.
    return -(-partitions // 4)


def topic_specs(task: Task[Any, Any], partitions: int = PARTITIONS) -> list[TopicSpec]:
    """Every topic that a task needs, its input first."""
    return [
        TopicSpec(task.reads, partitions, KEPT_MS),
        TopicSpec(task.writes, partitions, KEPT_MS),
        TopicSpec(task.dead_letters, partitions, LETTERS_KEPT_MS),
        TopicSpec(task.retry_topic, retry_partitions(partitions), KEPT_MS),
        state_spec(),
    ]


@dataclass(slots=True)
class Uses:
    """What the tasks do with one topic."""

    is_read: bool = False
    """Somebody's events: made by others."""
    is_letters: bool = False
    is_results: bool = False
    is_retry: bool = False
    operations: set[str] = field(default_factory=lambda: {"DESCRIBE"})
    """As Kafka's ACLs call them."""
    tasks: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    """What those tasks read."""


def uses_of(tasks: Sequence[Task[Any, Any]]) -> dict[str, Uses]:
    """Every topic of the tasks. One topic may be many things: another task's results are events too."""
    uses: dict[str, Uses] = {}
    for task in tasks:
        for spec in topic_specs(task):
            use = uses.setdefault(spec.name, Uses())
            use.tasks.append(task.name)
            use.inputs.append(task.reads)
            use.is_read |= spec.name == task.reads
            use.is_letters |= spec.name == task.dead_letters
            use.is_results |= spec.name == task.writes
            use.is_retry |= spec.name == task.retry_topic
            use.operations |= {"READ"} if spec.name in (task.reads, task.retry_topic, STATE_TOPIC) else set()
            use.operations |= {"WRITE"} if spec.name != task.reads else set()
    return uses


class Topic(Protocol):
    """A topic as it is: `TopicInfo`, or what a probe found."""

    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def replicas(self) -> int: ...
    @property
    def settings(self) -> Mapping[str, str]: ...


class Home(NamedTuple):
    """The log that holds the topics."""

    servers: str = ""
    """Of a cluster; empty for the embedded log."""
    brokers: int = 0
    """0: not known."""
    max_message_bytes: int = LARGEST_RECORD_BYTES
    """What our largest record needs."""
    has_classic_groups: bool = False
    """Clients assign the partitions, over all topics of a group together."""


class Fault(NamedTuple):
    """A topic is not as it should be."""

    topic: str
    seen: str
    why: str
    fix: str
    is_fatal: bool = False
    """Work must not begin."""

    def __str__(self) -> str:
        return f"topic {self.topic} {self.seen}. {self.why} Do: {self.fix}"


def faults(uses: Mapping[str, Uses], known: Mapping[str, Topic], home: Home) -> list[Fault]:
    """Everything that is wrong with the topics that exist."""
    return [fault for name in uses if name in known for fault in faults_of(name, uses[name], known, home)]


def faults_of(name: str, use: Uses, known: Mapping[str, Topic], home: Home) -> list[Fault]:
    """Everything that is wrong with one topic."""
    found = known[name]
    return [
        *_sharing(use, found, known, home),
        *_replicas(found, home),
        *_retention(use, found, home),
        *_cleanup(use, found, home),
        *_sizes(use, found, home),
    ]


def missing(name: str, use: Uses) -> Fault:
    """Nobody made it."""
    why = "Events come from it." if use.is_read else f"{', '.join(use.tasks)} writes to it."
    fix = f"penstock topics create {name} (or --task MODULE:TASK for all topics of a task)"
    return Fault(name, "does not exist", why, fix, is_fatal=True)


def _sharing(use: Uses, found: Topic, known: Mapping[str, Topic], home: Home) -> Iterator[Fault]:
    if use.is_read and found.partitions == 1:
        why = "Partitions are how work is shared: only one worker can work on it, every further one stands by."
        more = f"kafka-topics {_at(home)}--alter --topic {found.name} --partitions 12 (keys move to other partitions)"
        fix = more if home.servers else f"penstock topics create {found.name}-2 --partitions 12, and read that"
        yield Fault(found.name, "has one partition", why, fix)
    widest = max((known[name].partitions for name in use.inputs if name in known), default=0)
    if use.is_retry and home.has_classic_groups and widest and found.partitions > max(1, widest // 2):
        seen = f"has {_counted(found.partitions, 'partition')}, the events come from {widest}"
        why = "The classic group protocol evens out their sum: a worker may own many of these and few events, or none."
        fix = (
            "kafka_log.group_protocol=consumer where the brokers are of Kafka 4; else, with the workers stopped and nothing waiting "
            f"in it (penstock status): kafka-topics {_at(home)}--delete --topic {found.name}, then "
            f"penstock topics create {found.name} --partitions {retry_partitions(widest)}"
        )
        yield Fault(found.name, seen, why, fix)


def _replicas(found: Topic, home: Home) -> Iterator[Fault]:
    if not found.replicas or (home.brokers == 1 and found.replicas == 1):
        return  # an embedded log; or a single broker, which its own finding tells
    least = int(found.settings.get("min.insync.replicas", "0"))
    if found.replicas < min(3, home.brokers):
        seen = f"has {_counted(found.replicas, 'replica')} on {home.brokers} brokers"
        why = "When the disks of as many brokers are lost, so is what stands in it; three is usual."
        yield Fault(found.name, seen, why, f"kafka-reassign-partitions {_at(home)}with three replicas a partition")
    elif found.replicas >= 3 and least == 1:
        why = "A write counts with one copy only: the loss of that broker takes it away."
        yield Fault(found.name, "has min.insync.replicas=1", why, _alter(found, "min.insync.replicas=2", home))
    if found.replicas > 1 and least >= found.replicas:
        seen = f"has min.insync.replicas={least} of {found.replicas}"
        fix = _alter(found, f"min.insync.replicas={found.replicas - 1}", home)
        yield Fault(found.name, seen, "When one broker is down nothing can be written.", fix)


def _retention(use: Uses, found: Topic, home: Home) -> Iterator[Fault]:
    if "delete" not in found.settings.get("cleanup.policy", "delete"):
        return
    kept_ms = int(found.settings.get("retention.ms", "-1"))
    kept_bytes = int(found.settings.get("retention.bytes", "-1"))
    waits = use.is_read or use.is_retry
    why = "What is deleted before it was answered is lost: every outage, spend cap or long retry must be shorter than that."
    if waits and 0 <= kept_ms < DAY_MS:
        yield Fault(found.name, f"keeps events {days(kept_ms)}", why, _keep(found, KEPT_MS, home))
    if waits and 0 <= kept_bytes < SMALL_BYTES:
        seen = f"keeps {kept_bytes:,} bytes a partition"
        why = "A burst of that size deletes events that wait for an answer: they are lost."
        yield Fault(found.name, seen, why, _alter(found, "retention.bytes=-1", home))
    if use.is_letters and 0 <= kept_ms < 7 * DAY_MS:
        why = "A dead letter that nobody looked at by then is gone."
        yield Fault(found.name, f"keeps letters {days(kept_ms)}", why, _keep(found, LETTERS_KEPT_MS, home))


def _cleanup(use: Uses, found: Topic, home: Home) -> Iterator[Fault]:
    policy = found.settings.get("cleanup.policy")
    if policy is None:
        return
    if found.name == STATE_TOPIC and policy != "compact":
        why = "What must survive a restart stands in it, the last record of each key for ever."
        fix = _alter(found, "cleanup.policy=compact", home)
        yield Fault(found.name, f"has cleanup.policy={policy}", why, fix, is_fatal=True)
    if (use.is_results or use.is_letters) and "compact" in policy:
        why = "Of several results with one key all but the last are deleted."
        yield Fault(found.name, f"has cleanup.policy={policy}", why, _alter(found, "cleanup.policy=delete", home))


def _sizes(use: Uses, found: Topic, home: Home) -> Iterator[Fault]:
    largest = int(found.settings.get("max.message.bytes", str(home.max_message_bytes)))
    if "WRITE" not in use.operations or largest >= home.max_message_bytes:
        return
    why = "A larger result or letter is refused when it is written, and the worker stops."
    fix = f"{_alter(found, f'max.message.bytes={home.max_message_bytes}', home)}, or lower kafka_log.max_record_bytes"
    yield Fault(found.name, f"has max.message.bytes={largest:,}", why, fix)


def _keep(found: Topic, milliseconds: int, home: Home) -> str:
    return _alter(found, f"retention.ms={milliseconds}", home)


def _alter(found: Topic, setting: str, home: Home) -> str:
    if not home.servers:
        return f"make a topic with {setting} (penstock topics create --retention-days, --compacted), and use that"
    return f"kafka-configs {_at(home)}--alter --topic {found.name} --add-config {setting}"


def _at(home: Home) -> str:
    return f"--bootstrap-server {home.servers} " if home.servers else ""


def kept(found: Topic) -> str:
    """How long it keeps what it holds."""
    policy = found.settings.get("cleanup.policy", "")
    if policy == "compact":
        return "the last of each key kept"
    kept_ms = int(found.settings.get("retention.ms", "-1"))
    return (
        f"kept {days(kept_ms)}" if kept_ms >= 0 else "kept for ever" if policy else "its settings are not shown to us"
    )


def days(milliseconds: int) -> str:
    """As people say it."""
    seconds = milliseconds / 1000
    for size, name in ((2 * 24 * 3600, "days"), (2 * 3600, "hours"), (120, "minutes")):
        if seconds >= size:
            return f"{2 * seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
