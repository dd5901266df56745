"""What a topic must be like for what the tasks do with it.

tasks, log → [topics] → findings
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.doctor.finding import Finding
from penstock.log.state import STATE_TOPIC
from penstock.wiring import topic_specs

if TYPE_CHECKING:
    from penstock.log.base import TopicInfo
    from penstock.log.kafka.probe import TopicFacts
    from penstock.task import Task

DAY_MS = 24 * 3600 * 1000
_LARGEST_RECORD_BYTES = 1_048_588


@dataclass(slots=True)
class Uses:
    """What the tasks do with one topic."""

    is_read: bool = False
    """Somebody's events: made by others."""
    is_letters: bool = False
    is_results: bool = False
    operations: set[str] = field(default_factory=lambda: {"DESCRIBE"})
    """As Kafka's ACLs call them."""
    tasks: list[str] = field(default_factory=list)


def uses_of(tasks: Sequence[Task[Any, Any]]) -> dict[str, Uses]:
    """Every topic of the tasks. One topic may be many things: another task's results are events too."""
    uses: dict[str, Uses] = {}
    for task in tasks:
        for spec in topic_specs(task):
            use = uses.setdefault(spec.name, Uses())
            use.tasks.append(task.name)
            use.is_read |= spec.name == task.reads
            use.is_letters |= spec.name == task.dead_letters
            use.is_results |= spec.name == task.writes
            use.operations |= {"READ"} if spec.name in (task.reads, task.retry_topic, STATE_TOPIC) else set()
            use.operations |= {"WRITE"} if spec.name != task.reads else set()
    return uses


def topic_findings(name: str, use: Uses, found: TopicFacts | None, brokers: int) -> list[Finding]:
    """A topic of a cluster: one finding for each thing that is not as it should be, or one that all is well."""
    if found is None:
        return [missing(name, use)]
    findings = [
        finding for look in (_sharing, _replicas, _retention, _cleanup, _sizes) for finding in look(use, found, brokers)
    ]
    told = f"{found.partitions} partitions, {found.replicas} replicas, {_kept(found)}"
    return findings or [Finding(f"topic {name}", "ok", told)]


def plain_topic_finding(name: str, use: Uses, found: TopicInfo | None) -> Finding:
    """A topic of the embedded log."""
    if found is None:
        return missing(name, use)
    if use.is_read and found.partitions == 1:
        return _single(name, f"penstock topics create {name}-2 --partitions 12, and read that")
    return Finding(f"topic {name}", "ok", f"{found.partitions} partitions")


def missing(name: str, use: Uses) -> Finding:
    """Nobody made it."""
    why = "Events come from it." if use.is_read else f"{', '.join(use.tasks)} writes to it."
    return Finding(f"topic {name}", "fail", "does not exist", why, f"penstock topics create {name}{_flags(name)}")


def _flags(name: str) -> str:
    return " --compacted --partitions 1" if name == STATE_TOPIC else ""


def _single(name: str, fix: str) -> Finding:
    why = "Partitions are how work is shared: one worker takes all, every further one stands by."
    return Finding(f"topic {name}", "warn", "has one partition", why, fix)


def _sharing(use: Uses, found: TopicFacts, _: int) -> list[Finding]:
    if not use.is_read or found.partitions > 1:
        return []
    return [
        _single(
            found.name, f"kafka-topics --alter --topic {found.name} --partitions 12 (keys move to other partitions)"
        )
    ]


def _replicas(_: Uses, found: TopicFacts, brokers: int) -> list[Finding]:
    least = int(found.settings.get("min.insync.replicas", "0"))
    if brokers == 1 and found.replicas == 1:
        return []  # said once, by the broker's own finding
    if found.replicas == 1:
        why = "When its broker's disk is lost, so is what stands in it."
        return [_warn(found, "has one replica", why, "kafka-reassign-partitions with three replicas")]
    if found.replicas >= 3 and least == 1:
        why = "A write counts with one copy only: the loss of that broker takes it away."
        return [_warn(found, "min.insync.replicas is 1", why, _alter(found, "min.insync.replicas=2"))]
    if least >= found.replicas:
        why = "When one broker is down nothing can be written."
        return [
            _warn(
                found,
                f"min.insync.replicas is {least} of {found.replicas}",
                why,
                _alter(found, f"min.insync.replicas={found.replicas - 1}"),
            )
        ]
    return []


def _retention(use: Uses, found: TopicFacts, _: int) -> list[Finding]:
    kept_ms = int(found.settings.get("retention.ms", "-1"))
    if kept_ms < 0 or "delete" not in found.settings.get("cleanup.policy", "delete"):
        return []
    if use.is_read and kept_ms < DAY_MS:
        why = "What is deleted before it was read is lost: an outage or a spend cap must be shorter than that."
        return [_warn(found, f"keeps events {_days(kept_ms)}", why, _alter(found, f"retention.ms={7 * DAY_MS}"))]
    if use.is_letters and kept_ms < 7 * DAY_MS:
        why = "A dead letter that nobody looked at by then is gone."
        return [_warn(found, f"keeps letters {_days(kept_ms)}", why, _alter(found, f"retention.ms={14 * DAY_MS}"))]
    return []


def _cleanup(use: Uses, found: TopicFacts, _: int) -> list[Finding]:
    policy = found.settings.get("cleanup.policy")
    if policy is None:
        return []
    if found.name == STATE_TOPIC and policy != "compact":
        why = "What must survive a restart stands in it, the last record of each key for ever."
        return [_fault(found, f"cleanup.policy is {policy}", why, _alter(found, "cleanup.policy=compact"))]
    if (use.is_results or use.is_letters) and "compact" in policy:
        why = "Of several results with one key all but the last are deleted."
        return [_warn(found, f"cleanup.policy is {policy}", why, _alter(found, "cleanup.policy=delete"))]
    return []


def _sizes(use: Uses, found: TopicFacts, _: int) -> list[Finding]:
    largest = int(found.settings.get("max.message.bytes", str(_LARGEST_RECORD_BYTES)))
    if largest >= _LARGEST_RECORD_BYTES or "WRITE" not in use.operations:
        return []
    why = "A larger result or letter is refused when it is written."
    return [
        _warn(
            found, f"max.message.bytes is {largest:,}", why, _alter(found, f"max.message.bytes={_LARGEST_RECORD_BYTES}")
        )
    ]


def _warn(found: TopicFacts, seen: str, why: str, fix: str) -> Finding:
    return Finding(f"topic {found.name}", "warn", seen, why, fix)


def _fault(found: TopicFacts, seen: str, why: str, fix: str) -> Finding:
    return Finding(f"topic {found.name}", "fail", seen, why, fix)


def _alter(found: TopicFacts, setting: str) -> str:
    return f"kafka-configs --alter --topic {found.name} --add-config {setting}"


def _kept(found: TopicFacts) -> str:
    policy = found.settings.get("cleanup.policy", "")
    if policy == "compact":
        return "the last of each key kept"
    kept_ms = int(found.settings.get("retention.ms", "-1"))
    return (
        f"kept {_days(kept_ms)}" if kept_ms >= 0 else "kept for ever" if policy else "its settings are not shown to us"
    )


def _days(milliseconds: int) -> str:
    days = milliseconds / DAY_MS
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
