"""Appends of one process, gathered: calls that come while a write runs share the next transaction.

producers → [appender] → records
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import PenstockError
from penstock.log.sqlite import records
from penstock.log.sqlite.records import check_sizes
from penstock.record import NewRecord, Position

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from penstock.log.sqlite.shared import Shared

_MOST_RECORDS = 2_000


class _Call(NamedTuple):
    records: Sequence[NewRecord]
    written: asyncio.Future[list[Position]]


class Appender:
    """A call returns when its records are durable; one that is refused does not harm its neighbours."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._calls: list[_Call] = []
        self._writing: asyncio.Task[None] | None = None

    async def append(self, new: Sequence[NewRecord]) -> list[Position]:
        """Write records of any topics."""
        check_sizes(new, self._shared.options.max_record_bytes)
        if not new:
            return []
        call = _Call(new, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="append")
        return await call.written

    async def close(self) -> None:
        """Wait for what was handed in."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    async def _write_all(self) -> None:
        while self._calls:
            calls = self._next_calls()
            try:
                outcomes = await self._shared.writer.run(self._write, calls)
            except Exception as error:  # noqa: BLE001 - handed to every caller
                outcomes = [error] * len(calls)
            for call, outcome in zip(calls, outcomes, strict=True):
                if call.written.done():
                    continue
                if isinstance(outcome, Exception):
                    call.written.set_exception(outcome)
                else:
                    call.written.set_result(outcome)
            self._shared.news.happened()

    def _next_calls(self) -> list[_Call]:
        count = total = 0
        for call in self._calls:
            total += len(call.records)
            if count and total > _MOST_RECORDS:
                break
            count += 1
        calls, self._calls = self._calls[:count], self._calls[count:]
        return calls

    def _write(self, db: sqlite3.Connection, calls: Sequence[_Call]) -> list[list[Position] | Exception]:
        catalogue, now_ms = self._shared.write_catalogue, self._shared.wall_ms()
        catalogue.refresh(db)
        outcomes: list[list[Position] | Exception] = []
        for call in calls:
            try:
                outcomes.append(records.append(db, catalogue, call.records, now_ms))
            except PenstockError as error:
                # Refused before its first statement: records are placed before any is written.
                outcomes.append(error)
        return outcomes
