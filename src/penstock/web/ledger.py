"""What gateways of one machine remember for a day: which events were claimed and written, and how they ended.

posting, tail → [ledger] → gateway

A claim comes before the append and says whose turn it is; the mark comes behind it and says where the event stands. A claim
without a mark whose gateway is gone may be taken over: its event is appended again, with the same id.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from penstock.errors import PenstockError
from penstock.web import ledger_endings
from penstock.web.ledger_file import LedgerFile

if TYPE_CHECKING:
    from penstock.web.events import Ending
    from penstock.web.judge import Event
    from penstock.web.ledger_endings import Found

logger = logging.getLogger("penstock.gateway")
BEAT_SECONDS = 1.0
ALIVE_SECONDS = 8.0
PRUNE_SECONDS = 60.0
NEWS_SECONDS = 0.05
TAIL = "tail"
Standing = Literal["mine", "written", "busy", "other"]


class Claimed(NamedTuple):
    """How a claim stands."""

    standing: Standing
    """`other`: the same name with another content."""
    event_id: str


class Ledger:
    """The `Events` of this machine, and the memory that makes repeats harmless."""

    def __init__(
        self,
        path: Path,
        *,
        remember_hours: float = 24.0,
        max_endings: int = 1_000_000,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._file = LedgerFile(path)
        self._owner = uuid.uuid4().hex
        self._remember_ms = int(remember_hours * 3_600_000)
        self._max_endings = max_endings
        self._beat_seconds = beat_seconds
        self._beating: asyncio.Task[None] | None = None
        self._unreleased: set[str] = set()
        self._news = asyncio.Event()
        self._waiting = 0
        self._hearing = 0
        self._awaited = asyncio.Event()
        self._is_stopping = False
        self._looking: asyncio.Task[None] | None = None
        self.is_tailing = False
        """This process is the one that reads the log's news into the file."""

    async def open(self) -> None:
        """Begin to be alive. Raises where the file cannot be used."""
        await self._beat()
        self._beating = asyncio.create_task(self._beat_on(), name="ledger: alive")

    async def close(self) -> None:
        """Leave; what is claimed and not marked may be taken over at once."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        mine = (self._owner, f"{TAIL}:{self._owner}")
        try:
            await self._file.write(lambda db: db.execute("DELETE FROM owners WHERE owner IN (?, ?)", mine))
        except PenstockError as error:
            logger.warning("%s", error)
        await self._file.close()

    async def claim(self, events: Sequence[Event]) -> list[Claimed]:
        """Say that these are being written; each claim's standing."""
        if not events:
            return []
        turn, now_ms = uuid.uuid4().hex, _now_ms()
        rows = orjson.dumps(
            [[e.claim, e.digest, e.record.topic, e.id, e.subject, _text(e.record.key)] for e in events]
        ).decode()
        names = orjson.dumps([event.claim for event in events]).decode()

        def act(db: sqlite3.Connection) -> list[Any]:
            given = {"rows": rows, "turn": turn, "owner": self._owner, "now": now_ms, "old": now_ms - self._remember_ms}
            db.execute(_CLAIM, given)
            found: list[Any] = orjson.loads(db.execute(_STANDING, {"names": names, "turn": turn}).fetchone()[0])
            return found

        found = {row[0]: row for row in await self._file.write(act)}
        return [_standing(event, found[event.claim]) for event in events]

    async def mark(self, events: Sequence[Event], places: Sequence[tuple[int, int]]) -> None:
        """They stand in the log, here."""
        now_ms = _now_ms()
        rows = orjson.dumps(
            [
                [e.claim or f"-{e.id}", e.digest, e.record.topic, e.id, e.subject, _text(e.record.key), *place]
                for e, place in zip(events, places, strict=True)
            ]
        ).decode()
        await self._file.write(lambda db: db.execute(_MARK, {"rows": rows, "now": now_ms}))

    async def release(self, events: Sequence[Event]) -> None:
        """Whether they were written is not known: whoever comes with them next writes them again."""
        self._unreleased.update(event.claim for event in events if event.claim)
        await self._release()

    async def endings(self, topic: str, event_id: str) -> list[Ending] | None:
        """See `Events`."""
        return await self._file.read(lambda db: ledger_endings.of_event(db, topic, event_id))

    async def positions(self) -> dict[tuple[str, int], int]:
        """How far the tail has come."""
        rows = await self._file.read(lambda db: db.execute("SELECT topic, partition, next FROM tails").fetchall())
        return {(topic, partition): offset for topic, partition, offset in rows}

    async def keep(self, found: Sequence[Found], positions: dict[tuple[str, int], int]) -> None:
        """Write what the tail read and how far it has come, in one act."""
        await self._file.write(lambda db: ledger_endings.keep(db, found, positions))
        self._tell()

    async def awaited(self, timeout_seconds: float) -> bool:
        """Return at once while anybody waits for news here, else as soon as somebody does, or when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._awaited.wait()
        return self._awaited.is_set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[float], Awaitable[bool]]]:
        """See `Events`. One look serves all who wait."""
        news = self._news

        async def heard(timeout_seconds: float) -> bool:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="ledger: news")
            self._hearing += 1
            self._awaited.set()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await news.wait()
            except TimeoutError:
                pass
            finally:
                self._hearing -= 1
                if not self._hearing:
                    self._awaited.clear()
            return not self._is_stopping

        self._waiting += 1
        try:
            yield heard
        finally:
            self._waiting -= 1

    def stop_waiting(self) -> None:
        """Whoever waits is told how it stands now."""
        self._is_stopping = True
        self._news.set()

    async def _look(self) -> None:
        """While anybody waits: another process may be the one that reads the log's news into the file."""
        seen = None
        while self._waiting:
            try:
                now = await self._file.read(lambda db: db.execute("SELECT total(next) FROM tails").fetchone()[0])
            except PenstockError as error:
                logger.warning("%s", error)
                return
            if now != seen:
                seen = now
                self._tell()
            await asyncio.sleep(NEWS_SECONDS)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _release(self) -> None:
        names = orjson.dumps(sorted(self._unreleased)).decode()
        released = set(self._unreleased)
        try:
            await self._file.write(lambda db: db.execute(_RELEASE, {"names": names, "owner": self._owner}))
        except PenstockError as error:
            logger.warning("%s", error)  # the next beat tries again
        else:
            self._unreleased -= released

    async def _beat_on(self) -> None:
        prune_at = 0.0
        while True:
            await asyncio.sleep(self._beat_seconds)
            try:
                await self._beat()
                if self._unreleased:
                    await self._release()
                if time.monotonic() > prune_at:
                    prune_at = time.monotonic() + PRUNE_SECONDS
                    old_ms = _now_ms() - self._remember_ms
                    await self._file.write(lambda db, old=old_ms: ledger_endings.prune(db, old, self._max_endings))  # type: ignore[misc]
            except PenstockError as error:
                self.is_tailing = False
                logger.warning("%s", error)

    async def _beat(self) -> None:
        now_ms = _now_ms()
        until_ms = now_ms + int(ALIVE_SECONDS * 1000)

        def act(db: sqlite3.Connection) -> bool:
            db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (self._owner, until_ms))
            db.execute("DELETE FROM owners WHERE until_ms < ?", (now_ms,))
            mine = f"{TAIL}:{self._owner}"
            row = db.execute("SELECT owner FROM owners WHERE owner LIKE 'tail:%'").fetchone()
            if row is None or row[0] == mine:
                db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (mine, until_ms))
            return row is None or row[0] == mine

        self.is_tailing = await self._file.write(act)


def _standing(event: Event, row: Sequence[Any]) -> Claimed:
    _, digest, event_id, is_mine, is_written = row
    if digest != event.digest:
        return Claimed("other", event_id)
    if is_written:
        return Claimed("written", event_id)
    return Claimed("mine" if is_mine else "busy", event_id)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_COLUMNS = """json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
  json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')"""
# A claim that is older than a day is none; one that is not marked and whose owner is gone may be taken over.
_CLAIM = f"""
INSERT INTO claims (claim, digest, topic, event_id, subject, record_key, turn, owner, made_ms)
SELECT {_COLUMNS}, :turn, :owner, :now FROM json_each(:rows) WHERE true
ON CONFLICT (claim) DO UPDATE SET
  digest = excluded.digest, subject = excluded.subject, record_key = excluded.record_key, turn = excluded.turn,
  owner = excluded.owner, made_ms = excluded.made_ms, partition = NULL, "offset" = NULL,
  event_id = CASE WHEN claims.made_ms < :old THEN excluded.event_id ELSE claims.event_id END
WHERE claims.made_ms < :old OR (
  claims.partition IS NULL AND claims.digest = excluded.digest
  AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.owner = claims.owner AND owners.until_ms > :now)
)
"""  # noqa: S608 - our own columns
_STANDING = """
SELECT json_group_array(json_array(claim, digest, event_id, turn = :turn, partition IS NOT NULL))
FROM claims WHERE claim IN (SELECT value FROM json_each(:names))
"""
_MARK = f"""
INSERT INTO claims (claim, digest, topic, event_id, subject, record_key, turn, owner, made_ms, partition, "offset")
SELECT {_COLUMNS}, '', '', :now, json_extract(value, '$[6]'), json_extract(value, '$[7]') FROM json_each(:rows) WHERE true
ON CONFLICT (claim) DO UPDATE SET partition = excluded.partition, "offset" = excluded."offset", owner = ''
"""  # noqa: S608
_RELEASE = """
UPDATE claims SET owner = '' WHERE partition IS NULL AND owner = :owner
AND claim IN (SELECT value FROM json_each(:names))
"""
