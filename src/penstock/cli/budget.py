"""What all workers have spent of each ceiling, as lines for a person and rows for a program.

penstock-state → [budget] → status
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import TopicMissing

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.settings import Settings


@dataclass(frozen=True)
class Budget:
    """One ceiling of `[spend]` in its current period."""

    setting: str
    period: str
    """`2026-11-24T05`, `2026-11-24` or `2026-11`, in UTC."""
    ceiling_usd: float
    spent_usd: float
    unconfirmed_usd: float
    margin_usd: float
    """Claimed by workers alive and not spent."""
    reserve_usd: float
    """Claimed by workers that fell silent, and not known to be spent."""
    told: str
    """The same for a person."""


async def budgets(settings: Settings, log: EventLog) -> list[Budget]:
    """Every ceiling that the settings name; empty where they name none."""
    from penstock.flow.ceilings import PERIODS, periods_at
    from penstock.flow.standing import Standing
    from penstock.flow.tail import read_claims
    from penstock.wiring import spend_options

    ceilings = list(spend_options(settings).ceilings())
    if not ceilings:
        return []
    try:
        claims = await read_claims(log)
    except TopicMissing:  # nobody has worked here yet
        return []
    labels, found = periods_at(time.time()).labels, []
    for ceiling in ceilings:
        label = labels[PERIODS.index(ceiling.period)]
        account = (ceiling.scope, ceiling.name, label)
        total, reserve = claims.sum(account), claims.reserve(account)
        margin = max(0, total.claimed - total.spent - total.unconfirmed - reserve)
        standing = Standing(ceiling, label, total.spent, total.unconfirmed, margin, reserve)
        spent, unconfirmed, held, lost = (n / 1e9 for n in (total.spent, total.unconfirmed, margin, reserve))
        found.append(Budget(ceiling.setting, label, ceiling.usd, spent, unconfirmed, held, lost, str(standing)))
    return found
