"""Whether the brokers are new enough for what is asked of them.

Brokers tell no version. What they tell: the protocol that they speak among each other (Kafka before 4.0), and by which
protocols their groups may work (`consumer`: Kafka 4.0).
cluster → [version] → findings
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from penstock.doctor.finding import Finding

if TYPE_CHECKING:
    from penstock.log.kafka.options import KafkaOptions

Version = tuple[int, int]


class Need(NamedTuple):
    """What came with a version, and whether nothing works without it."""

    version: Version
    what: str
    is_must: bool


NEEDS = (
    Need(
        (2, 5), "progress in a transaction that a worker without its partitions cannot commit (KIP-447)", is_must=True
    ),
    Need((2, 8), "topic ids, by which a topic that was deleted and made again is known (KIP-516)", is_must=True),
    Need((3, 0), "the time of the last record, by which clocks are compared (KIP-734)", is_must=False),
)


def version_of(told: str) -> Version | None:
    """`3.4-IV0` or `2.1` as brokers write it; None where it is no version."""
    numbers = re.match(r"(\d+)\.(\d+)", told)
    return (int(numbers[1]), int(numbers[2])) if numbers else None


def age(told: str, *, has_new_protocol: bool, options: KafkaOptions) -> list[Finding]:
    """The brokers' version as far as they tell it, and what is wrong with it."""
    check = "log version"
    if options.group_protocol == "consumer" and not has_new_protocol:
        seen = "kafka_log.group_protocol=consumer, and the brokers do not offer it (Kafka before 4.0, or it is off)"
        fix = "-X kafka_log.group_protocol=auto, or newer brokers"
        return [Finding(check, "fail", seen, "A worker could not join its group.", fix)]
    version = version_of(told)
    if has_new_protocol:
        return [Finding(check, "ok", "Kafka 4.0 or newer: its brokers offer the new group protocol and tell no more")]
    if version is None:
        return [Finding(check, "ok", "not told to us (Kafka 4, or no right to see the brokers' settings)")]
    lacking = [need for need in NEEDS if version < need.version]
    if not lacking:
        return [Finding(check, "ok", f"the brokers speak Kafka {told} among each other")]
    least = max(need.version for need in lacking)
    seen = f"the brokers speak Kafka {told}"
    why = f"They lack {'; '.join(need.what for need in lacking)}."
    fix = f"brokers of Kafka {least[0]}.{least[1]} or newer (and inter.broker.protocol.version raised to it)"
    return [Finding(check, "fail" if any(need.is_must for need in lacking) else "warn", seen, why, fix)]
