"""Partitions of ours that the transaction of a dead worker still holds: where their group stands is not known yet.

rebalance → [waiting] → membership

They are assigned and paused, and all others go on meanwhile. A transaction that nobody ends is ended by its coordinator,
after `transaction_timeout_seconds` of the worker that began it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.errors import LogUnavailable
from penstock.log.kafka.connection import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.log.kafka.standing import Standing, Stands
    from penstock.record import Partition

LOOK_SECONDS = 0.1
TELL_SECONDS = 30.0


class Waiting:
    """Used on the consumer's thread only."""

    def __init__(self, stands: Stands) -> None:
        self._stands = stands
        self._since: dict[Partition, float] = {}
        self._looked_at = self._told_at = 0.0

    def add(self, partitions: Iterable[Partition]) -> None:
        """They are assigned, but not to be read yet."""
        now = self._told_at = time.monotonic()
        self._since |= dict.fromkeys(partitions, now)
        if self._since:
            logger.info("%s: a transaction is open on them, the others go on", self._names(self._since))

    def drop(self, partitions: Iterable[Partition]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._since.pop(partition, None)

    def clear(self) -> None:
        """Nothing is ours any more."""
        self._since.clear()

    def settled(self) -> list[Standing]:
        """Those whose transaction is over by now, with their standing; asked now and then only."""
        now = time.monotonic()
        if not self._since or now - self._looked_at < LOOK_SECONDS:
            return []
        self._looked_at = now
        try:
            held = self._stands.unsettled(list(self._since))
            standings = self._stands.of([p for p in self._since if p not in held])
        except LogUnavailable as weather:
            logger.debug("looking for the end of a transaction: %s", weather)
            return []
        if held and now - self._told_at > TELL_SECONDS:
            self._told_at = now
            logger.warning("%s: a transaction on them stays open", self._names(held))
        for standing in standings:
            since = self._since.pop(standing.assignment.partition)
            logger.info("%s: taken up after %.1f s", self._names([standing.assignment.partition]), now - since)
        return standings

    def _names(self, partitions: Iterable[Partition]) -> str:
        return ", ".join(f"{p.topic}/{p.number}" for p in sorted(partitions))
