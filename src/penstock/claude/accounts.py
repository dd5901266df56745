"""The account classes of the Claude API by name: what each grants a model family. Data from `accounts.toml`.

[accounts] → planning
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import NamedTuple

from penstock.errors import SettingsError
from penstock.flow.limits import LimitOptions

_SCARCE_FAMILIES = ("fable", "mythos")


class Account(NamedTuple):
    """One class."""

    name: str
    monthly_usd: float
    default: LimitOptions
    scarce: LimitOptions

    def limits_of(self, family: str) -> LimitOptions:
        """What it grants one family."""
        return self.scarce if family.startswith(_SCARCE_FAMILIES) else self.default


def account_of(name: str) -> Account:
    """The class of this name."""
    text = resources.files("penstock.claude").joinpath("accounts.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    del table["dated"]
    if name not in table:
        raise SettingsError(
            f"--account {name!r}: write {', '.join(table)} (or give your own limits: -X limits.default.requests_per_minute=…)"
        )
    row = table[name]
    return Account(name, float(row["monthly_usd"]), LimitOptions(**row["default"]), LimitOptions(**row["scarce"]))
