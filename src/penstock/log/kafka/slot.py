"""The name of a static member: when another goes by it, whether to wait until it is free or to stop and say so.

membership → [slot] → membership
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.errors import SettingsError
from penstock.log.kafka.connection import logger
from penstock.log.kafka.faults import UNRELEASED

if TYPE_CHECKING:
    from penstock.log.kafka.admin import Admin

RETRY_SECONDS = 1.0
FORGET_SECONDS = 15.0
"""Refusals that are further apart are not one wait."""
SLACK_SECONDS = 4.0


class Slot:
    """Used on the consumer's thread only."""

    def __init__(self, admin: Admin, group: str, instance: str) -> None:
        self._admin, self._group, self._instance = admin, group, instance
        self._since = self._patience_seconds = 0.0
        self._refused_at = -FORGET_SECONDS

    @property
    def is_resting(self) -> bool:
        """It was refused a moment ago: to ask again at once is no use."""
        return time.monotonic() < self._refused_at + RETRY_SECONDS

    @property
    def is_contested(self) -> bool:
        """It is being waited for."""
        return time.monotonic() < self._refused_at + FORGET_SECONDS

    def refused(self, code: int) -> SettingsError | None:
        """What to stop with; None where joining again may help: brokers keep the name of a dead worker for its session."""
        now = time.monotonic()
        if not self.is_contested:
            self._since = now
            self._patience_seconds = self._admin.longest_session_seconds() + SLACK_SECONDS
            if code == UNRELEASED:
                self._tell()
        self._refused_at = time.monotonic()
        is_hopeful = code == UNRELEASED and now - self._since < self._patience_seconds
        return None if is_hopeful else self._taken()

    @property
    def _name(self) -> str:
        return self._instance.removeprefix(f"{self._group}/")

    def _tell(self) -> None:
        logger.warning(
            "slot %s is taken: if its worker is dead, group %s gives it up within %.0f s; if one lives, this worker will stop",
            self._name,
            self._group,
            self._patience_seconds,
        )

    def _taken(self) -> SettingsError:
        return SettingsError(
            f"slot={self._name!r}: another worker of group {self._group!r} goes by it, and with "
            "kafka_log.static_membership a slot is the name of one member: stop that worker, or give each a slot of its own "
            "(-X slot=NAME or PENSTOCK_SLOT) that stays the same over its restarts"
        )
