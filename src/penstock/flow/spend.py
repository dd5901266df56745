"""A dollar ceiling per process: every call is reserved at its worst before it is made and settled at its cost.

claude → [spend] → gate
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from penstock.flow.base import Wait, positive

NANOUSD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SpendOptions:
    """How much this process may spend. None: the account's own limits decide."""

    ceiling_usd: float | None = None

    def __post_init__(self) -> None:
        """A ceiling of nothing would hold every event for ever without saying so."""
        if self.ceiling_usd is not None:
            positive("spend.ceiling_usd", self.ceiling_usd)


class Spend:
    """Spent + reserved + unconfirmed never exceeds the ceiling, so the bill cannot either."""

    __slots__ = ("_ceiling", "reserved_nanousd", "spent_nanousd", "unconfirmed_nanousd")

    def __init__(self, options: SpendOptions) -> None:
        usd = options.ceiling_usd
        self._ceiling = (
            None if usd is None else int((Decimal(str(usd)) * NANOUSD).to_integral_value(rounding=ROUND_FLOOR))
        )
        self.spent_nanousd = 0
        self.reserved_nanousd = 0
        """The worst that the calls in flight may cost."""
        self.unconfirmed_nanousd = 0
        """The worst of calls whose reply was never read: they may have been billed."""

    def check(self, worst_nanousd: int) -> Wait | None:
        """None where the ceiling holds even if the call costs its worst."""
        if self._ceiling is None:
            return None
        held = self.spent_nanousd + self.reserved_nanousd + self.unconfirmed_nanousd
        return Wait("spend") if held + worst_nanousd > self._ceiling else None

    def reserve(self, worst_nanousd: int) -> None:
        """A call is about to be made."""
        self.reserved_nanousd += worst_nanousd

    def settle(self, worst_nanousd: int, nanousd: int) -> None:
        """A call's cost is known (0: it was not billed)."""
        self.reserved_nanousd -= worst_nanousd
        self.spent_nanousd += nanousd

    def leave_unconfirmed(self, worst_nanousd: int) -> None:
        """A call's reply was never read: its worst stays held."""
        self.reserved_nanousd -= worst_nanousd
        self.unconfirmed_nanousd += worst_nanousd
