"""A member of a Kafka group. Everything librdkafka's consumer is asked runs on one thread, through its queue.

Kafka → [consumer] → intake

A second thread would starve (confluent-kafka serialises the calls of a consumer), and a drain inside a revoke that
waited for such a call would never end.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from penstock.errors import LogError, RecordsLost
from penstock.log.kafka.act import MAX_METADATA_BYTES
from penstock.log.kafka.committer import Committer, OldGeneration
from penstock.log.kafka.connection import logger
from penstock.log.kafka.held import Held
from penstock.log.kafka.membership import Membership

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.log.base import Progress
    from penstock.log.kafka.options import KafkaOptions
    from penstock.log.kafka.ownership import Ownership
    from penstock.log.kafka.two_steps import TwoStepCommitter
    from penstock.record import Partition, Record

REBALANCE_SECONDS = 10.0
"""So long a commit waits for a rebalance before it is `LogUnavailable`."""
REBALANCE_STEP_SECONDS = 0.01
HELD_SECONDS = 0.05
SERVE_SECONDS = 1.0
"""Without room for records, rebalances are served this often: serving may take a record, and then has to pause."""


class KafkaConsumer:
    """The contract's `Consumer` on Kafka: the event loop's side of it."""

    max_metadata_bytes = MAX_METADATA_BYTES

    def __init__(
        self,
        membership: Membership,
        committer: Committer | TwoStepCommitter,
        ownership: Ownership,
        held: Held,
        consumer_thread: ThreadPoolExecutor,
        commit_thread: ThreadPoolExecutor,
        options: KafkaOptions,
    ) -> None:
        self.max_record_bytes = options.max_record_bytes
        self._last_look_seconds = options.revoke_seconds
        self._membership, self._committer, self._ownership, self._held = membership, committer, ownership, held
        self._consumer_thread, self._commit_thread = consumer_thread, commit_thread
        self._paused: set[Partition] = membership.paused
        self._served_at = 0.0
        self._is_polling = False
        self._closing: asyncio.Task[None] | None = None

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """Up to `max_records` of owned, unpaused partitions; also serves rebalances."""
        self._require_open()
        if self._is_polling:
            raise LogError("poll was called while another poll of this consumer runs: one reader per consumer")
        self._is_polling = True
        try:
            return await self._poll(max_records, timeout_seconds)
        finally:
            self._is_polling = False

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Return no records of these until `resume`; what librdkafka has fetched of them it throws away."""
        self._require_open()
        self._paused.update(partitions)
        self._consumer_thread.submit(self._membership.pause, list(partitions))

    def resume(self, partitions: Sequence[Partition]) -> None:
        """The reverse of `pause`."""
        self._require_open()
        self._paused.difference_update(partitions)
        self._consumer_thread.submit(self._membership.resume, list(partitions))

    async def commit(self, progress: Progress) -> None:
        """One Kafka transaction; or, at least once, the records and then the progress."""
        if self._closing is not None and self._closing.done():
            raise LogError("this consumer is closed")
        give_up = time.monotonic() + REBALANCE_SECONDS
        while True:
            try:
                return await self._commit(progress)
            except OldGeneration:
                # Inside `revoked` the consumer's thread waits for us: it cannot look what is ours.
                if self._membership.is_telling or self._closing is not None or time.monotonic() > give_up:
                    raise
            await self._metadata_renewed(give_up)

    async def close(self) -> None:
        """Leave the group; `revoked` is called for all that is owned first. May be called twice."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _commit(self, progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        act = loop.run_in_executor(self._commit_thread, self._committer.commit, progress)
        act.add_done_callback(lambda done: done.cancelled() or done.exception())
        # A cancelled commit goes on: its caller must not believe that it did not happen.
        await asyncio.shield(act)

    async def _metadata_renewed(self, give_up: float) -> None:
        """Not awaited is the call that looks: it may call `revoked`, which may wait for the very commit that waits here."""
        self._consumer_thread.submit(self._membership.look_again)
        while self._ownership.is_stale and time.monotonic() < give_up:  # noqa: ASYNC110 - cleared on another thread
            await asyncio.sleep(REBALANCE_STEP_SECONDS)

    async def _poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        try:
            await self._fill(max_records, timeout_seconds)
        except RecordsLost:
            if not self._held:  # what was taken before may stand nowhere else any more: it is handed out first
                raise
            if not self._held.count(self._paused):  # its partitions have no room yet
                await asyncio.sleep(min(timeout_seconds, HELD_SECONDS))
        return self._held.take(max_records, self._paused)

    async def _fill(self, max_records: int, timeout_seconds: float) -> None:
        if max_records == 0:
            return await self._serve(timeout_seconds)
        ready = self._held.count(self._paused)
        room = max_records - ready
        if room > 0:
            await self._on_thread(self._membership.take, room, 0.0 if ready else timeout_seconds)
        elif time.monotonic() - self._served_at > SERVE_SECONDS:
            await self._on_thread(self._membership.serve, 0.0)
        return None

    async def _serve(self, timeout_seconds: float) -> None:
        rest = self._served_at + SERVE_SECONDS - time.monotonic()
        if rest > 0:
            await asyncio.sleep(min(timeout_seconds, rest))
            if timeout_seconds < rest:
                return
        await self._on_thread(self._membership.serve, max(0.0, timeout_seconds - max(0.0, rest)))

    async def _on_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._consumer_thread, call, *arguments)
        finally:
            self._served_at = time.monotonic()

    def _require_open(self) -> None:
        if self._closing is not None:
            raise LogError("this consumer is closed")

    async def _close(self) -> None:
        loop = asyncio.get_running_loop()
        self._membership.come_back()
        # Leaving waits for the commit under way, and that may be looking for its outcome in a cluster that is gone.
        giving_up = loop.call_later(self._last_look_seconds, self._committer.stop)
        try:
            await loop.run_in_executor(self._consumer_thread, self._membership.leave)
        finally:
            giving_up.cancel()
            self._committer.stop()
            await loop.run_in_executor(self._commit_thread, self._committer.close)
            self._consumer_thread.shutdown(wait=False)
            self._commit_thread.shutdown(wait=False)
            logger.debug("left the group")
