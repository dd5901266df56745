"""A member of a group on the embedded log: reads what it owns, writes results and progress in one act.

intake ← poll ← [consumer] ← commit ← checkpoint
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import LogError, PartitionsLost, RecordsLost, RecordTooLarge
from penstock.log.losses import Loss, stop_after, unread_loss
from penstock.log.sqlite import group, losses, reading
from penstock.log.sqlite.reading import Wanted
from penstock.log.sqlite.records import check_sizes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence

    from penstock.log.base import PartProgress, Progress
    from penstock.log.offset_map import OffsetMap
    from penstock.log.sqlite.group import Lease, PartWrite, Seat
    from penstock.log.sqlite.shared import Shared
    from penstock.record import NewRecord, Partition, Record


@dataclass(slots=True)
class Held:
    """A partition that we own."""

    partition: Partition
    row: int
    epoch: int
    topic_id: str
    done: OffsetMap
    """As committed."""
    position: int
    is_open: bool = False
    """`Listener.assigned` has returned and `revoked` was not called yet: records may be handed out."""
    is_leaving: bool = False
    is_paused: bool = False


class SqliteConsumer:
    """See `penstock.log.base.Consumer`. `membership.Membership` decides what is held; this reads and writes it."""

    def __init__(self, shared: Shared, seat: Seat) -> None:
        self.seat = seat
        self.held: dict[Partition, Held] = {}
        self.failure: BaseException | None = None
        """What stops this consumer; raised by the next poll or commit."""
        self.groups_version = 0
        """The newest sign of a change in the group; membership waits for it to move."""
        self.groups_changed = asyncio.Event()
        self.max_metadata_bytes = shared.options.max_metadata_bytes
        self.max_record_bytes = shared.options.max_record_bytes
        self._shared = shared
        self._turn = 0
        self._is_polling = False
        self.leave = self._not_joined
        self.passed: Callable[[Sequence[Loss]], Awaitable[None]] = self._told_nobody

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """See the contract. Rebalances are served beside it."""
        if self._is_polling:
            raise LogError("poll was called while another poll of this consumer runs: one reader per consumer")
        self._is_polling = True
        try:
            return await self._poll(max_records, time.monotonic() + timeout_seconds)
        finally:
            self._is_polling = False

    async def _poll(self, max_records: int, deadline: float) -> list[Record]:
        while True:
            self._check()
            seen = self._shared.news.version
            found = await self._read(max_records)
            if found:
                return found
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                return []
            await self._shared.news.wait(seen, left_seconds)

    async def _read(self, max_records: int) -> list[Record]:
        held = {one.partition: one for one in self.held.values() if one.is_open and not one.is_paused}
        if not held or max_records <= 0:
            self.saw_groups(await self._shared.reader.run(group.groups_version))
            return []
        wanted = [Wanted(one.row, one.partition, one.position) for one in held.values()]
        max_bytes, turn = self._shared.options.max_poll_bytes, self._turn
        found = await self._shared.reader.run(reading.poll, wanted, max_records, max_bytes, turn)
        self._turn += max_records
        self.saw_groups(found.groups_version)
        # What was paused, revoked or taken anew while the thread read is dropped; its position has not moved.
        valid = {p for p, one in held.items() if self.held.get(p) is one and one.is_open and not one.is_paused}
        if found.lows:
            await self._pass_losses({p: low for p, low in found.lows.items() if p in valid})
        for partition, position in found.positions.items():
            if partition in valid:
                held[partition].position = position
        if len(valid) == len(held):
            return found.records
        return [record for record in found.records if (record.topic, record.partition) in valid]

    async def _pass_losses(self, lows: dict[Partition, int]) -> None:
        """Retention overtook our reading: what was read already is no loss, the rest is recorded."""
        found = []
        for partition, low in lows.items():
            one = self.held[partition]
            first = max(one.position, one.done.base)
            loss = unread_loss(self.seat.group, partition, one.done.from_offset(first), low)
            found += [loss] if loss else []
        await self.tell_losses(found)
        for partition, low in lows.items():
            if partition in self.held:
                self.held[partition].position = max(low, self.held[partition].position)

    async def tell_losses(self, found: Sequence[Loss]) -> None:
        """Record and say them; raise unless told to go on."""
        if not found:
            return
        now_ms = self._shared.wall_ms()

        def record_all(db: sqlite3.Connection) -> None:
            for loss in found:
                losses.record(db, loss, now_ms)

        await self._shared.writer.run(record_all)
        for loss in found:
            loss.tell()
        if not self.seat.goes_on_after_loss:
            raise stop_after(found)
        await self.passed(found)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """See the contract."""
        for partition in partitions:
            if partition in self.held:
                self.held[partition].is_paused = True

    def resume(self, partitions: Sequence[Partition]) -> None:
        """See the contract."""
        for partition in partitions:
            if partition in self.held:
                self.held[partition].is_paused = False
        self._shared.news.happened()

    async def commit(self, progress: Progress) -> None:
        """See the contract. The act runs to its end even if the caller is cancelled meanwhile."""
        if not isinstance(self.failure, RecordsLost):  # what is ours and paid for may still be written
            self._check()
        unknown = [part.partition for part in progress.parts if part.partition not in self.held]
        if unknown:
            raise PartitionsLost(unknown)
        # Looked up now: a partition that is lost before the act's first step is the act's to refuse.
        held = [self.held[part.partition] for part in progress.parts]
        parts = [self._part_write(part) for part in progress.parts]
        appends = [record for part in progress.parts for record in part.appends]
        appends += progress.appends
        check_sizes(appends, self.max_record_bytes)
        await asyncio.shield(asyncio.ensure_future(self._commit(progress, held, parts, appends)))

    async def _commit(
        self, progress: Progress, held: list[Held], parts: list[PartWrite], appends: list[NewRecord]
    ) -> None:
        shared, seat, now_ms = self._shared, self.seat, self._shared.wall_ms()
        try:
            await shared.writer.run(group.commit, shared.write_catalogue, seat, parts, appends, now_ms)
        except PartitionsLost:
            self.groups_changed.set()
            raise
        for one, part in zip(held, progress.parts, strict=True):
            one.done = part.done
        shared.news.happened()

    def _part_write(self, part: PartProgress) -> PartWrite:
        held = self.held[part.partition]
        if not part.done.covers(held.done):
            raise LogError(
                f"progress of {part.partition.topic}/{part.partition.number} would move back from {held.done.base} "
                f"to {part.done.base}, or forget offsets done above: refused"
            )
        if part.done.end > max(held.position, held.done.end):
            raise LogError(
                f"progress of {part.partition.topic}/{part.partition.number} would pass offset {held.position}, "
                "which was not read yet: refused"
            )
        text = part.done.encode(held.topic_id)
        if len(text) > self.max_metadata_bytes:
            raise RecordTooLarge(
                f"the offset map of {part.partition.topic}/{part.partition.number} has {len(text):,} bytes, "
                f"the log takes {self.max_metadata_bytes:,}: pause the partition before it grows so far"
            )
        return group.PartWrite(part.partition, held.row, held.epoch, part.done.base, text)

    async def close(self) -> None:
        """See the contract."""
        await self.leave()

    def take(self, lease: Lease) -> Held:
        """Hold a partition from now on; its records come once it is open."""
        assignment = lease.assignment
        held = Held(
            assignment.partition, lease.row, lease.epoch, lease.topic_id, assignment.done, position=assignment.done.base
        )
        self.held[assignment.partition] = held
        return held

    def saw_groups(self, version: int) -> None:
        """A sign that members or leases changed wakes the membership before its next heartbeat."""
        if version > self.groups_version:
            self.groups_version = version
            self.groups_changed.set()

    def fail(self, error: BaseException) -> None:
        """Stop: the next call hears why."""
        self.failure = self.failure or error
        self._shared.news.happened()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _told_nobody(self, found: Sequence[Loss]) -> None:
        raise stop_after(found)

    async def _not_joined(self) -> None:
        raise LogError("this consumer never joined its group")
