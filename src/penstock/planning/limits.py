"""What the account grants each model family: told by the API itself, by an account class, by settings, or assumed.

settings, accounts → [limits] → steps
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from penstock.flow.limits import LimitOptions

if TYPE_CHECKING:
    from penstock.claude.accounts import Account
    from penstock.claude.models import Models
    from penstock.settings import Settings

Origin = Literal["asked", "account", "settings", "assumed"]


class Granted(NamedTuple):
    """One family's limits, and who says so."""

    limits: LimitOptions
    origin: Origin
    place: str
    """The setting or class that has them."""


def granted(
    settings: Settings, models: Models, family: str, *, account: Account | None, heard: Mapping[str, LimitOptions]
) -> Granted:
    """`[limits.<name>]` may name a family or one of its models; `default` serves the others."""
    if family in heard:
        return Granted(heard[family], "asked", "the API's own headers")
    if account is not None:
        return Granted(account.limits_of(family), "account", f"account class {account.name}")
    for name, limits in settings.limits.items():
        known = models.rows.get(models.aliases.get(name, name))
        if name == family or (known is not None and known.family == family):
            return Granted(limits, "settings", f"[limits.{name}]")
    if "default" in settings.limits:
        return Granted(settings.limits["default"], "settings", "[limits.default]")
    return Granted(LimitOptions(), "assumed", "the smallest paid account class")
