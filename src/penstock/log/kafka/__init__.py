"""The log on Apache Kafka, through confluent-kafka (librdkafka).

producers → [kafka] → intake …  checkpoint → [kafka] → sinks
"""

from penstock.log.kafka.connection import KafkaOptions
from penstock.log.kafka.log import KafkaLog

__all__ = ["KafkaLog", "KafkaOptions"]
