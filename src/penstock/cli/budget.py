"""What all workers have spent of each ceiling, as lines for a person and rows for a program.

penstock-state → [budget] → status
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import TopicMissing

if TYPE_CHECKING:
    from penstock.flow.standing import Standing
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
    from penstock.flow.standing import standings_of
    from penstock.flow.tail import read_claims
    from penstock.wiring import spend_options

    ceilings = list(spend_options(settings).ceilings())
    if not ceilings:
        return []
    try:
        claims = await read_claims(log)
    except TopicMissing:  # nobody has worked here yet
        return []
    return [_budget(standing) for standing in standings_of(claims, ceilings, time.time())]


def _budget(standing: Standing) -> Budget:
    ceiling = standing.ceiling
    amounts = (standing.spent, standing.unconfirmed, standing.margin, standing.reserve)
    spent, unconfirmed, margin, reserve = (amount / 1e9 for amount in amounts)
    return Budget(ceiling.setting, standing.label, ceiling.usd, spent, unconfirmed, margin, reserve, told=str(standing))
