"""Results, dead letters and erasures into a database: SQLite or PostgreSQL, one transaction a batch.

delivery → [database] → store

Again is harmless: a row is replaced only by a later one, and what was erased stays erased.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.deadletters.letter import Letter
from penstock.erasure import Erasure
from penstock.errors import SinkAway
from penstock.sinks.base import Delivery, Refused, Result, Sink, SinkOptions
from penstock.store.cutting import Cutter
from penstock.store.faults import RowRefused, StoreAway
from penstock.store.options import DatabaseOptions
from penstock.store.retention import prune_all
from penstock.store.schema import check, connect
from penstock.store.tables import moment
from penstock.store.writing import Writer, Writes, name_of_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from penstock.sinks.base import Reads
    from penstock.sinks.reading import Feed

logger = logging.getLogger("penstock.deliver")
T = TypeVar("T")
MAX_LABEL = 200


class DatabaseSink(Sink):
    """Writes to the database of `[sinks.database]`."""

    name = "database"
    reads: frozenset[Reads] = frozenset({"results", "letters"})
    close_seconds = 10.0
    """So long what is being written may still take when the sink is closed."""

    def __init__(self, options: DatabaseOptions, feeds: Sequence[Feed]) -> None:
        self.options = SinkOptions(max_batch_items=options.max_batch_items)
        self._database = options
        self._labels = {feed.task: feed.label for feed in feeds}
        self._thread = ThreadPoolExecutor(1, "penstock-database")
        self._pruner = ThreadPoolExecutor(1, "penstock-retention")
        self._engine: Engine | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._is_closing = False

    async def open(self) -> None:
        """Connect, and see that the tables are ours."""
        if self._engine is None:
            self._engine = connect(self._database)
            self._cutter = Cutter(self._engine)
        await self._run(check, self._engine, self._database)
        self._writer = Writer(self._engine)
        if self._pruning is None:
            self._pruning = asyncio.create_task(self._prune(self._engine), name="database: retention")

    async def deliver(self, batch: Sequence[Delivery]) -> list[Refused]:
        """One transaction. Where the database refuses a row, each has one of its own, so that the others pass."""
        try:
            await self._run(self._write, batch)
        except RowRefused as error:
            if len(batch) == 1:
                return [Refused(batch[0], str(error))]
            half = len(batch) // 2
            return [*await self.deliver(batch[:half]), *await self.deliver(batch[half:])]
        return []

    async def close(self) -> None:
        """Give back the connections; a batch that is being written is finished, unless the database says no word."""
        self._is_closing = True
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.gather(self._pruning, return_exceptions=True)
        if self._engine is not None:
            await self._cutter.end(self._thread, self._pruner, seconds=self.close_seconds)

    def _write(self, batch: Sequence[Delivery]) -> None:
        writes = Writes()
        for delivery in batch:
            content = delivery.content
            if isinstance(content, Result):
                writes.verdict(self._verdict(content, delivery))
                writes.cost(_cost_of_result(content, delivery))
            elif isinstance(content, Letter):
                writes.letter(_letter(content, delivery))
                if content.nanousd:
                    writes.cost(_cost_of_letter(content, delivery))
            elif isinstance(content, Erasure):
                writes.erase(content, _committed(delivery))
        self._writer.write(writes)

    async def _run(self, act: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)
        except StoreAway as away:
            raise SinkAway(str(away)) from away

    async def _prune(self, engine: Engine) -> None:
        while True:
            try:
                act = functools.partial(prune_all, engine, self._database, lambda: self._is_closing)
                gone = await asyncio.get_running_loop().run_in_executor(self._pruner, act)
            except StoreAway as away:
                logger.info("retention waits: %s", away)
            except Exception:
                logger.exception("old rows could not be deleted")
            else:
                if told := ", ".join(f"{count:,} of {name}" for name, count in gone.items() if count):
                    logger.info("retention deleted %s", told)
            await asyncio.sleep(self._database.prune_interval_seconds)

    def _verdict(self, result: Result, delivery: Delivery) -> dict[str, Any]:
        said = result.output.get(self._labels.get(result.task, ""))
        label = None if said is None else str(said).lower() if isinstance(said, bool) else str(said)[:MAX_LABEL]
        wants_person = result.provisional or result.confidence == "unsure" or label in self._database.review_labels
        row = {
            "task": result.task,
            "event_id": result.event_id,
            "result_id": result.id,
            "subject": result.subject,
            "label": label,
            "confidence": result.confidence,
            "needs_review": wants_person,
            "provisional": result.provisional,
            "supersedes": result.supersedes or None,
            "simulated": result.simulated,
            "output": result.output,
            "tier": result.tier,
            "model": result.model,
            "prompt": result.prompt,
            "policy": result.policy,
            "attempts": result.attempts,
            "nanousd": result.nanousd,
            "produced_at": moment(result.times.produced),
            "answered_at": moment(result.times.answered),
            "committed_at": _committed(delivery),
            "generation": result.generation,
            "key": name_of_key(delivery.record.key),
            "source_topic": result.source.topic,
            "source_partition": result.source.partition,
            "source_offset": result.source.offset,
            "log_offset": delivery.record.offset,
        }
        return storable(row) if _has_nul(delivery) else row


def _letter(letter: Letter, delivery: Delivery) -> dict[str, Any]:
    row = {
        "id": letter.id,
        "task": letter.task,
        "event_id": letter.event_id,
        "subject": letter.subject,
        "stage": letter.stage[:20],
        "reason": letter.reason[:64],
        "detail": letter.detail,
        "attempts": letter.attempts,
        "nanousd": letter.nanousd,
        "first_at": moment(letter.first_ms),
        "last_at": moment(letter.last_ms),
        "committed_at": _committed(delivery),
        "is_pointer": letter.is_pointer,
        "key": name_of_key(delivery.record.key),
        "value": delivery.record.value,
        "source_topic": letter.source.topic,
        "source_partition": letter.source.partition,
        "source_offset": letter.source.offset,
        "log_topic": delivery.record.topic,
        "log_partition": delivery.record.partition,
        "log_offset": delivery.record.offset,
    }
    return storable(row)


def _cost_of_result(result: Result, delivery: Delivery) -> dict[str, Any]:
    row = {
        "result_id": result.id,
        "task": result.task,
        "kind": "result",
        "model": result.model,
        "tier": result.tier,
        "simulated": result.simulated,
        "committed_at": _committed(delivery),
        "nanousd": result.nanousd,
        **result.usage._asdict(),
    }
    return storable(row) if _has_nul(delivery) else row


def _cost_of_letter(letter: Letter, delivery: Delivery) -> dict[str, Any]:
    row = {
        "result_id": letter.id,
        "task": letter.task,
        "kind": "letter",
        "model": "",
        "tier": "",
        "simulated": False,
        "committed_at": _committed(delivery),
        "nanousd": letter.nanousd,
        "input_tokens": 0,
        "cache_write_tokens": 0,
        "cache_read_tokens": 0,
        "output_tokens": 0,
    }
    return storable(row)


def _committed(delivery: Delivery) -> Any:
    return moment(max(1, delivery.committed_ms))


def _has_nul(delivery: Delivery) -> bool:
    """In JSON a NUL is always escaped: to look for that is cheaper than to look at every text."""
    return b"\\u0000" in (delivery.record.value or b"")


def storable(row: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL has no NUL in texts and documents: it becomes U+FFFD, as in every text that is shown."""
    return {name: _without_nul(value) for name, value in row.items()}


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nul(inner) for inner in value]
    return value
