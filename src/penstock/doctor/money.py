"""Whether something bounds the bill, prices are fresh, and the account's limits are known.

settings → [money] → findings
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from penstock.claude.models import Models
from penstock.doctor.finding import Finding

if TYPE_CHECKING:
    from penstock.settings import Settings


def budget(settings: Settings) -> Finding:
    """The ceilings of all workers together."""
    ceilings = [ceiling for ceiling in settings.spend.ceilings() if ceiling.scope == "all"]
    seen = ", ".join(f"${ceiling.usd:,.2f} per {ceiling.period}" for ceiling in ceilings)
    if not ceilings:
        return Finding(
            "budget",
            "warn",
            "no ceiling for all in [spend]",
            "Only the account's own limit stops the bill; a burst of events is answered whatever it costs.",
            "-X spend.day_usd=20, or day_usd in [spend] of penstock.toml: it holds for all workers together",
        )
    if idle := settings.spend.idle():
        return Finding(
            "budget",
            "warn",
            "; ".join(idle),
            "A ceiling that can never be met is likely a slip: the other one stops the work.",
            "raise the longer period's ceiling in [spend], or leave the shorter one's out",
        )
    return Finding("budget", "ok", f"all workers together spend at most {seen} (UTC)")


def prices(settings: Settings, today: dt.date | None = None) -> Finding:
    """The table of models and prices."""
    models = Models.load(settings.claude.prices_file)
    today = today or dt.datetime.now(dt.UTC).date()
    days = (today - models.dated).days
    seen = f"{len(models.rows)} models, dated {models.dated} ({models.source})"
    if models.is_old(today):
        return Finding(
            "prices",
            "warn",
            f"{seen}: {days} days old",
            "Costs on results and the ceiling follow this table; prices change several times a year.",
            "upgrade penstock, or compare the rows with the price list and name your own file in claude.prices_file",
        )
    return Finding("prices", "ok", seen)


def limits(settings: Settings) -> Finding:
    """What the settings say that the account grants."""
    if not settings.limits:
        return Finding(
            "limits",
            "warn",
            "no [limits]: those of the smallest paid usage tier are kept",
            "With more the work is slower than it could be; with less the API turns calls away.",
            "copy your account's limits page into [limits.default] (and [limits.haiku] … where models differ)",
        )
    told = [f"{name}: {granted.requests_per_minute:,} requests/min" for name, granted in settings.limits.items()]
    return Finding("limits", "ok", "; ".join(told))
