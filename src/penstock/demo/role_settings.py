"""The settings under which the roles of the demo work: the user's, but for where the log, the API and the limits are.

run → [role_settings] → crew
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.demo.burst import rates_of
from penstock.flow.ceilings import NANOUSD, SpendOptions, periods_at
from penstock.flow.claims import Account
from penstock.flow.limits import LimitOptions
from penstock.flow.tail import read_claims

if TYPE_CHECKING:
    from penstock.demo.offline import OfflineClaude
    from penstock.demo.options import DemoOptions
    from penstock.demo.place import Place
    from penstock.log.base import EventLog
    from penstock.settings import Settings

DRAIN_SECONDS = 8.0
RISE_PER_SECOND = 0.3
"""Shares follow what others leave three times as fast as shipped: a day lasts a minute here."""


def offline_settings(options: DemoOptions, place: Place, offline: OfflineClaude, url: str) -> Settings:
    """The offline Claude answers, and its account's limits hold."""
    settings = options.settings
    rates = rates_of(offline.account)
    limits = LimitOptions(rates.requests, rates.input_tokens, rates.output_tokens)
    changes: dict[str, Any] = {
        "log": place.log,
        "drain_seconds": DRAIN_SECONDS,
        "claude": replace(settings.claude, base_url=url, api_key="offline"),
        "limits": settings.limits or {"default": limits},
        "spend": SpendOptions(),
        "fleet": replace(settings.fleet, rise_per_second=max(settings.fleet.rise_per_second, RISE_PER_SECOND)),
    }
    if options.kills:
        # Who comes back under the name of a killed worker gets its partitions at once. Brokers' own groups (Kafka 4)
        # wait for the dead member's session instead, 45 s by default: too long for a show.
        changes["kafka_log"] = replace(settings.kafka_log, group_protocol="classic", static_membership=True)
    return settings.model_copy(update=changes)


async def live_settings(options: DemoOptions, place: Place, log: EventLog) -> Settings:
    """The ceiling holds for all workers of this run together, on top of what earlier runs on this log have spent."""
    account: Account = ("all", "", periods_at(time.time()).labels[-1])
    before = (await read_claims(log)).sum(account).claimed / NANOUSD
    spend = SpendOptions(month_usd=before + options.ceiling_usd)
    return options.settings.model_copy(update={"log": place.log, "spend": spend})
