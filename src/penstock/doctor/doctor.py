"""All checks for these settings and tasks.

cli → [doctor] → findings
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.doctor.api import API_SECONDS, api
from penstock.doctor.around import ops_port, registry
from penstock.doctor.file_log import file_log
from penstock.doctor.finding import Check, Finding, apart
from penstock.doctor.installation import installation
from penstock.doctor.kafka import KAFKA_SECONDS, kafka
from penstock.doctor.money import budget, limits, prices
from penstock.doctor.tasks import outputs
from penstock.doctor.topics import topic_findings
from penstock.log.topics import uses_of
from penstock.settings import KafkaAddress, Settings, SqliteAddress
from penstock.wiring import home_of, open_log

if TYPE_CHECKING:
    from penstock.task import Task


def checks(settings: Settings, tasks: Sequence[Task[Any, Any]]) -> list[Check]:
    """What to look at, in the order in which it is told."""

    async def bounds() -> list[Finding]:
        return [budget(settings), limits(settings)]

    async def table() -> list[Finding]:
        return [prices(settings)]

    asks_claude = not tasks or any(isinstance(step.tier, str) for task in tasks for step in task.route.steps)
    found = [
        Check("installation", installation),
        *_log_checks(settings, tasks),
        Check("registry", lambda: registry(settings, tasks)),
        Check("ops port", lambda: ops_port(settings)),
        Check("outputs", lambda: apart(outputs, settings, tasks)),
        Check("prices", table),
    ]
    if asks_claude:
        found += [Check("api", lambda: api(settings, tasks), API_SECONDS), Check("budget", bounds)]
    return found


def _log_checks(settings: Settings, tasks: Sequence[Task[Any, Any]]) -> list[Check]:
    address = settings.log_address
    if isinstance(address, KafkaAddress):
        return [Check("log", lambda: kafka(settings, address, tasks), KAFKA_SECONDS)]
    return [
        Check("log", lambda: file_log(settings, address.path)),
        Check("topics", lambda: _plain_topics(settings, address, tasks)),
    ]


async def _plain_topics(settings: Settings, address: SqliteAddress, tasks: Sequence[Task[Any, Any]]) -> list[Finding]:
    uses = uses_of(tasks)
    if not uses or not address.path.is_file():
        return []
    log = open_log(settings)
    try:
        known = await log.topics()
    finally:
        await log.close()
    return [
        finding
        for name, use in uses.items()
        if use.is_read or name in known  # a worker makes the others itself
        for finding in topic_findings(name, use, known, home_of(settings))
    ]
