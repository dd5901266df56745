"""Says in the log when a tier has to wait for long, why, and when it goes on: silence looks like a fault.

cascade → [waits] → worker's log
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.engine.stage import Stage

logger = logging.getLogger("penstock.engine")

WORTH_TELLING_SECONDS = 5.0
_WHAT_TO_DO = {
    "spend": "a ceiling of [spend] is reached; it goes on when the period ends (UTC), or with a higher ceiling",
    "claim": "what is left of the budget is held for calls in flight, or could not be claimed in the log yet",
    "spend_cap": "the account's own money limit is reached; see its billing page",
    "outage": "the API does not answer as it should; it is tried from time to time",
    "unreachable": "the API cannot be reached; it is tried from time to time",
    "overloaded": "the API is overloaded; it is tried from time to time",
}
_QUIET = frozenset(
    {"concurrency", "cold_cache", "retry_budget", "busy", "requests", "input_tokens", "output_tokens", "rate_limited"}
)
"""Working at a limit is what a backlog is for; metrics tell it."""


class Waits:
    """Tells each wait once, and its end."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._told: dict[int, str] = {}

    def look(self, stages: Iterable[Stage], now: float) -> None:
        """Called whenever the calls loop has looked."""
        for stage in stages:
            told = self._told.get(stage.index, "")
            if stage.cause and stage.cause != told and stage.cause not in _QUIET and self._is_long(stage, now):
                self._told[stage.index] = stage.cause
                why = (stage.cause == "spend" and stage.detail) or _WHAT_TO_DO.get(stage.cause, stage.cause)
                logger.warning("%s waits for %s: %s. Nothing is lost", self._task, stage.step.name, why)
            elif told and not stage.cause and stage.storms == 0:
                del self._told[stage.index]
                logger.warning("%s: %s answers again", self._task, stage.step.name)

    @staticmethod
    def _is_long(stage: Stage, now: float) -> bool:
        return now - stage.waits_since >= WORTH_TELLING_SECONDS or stage.hold_until - now >= WORTH_TELLING_SECONDS
