"""Spend caps: what the month has cost so far, and the answer once that is too much.

validation → [spend] → replies
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.simulator.failures import ApiError, BadRequest

if TYPE_CHECKING:
    from penstock.simulator.clock import Clock

KINDS = ("tier", "contract", "own", "workspace", "credit")


def spend_error(kind: str, unix_seconds: float) -> ApiError:
    """The reply of a cap: who set it decides status and code; none of them says `retry-after`."""
    until = f"You will regain access on {_next_month(unix_seconds)} at 00:00 UTC."
    if kind == "own":
        return BadRequest(f"You have reached your specified API usage limits. {until}")
    if kind == "workspace":
        return BadRequest(f"You have reached your specified workspace API usage limits. {until}")
    if kind == "credit":
        return ApiError(402, "Your credit balance is too low to access the Claude API.")
    if kind == "contract":
        text = (
            f"You have reached your API usage limits: your organization has crossed its contract's spend limit. {until}"
        )
        return ApiError(429, text, code="contract_spend_limit_reached")
    text = f"You have reached your API usage limits: your organization has crossed its monthly API usage threshold. {until}"
    return ApiError(429, text, code="enforced_spend_limit_reached")


def _next_month(unix_seconds: float) -> str:
    now = time.gmtime(unix_seconds)
    year, month = (now.tm_year + 1, 1) if now.tm_mon == 12 else (now.tm_year, now.tm_mon + 1)
    return f"{year:04d}-{month:02d}-01"


class SpendCap:
    """Calls begin while the month's bill is below the cap; those in flight may go over it."""

    def __init__(self, cap_nanousd: int | None, kind: str, clock: Clock) -> None:
        self._cap = cap_nanousd
        self._kind = kind
        self._clock = clock
        self._month = (0, 0)
        self._spent = 0

    def check(self) -> None:
        """Raise once the cap is reached."""
        if self._cap is None:
            return
        self._turn()
        if self._spent >= self._cap:
            raise spend_error(self._kind, self._clock.unix())

    def add(self, nanousd: int) -> None:
        """Count a bill."""
        if self._cap is not None:
            self._turn()
            self._spent += nanousd

    def _turn(self) -> None:
        now = time.gmtime(self._clock.unix())
        month = (now.tm_year, now.tm_mon)
        if month != self._month:
            self._month = month
            if self._kind != "credit":
                self._spent = 0
