"""A person's orders to a sink, which hold over restarts: pause, resume, deliver again from a time on.

cli → penstock-state → [orders] → delivery

All of them are records of the compacted state topic, keyed by the sink's group: whoever starts or takes over reads them.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogDamaged, LogUnavailable
from penstock.log.state import STATE_TOPIC, State, read_state, state_record
from penstock.record import NewRecord, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.log.base import EventLog
    from penstock.record import Record

logger = logging.getLogger("penstock.deliver")
CHUNK = 1_000


def pause_order(group: str, why: str = "") -> NewRecord:
    """The sink shall wait."""
    return state_record(group, "pause", "", {"since_ms": time.time_ns() // 1_000_000, "why": why})


def resume_order(group: str) -> NewRecord:
    """It shall go on."""
    return state_record(group, "pause", "", None)


def redeliver_order(group: str, from_ms: int) -> NewRecord:
    """Everything that was written since `from_ms`, and that the group has delivered, once more."""
    return state_record(group, "redeliver", "", {"id": uuid.uuid4().hex, "from_ms": from_ms})


class Again(NamedTuple):
    """How far a redelivery is in one partition."""

    order: str
    next: int
    end: int
    """Where the group stood when it began."""

    def record(self, group: str, partition: Partition) -> NewRecord:
        """Remembered with the act that brought it so far."""
        value = {"id": self.order, "next": self.next, "end": self.end}
        return state_record(group, "redelivered", f"{partition.topic}/{partition.number}", value)


class Orders:
    """What a group has been told, as of the last look."""

    def __init__(self, log: EventLog, group: str, changed: Callable[[], object] = lambda: None) -> None:
        self.paused_since_ms: int | None = None
        self.redeliver: tuple[str, int] | None = None
        """The newest order: its id and from when."""
        self._log = log
        self._group = group
        self._changed = changed
        self._offsets: dict[Partition, int] = {}
        self._newest: dict[tuple[str, str], Record] = {}
        """What holds of each kind and id."""
        self._done: dict[str, Again] = {}
        self._lock = asyncio.Lock()

    @property
    def is_paused(self) -> bool:
        """Whether a person wants it to wait."""
        return self.paused_since_ms is not None

    async def run(self, look_seconds: float) -> None:
        """Look every so often, until cancelled."""
        while True:
            await asyncio.sleep(look_seconds)
            try:
                await self.look()
            except LogUnavailable as weather:
                logger.debug("%s: orders could not be read: %s", self._group, weather)

    async def look(self) -> None:
        """Read what is new, up to the end."""
        async with self._lock:
            # Somebody may have added partitions: new orders then stand there.
            for partition, kept in sorted((await self._log.bounds(STATE_TOPIC)).items()):
                if self._offsets.get(partition, 0) < kept.high:
                    await self._read(partition)

    async def _read(self, partition: Partition) -> None:
        while records := await self._log.read(partition, self._offsets.get(partition, 0), CHUNK):
            for record in records:
                try:
                    self._note(read_state(record), record)
                except LogDamaged as error:
                    logger.warning("%s", error)
            self._offsets[partition] = records[-1].offset + 1

    async def again(self, partition: Partition, stands_at: int) -> Again | None:
        """What is still to be delivered again of a partition in which the group stands at that offset."""
        if self.redeliver is None:
            return None
        order, from_ms = self.redeliver
        known = self._done.get(f"{partition.topic}/{partition.number}")
        if known is None or known.order != order:
            # Where there is nothing to repeat that is remembered too: a later look would find other bounds.
            return Again(order, min(await self._log.offset_at(partition, from_ms), stands_at), stands_at)
        return known if known.next < known.end else None

    def is_repeating(self, partitions: Iterable[Partition]) -> bool:
        """Whether some of these are still to be delivered again."""
        if self.redeliver is None:
            return False
        partitions = list(partitions)
        if not partitions:  # none is ours yet
            return True
        known = [self._done.get(f"{partition.topic}/{partition.number}") for partition in partitions]
        return any(one is None or one.order != self.redeliver[0] or one.next < one.end for one in known)

    def is_noted(self, partition: Partition, again: Again) -> bool:
        """Whether it is known to be so far."""
        return self._done.get(f"{partition.topic}/{partition.number}") == again

    def note(self, partition: Partition, again: Again) -> None:
        """It is so far now: known before the log shows it."""
        self._done[f"{partition.topic}/{partition.number}"] = again

    def _note(self, state: State, record: Record) -> None:
        if state.task != self._group or self._is_outdated(state, record):
            return
        value = state.value
        if state.kind == "pause":
            self.paused_since_ms = None if value is None else int(value.get("since_ms", 0))
        elif state.kind == "redeliver" and value is not None:
            self.redeliver = (str(value["id"]), int(value["from_ms"]))
        elif state.kind == "redelivered" and value is not None:
            self._done[state.id] = Again(str(value["id"]), int(value["next"]), int(value["end"]))
        else:
            return
        self._changed()

    def _is_outdated(self, state: State, record: Record) -> bool:
        """Within a partition the later record holds, whatever the clocks said; between two, as of a key from before partitions
        were added and from after, the younger."""
        newest = self._newest.get((state.kind, state.id))
        if newest and newest.partition != record.partition and record.timestamp_ms < newest.timestamp_ms:
            return True
        self._newest[state.kind, state.id] = record
        return False
