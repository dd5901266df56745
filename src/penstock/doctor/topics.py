"""What a topic must be like for what the tasks do with it, as findings.

log.topics → [topics] → findings
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from penstock.doctor.finding import Finding, apart
from penstock.errors import SettingsError
from penstock.log.topics import Fault, Home, Topic, Uses, faults, faults_of, kept, missing
from penstock.settings import KafkaAddress
from penstock.wiring import home_of

if TYPE_CHECKING:
    from penstock.log.kafka.probe import Probe, TopicFacts
    from penstock.settings import Settings


def topic_findings(name: str, use: Uses, known: Mapping[str, Topic], home: Home) -> list[Finding]:
    """One finding for each thing that is not as it should be, or one that all is well."""
    found = known.get(name)
    if found is None:
        return [_finding(missing(name, use))]
    copies = f"{found.replicas} replicas, {kept(found)}" if found.replicas else kept(found)
    well = Finding(f"topic {name}", "ok", f"{found.partitions} partitions, {copies}")
    return [_finding(fault) for fault in faults_of(name, use, known, home)] or [well]


def _finding(fault: Fault) -> Finding:
    return Finding(f"topic {fault.topic}", "fail" if fault.is_fatal else "warn", fault.seen, fault.why, fault.fix)


def allowed(facts: Mapping[str, TopicFacts | SettingsError]) -> dict[str, Topic]:
    """Those that we may look at."""
    return {name: found for name, found in facts.items() if not isinstance(found, SettingsError)}


async def faults_on_cluster(settings: Settings, uses: Mapping[str, Uses]) -> list[Fault]:
    """What is wrong with the topics of a cluster, its number of brokers considered."""
    address = settings.log_address
    assert isinstance(address, KafkaAddress)
    probe = await apart(probe_of, address.brokers, settings)
    cluster = await apart(probe.cluster)
    known = allowed(await apart(probe.topic_facts, list(uses)))
    return faults(uses, known, home_of(settings, cluster.brokers, has_new_protocol=cluster.has_new_protocol))


def probe_of(brokers: str, settings: Settings) -> Probe:
    """A client that asks a cluster of these settings, and waits for its answers for seconds only."""
    from penstock.log.kafka.probe import Probe, hurried  # noqa: PLC0415 - only who uses Kafka pays for its client

    return Probe(brokers, settings.kafka_properties(), hurried(settings.kafka_log))
