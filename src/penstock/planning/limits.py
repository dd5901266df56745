"""What the account grants each model family: told by the API itself, by an account class, by settings, or assumed.

settings, accounts → [limits] → steps
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from penstock.flow.base import KINDS
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
    ours = _set(settings, models, family)
    if family in heard:
        told = Granted(heard[family], "asked", "the API's own headers")
    elif account is not None:
        told = Granted(account.limits_of(family), "account", f"account class {account.name}")
    else:
        return ours or Granted(LimitOptions(), "assumed", "the smallest paid account class")
    return _under(ours, told) if ours is not None and ours.limits.is_ceiling else told


def _set(settings: Settings, models: Models, family: str) -> Granted | None:
    for name, limits in settings.limits.items():
        known = models.rows.get(models.aliases.get(name, name))
        if name == family or (known is not None and known.family == family):
            return Granted(limits, "settings", f"[limits.{name}]")
    if "default" in settings.limits:
        return Granted(settings.limits["default"], "settings", "[limits.default]")
    return None


def _under(ceiling: Granted, told: Granted) -> Granted:
    """Of each limit the lower one, as a worker keeps it."""
    ours, theirs = ceiling.limits, told.limits
    least = {name: min(getattr(ours, name), getattr(theirs, name)) for name in (f"{kind}_per_minute" for kind in KINDS)}
    if all(least[name] < getattr(ours, name) for name in least):
        return told
    return Granted(replace(ours, **least), told.origin, f"{told.place}, not above {ceiling.place}")
