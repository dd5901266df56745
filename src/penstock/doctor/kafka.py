"""A Kafka cluster: whether it answers, has the topics as they should be, and lets us do what a worker does.

settings, tasks → [kafka] → findings
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.doctor.api import skew
from penstock.doctor.file_log import size
from penstock.doctor.finding import Check, Finding, apart, examine
from penstock.doctor.topics import allowed, probe_of, topic_findings
from penstock.doctor.version import age
from penstock.errors import LogUnavailable, PenstockError, SettingsError, UserError
from penstock.log.state import STATE_TOPIC
from penstock.log.topics import Uses, uses_of
from penstock.wiring import home_of

if TYPE_CHECKING:
    from penstock.log.kafka.probe import Cluster, Probe, TopicFacts
    from penstock.settings import KafkaAddress, Settings
    from penstock.task import Task

PART_SECONDS = 25.0
KAFKA_SECONDS = 45.0
COORDINATOR_SECONDS = 12.0
_ACL_FIX = "kafka-acls --bootstrap-server {brokers}{login} --add --allow-principal User:{user} {rights}"


async def kafka(settings: Settings, address: KafkaAddress, tasks: Sequence[Task[Any, Any]]) -> list[Finding]:
    """First whether anybody answers; then everything else side by side."""
    try:
        probe = await apart(probe_of, address.brokers, settings)
        cluster = await apart(probe.cluster)
    except PenstockError as error:
        return [_unreached(error, address)]
    doctor = _Kafka(probe, settings, tasks, cluster)
    parts = [
        Check("log topics", doctor.topics, PART_SECONDS),
        Check("groups", doctor.groups, PART_SECONDS),
        Check("log transactions", doctor.transactions, PART_SECONDS),
    ]
    old = age(cluster.protocol_version, has_new_protocol=cluster.has_new_protocol, options=settings.kafka_log)
    return [_broker(cluster, address), *old, *await examine(parts), doctor.disks()]


def _unreached(error: PenstockError, address: KafkaAddress) -> Finding:
    why = "Events are read from it and results written to it."
    seen, _, advice = str(error).partition("\n")
    fix = f"check log=kafka:{address.brokers}, the network, and security.protocol, sasl.* and ssl.* in [kafka]"
    return Finding("log broker", "fail", seen, why, advice or fix)


def _broker(cluster: Cluster, address: KafkaAddress) -> Finding:
    count = f"{cluster.brokers} broker{'s' if cluster.brokers != 1 else ''}"
    protocol = (
        "new group protocol"
        if cluster.has_new_protocol
        else "classic group protocol (Kafka before 4.0, or no right to look)"
    )
    return Finding("log broker", "ok", f"{address.brokers}: {count}, {protocol}")


def _at_least_once() -> Finding:
    why = "A worker that dies after it wrote results and before their progress doubles them, with the same ids."
    fix = "drop doubled ids where results are read; or allow transactional ids and set kafka_log.delivery=exactly_once"
    return Finding("log transactions", "warn", "not used: kafka_log.delivery=at_least_once", why, fix)


class _Kafka:
    """The checks of one cluster that answers."""

    def __init__(self, probe: Probe, settings: Settings, tasks: Sequence[Task[Any, Any]], cluster: Cluster) -> None:
        self._probe, self._tasks, self._delivery = probe, tasks, settings.kafka_log.delivery
        self._home = home_of(settings, cluster.brokers, has_new_protocol=cluster.has_new_protocol)
        self._brokers = self._home.servers
        properties = settings.kafka_properties()
        self._user = properties.get("sasl.username", "<user>")
        self._login = " --command-config admin.properties" if properties.get("security.protocol") else ""

    async def topics(self) -> list[Finding]:
        """Every topic of the tasks: how it is made, and whether we may use it so."""
        uses = uses_of(self._tasks)
        if not uses:
            return []
        facts = await apart(self._probe.topic_facts, list(uses))
        known = allowed(facts)
        findings: list[Finding] = []
        for name, use in uses.items():
            found = facts.get(name)
            if isinstance(found, SettingsError):
                findings.append(self._forbidden(f"topic {name}", str(found), _rights(name, use)))
            else:
                findings += topic_findings(name, use, known, self._home)
                findings += self._permissions(name, use, facts)
        return findings

    async def groups(self) -> list[Finding]:
        """Whether we may be members."""
        return [await self._group(task.group) for task in self._tasks]

    async def transactions(self) -> list[Finding]:
        """Really begins one, and aborts it; then looks what the broker's clock said."""
        if self._delivery == "at_least_once":
            return [_at_least_once()]
        group = self._tasks[0].group if self._tasks else "penstock"
        name = f"{group}/doctor-{uuid.uuid4().hex[:8]}"
        topic = STATE_TOPIC if STATE_TOPIC in await apart(self._probe.topic_facts, [STATE_TOPIC]) else ""
        began = time.time()
        try:
            seconds = await apart(self._probe.try_transaction, name, topic)
        except UserError as error:
            rights = (
                f"--operation Write --operation Describe --transactional-id {group}/ --resource-pattern-type prefixed"
            )
            refused = self._forbidden("log transactions", str(error), rights)
            without = "; or go without, at least once: -X kafka_log.delivery=at_least_once"
            return [refused._replace(fix=refused.fix + without)]
        except PenstockError as error:
            why = "Results and progress are committed in one transaction; without it nothing is committed."
            fix = "check that the transaction coordinator is up: kafka-topics --describe --topic __transaction_state"
            return [Finding("log transactions", "fail", str(error), why, fix)]
        seen = f"begun{', written' if topic else ''} and aborted in {seconds:.1f} s"
        delivery = Finding("log delivery", "ok", "exactly once: results and progress in one transaction")
        return [delivery, Finding("log transactions", "ok", seen), await self._clock(began)]

    def disks(self) -> Finding:
        """Brokers tell sizes and room of their disks, but not to this client; the file system here holds no event."""
        ask = f"kafka-log-dirs --bootstrap-server {self._brokers}{self._login} --describe"
        here = f"{size(shutil.disk_usage('.').free)} free here, where a worker keeps nothing"
        return Finding("log disk", "ok", f"the brokers' disks are seen by Kafka's own tool: {ask}; {here}")

    async def _clock(self, began: float) -> Finding:
        broker_ms = await apart(self._probe.last_transaction_ms)
        ended = time.time()
        if broker_ms < 0:
            fix = self._rule("--operation Describe --topic __transaction_state")
            return Finding("log clock", "ok", f"the broker's clock is not shown to us (optional: {fix})")
        ahead = (began + ended) / 2 - broker_ms / 1000
        return skew("log clock", ahead, max(0.0, abs(ahead) - (ended - began) / 2), "the broker's")

    async def _group(self, group: str) -> Finding:
        check = f"group {group}"
        rights = f"--operation Read --operation Describe --group {group}"
        try:
            operations = await self._operations(group)
        except UserError as error:
            return self._forbidden(check, str(error), rights)
        if "READ" not in operations:
            return self._forbidden(check, f"may not be joined (allowed: {_told(operations)})", rights)
        return Finding(check, "ok", "may be joined")

    async def _operations(self, group: str) -> frozenset[str]:
        """A coordinator that was asked for the first time loads its groups first."""
        end = time.monotonic() + COORDINATOR_SECONDS
        while True:
            try:
                return await apart(self._probe.group_operations, group)
            except LogUnavailable:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(0.5)

    def _permissions(self, name: str, use: Uses, facts: Mapping[str, TopicFacts | SettingsError]) -> list[Finding]:
        found = facts.get(name)
        if found is None or isinstance(found, SettingsError):
            return []
        missing = sorted(use.operations - found.operations)
        if not missing:
            return []
        return [self._forbidden(f"topic {name}", f"{', '.join(missing)} is not allowed", _rights(name, use))]

    def _forbidden(self, check: str, seen: str, rights: str) -> Finding:
        return Finding(check, "fail", seen, "A worker would be refused.", self._rule(rights))

    def _rule(self, rights: str) -> str:
        """The command for who may grant it; where clients log in, the tool needs a file that says how."""
        return _ACL_FIX.format(brokers=self._brokers, login=self._login, user=self._user, rights=rights)


def _rights(topic: str, use: Uses) -> str:
    operations = " ".join(f"--operation {operation.title()}" for operation in sorted(use.operations))
    return f"{operations} --topic {topic}"


def _told(operations: frozenset[str]) -> str:
    return ", ".join(sorted(operations)) or "nothing"
