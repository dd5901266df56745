"""The log on Apache Kafka, through confluent-kafka (librdkafka).

producers → [kafka] → intake …  checkpoint → [kafka] → sinks

Options are imported cheaply: Kafka's client comes with the first use of the log itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.log.kafka.options import KafkaOptions

if TYPE_CHECKING:
    from penstock.log.kafka.log import KafkaLog

__all__ = ["KafkaLog", "KafkaOptions"]


def __getattr__(name: str) -> Any:
    if name != "KafkaLog":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.log.kafka.log import KafkaLog  # noqa: PLC0415

    return KafkaLog
