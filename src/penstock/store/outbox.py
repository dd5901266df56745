"""What an endpoint did not take and is offered again later; which endpoints are disabled; what was tried.

sinks/webhook → [outbox] → tables

Several processes may work on one endpoint: who tries a message claims it for a while, so that a crash gives it back.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, delete, exists, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from penstock.record import Record
from penstock.store.faults import translated
from penstock.store.tables import webhook_attempts, webhook_endpoints, webhook_messages

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from penstock.erasure import Erasure

IN_ONE_QUESTION = 500
PRUNED_ROWS = 5_000
_messages = webhook_messages.c


class Full(Exception):
    """As many messages wait as may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that is tried again later."""

    id: str
    type: str
    event: str
    rank: str
    task: str
    subject: str | None
    is_erasure: bool
    source: tuple[str, int, int]
    record: Record
    """As it stands in the log: the message is made of it anew, and its dead letter."""
    attempts: int = 0
    next_at: datetime
    detail: str = ""


class Attempt(NamedTuple):
    """One line of the delivery log."""

    message_id: str
    type: str
    attempt: int
    verdict: str
    status: int
    seconds: float
    detail: str
    place: tuple[str, int, int]
    """Topic, partition and offset in the log."""


class Known(NamedTuple):
    """A message that waits already, for who has another of the same event."""

    id: str
    rank: str
    is_dead: bool


class Outbox:
    """Of one endpoint. Called from one thread at a time; raises `StoreAway`."""

    def __init__(self, engine: Engine, endpoint: str) -> None:
        self._engine, self.endpoint = engine, endpoint
        dialect: Any = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._put = dialect.insert(webhook_messages).on_conflict_do_nothing()
        self._upsert = dialect.insert

    # --- messages --------------------------------------------------------------------------------------------------

    def of_events(self, events: Iterable[str]) -> dict[str, list[Known]]:
        """What waits of these events."""
        named, found = sorted(set(events)), dict[str, list[Known]]()
        columns = (_messages.event, _messages.id, _messages.rank, _messages.dead_at)
        with translated(), self._engine.connect() as connection:
            for at in range(0, len(named), IN_ONE_QUESTION):
                some = _messages.event.in_(named[at : at + IN_ONE_QUESTION])
                for row in connection.execute(select(*columns).where(self._ours, some)):
                    known = Known(row.id, row.rank, row.dead_at is not None)
                    found.setdefault(row.event, []).append(known)
        return found

    def put(self, waiting: Sequence[Waiting], at_most: int) -> None:
        """They wait from now on; those that do already are left as they are. Raises `Full`."""
        now = datetime.now(UTC)
        with translated(), self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":  # two at once would both find room
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self.endpoint})
            count = connection.execute(select(func.count()).select_from(webhook_messages).where(self._ours)).scalar()
            if (count or 0) + len(waiting) > at_most:
                raise Full
            connection.execute(self._put, [self._row(one, now) for one in waiting])

    def supersede(self, event: str, rank: str) -> bool:
        """A later message of the event is there: earlier ones that wait are not sent any more. False: one is under way."""
        earlier = and_(self._ours, _messages.event == event, _messages.rank < rank, _messages.dead_at.is_(None))
        with translated(), self._engine.begin() as connection:
            self._drop_earlier(connection, event, rank, datetime.now(UTC))
            return connection.execute(select(_messages.id).where(earlier).limit(1)).first() is None

    def claim(self, at_most: int, seconds: float) -> list[Waiting]:
        """Those that are due, the longest due first; of an event the earliest. Nobody else gets them for so long."""
        now = datetime.now(UTC)
        other = webhook_messages.alias()
        earlier = exists().where(
            other.c.endpoint == self.endpoint,
            other.c.event == _messages.event,
            other.c.rank < _messages.rank,
            other.c.dead_at.is_(None),
        )
        due = (
            select(webhook_messages)
            .where(self._ours, _messages.dead_at.is_(None), _messages.next_at <= now, _free(now), ~earlier)
            .order_by(_messages.next_at)
            .limit(at_most)
            .with_for_update(skip_locked=True)
        )
        with translated(), self._engine.begin() as connection:
            found = [_waiting(row) for row in connection.execute(due).mappings()]
            ids = [one.id for one in found]
            until = now + timedelta(seconds=seconds)
            if ids:
                connection.execute(
                    update(webhook_messages).where(self._ours, _messages.id.in_(ids)).values(claimed_until=until)
                )
        return found

    def release(self, ids: Sequence[str]) -> None:
        """They were claimed and not tried: others may."""
        with translated(), self._engine.begin() as connection:
            mine = and_(self._ours, _messages.id.in_(ids))
            connection.execute(update(webhook_messages).where(mine).values(claimed_until=None))

    def done(self, ids: Sequence[str]) -> None:
        """Delivered or buried: they go."""
        with translated(), self._engine.begin() as connection:
            connection.execute(delete(webhook_messages).where(self._ours, _messages.id.in_(ids)))

    def again(self, one: Waiting, next_at: datetime | None, detail: str, attempts: int) -> None:
        """It failed: it waits for the next time, or (None) is given up; a later message of its event makes it go."""
        now = datetime.now(UTC)
        dead_at = now if next_at is None else None
        values = {"attempts": attempts, "detail": detail, "claimed_until": None, "dead_at": dead_at}
        with translated(), self._engine.begin() as connection:
            mine = and_(self._ours, _messages.id == one.id)
            connection.execute(update(webhook_messages).where(mine).values(next_at=next_at or now, **values))
            later = select(_messages.rank).where(self._ours, _messages.event == one.event, _messages.rank > one.rank)
            for (rank,) in connection.execute(later).all():
                self._drop_earlier(connection, one.event, rank, now)

    def dead(self, at_most: int) -> list[Waiting]:
        """Those that are given up and not buried yet."""
        wanted = select(webhook_messages).where(self._ours, _messages.dead_at.is_not(None))
        with translated(), self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(_messages.dead_at).limit(at_most)).mappings()
            return [_waiting(row) for row in rows]

    def erase(self, erasure: Erasure) -> bool:
        """What it covers is not sent any more. False: of that something is under way just now."""
        if erasure.subject is None and erasure.key is None:
            return True
        covered = _messages.key == erasure.key if erasure.subject is None else _messages.subject == erasure.subject
        topic, partition, offset = erasure.source
        meant = and_(
            self._ours,
            covered,
            _messages.task == erasure.task,
            _messages.source_topic == topic,
            _messages.source_partition == partition,
            _messages.source_offset < offset,
            _messages.is_erasure.is_(False),
        )
        with translated(), self._engine.begin() as connection:
            connection.execute(delete(webhook_messages).where(meant, _free(datetime.now(UTC))))
            return connection.execute(select(_messages.id).where(meant).limit(1)).first() is None

    def hurry(self, message_id: str | None = None) -> int:
        """All that wait, or one, are due now; how many."""
        which = self._ours if message_id is None else and_(self._ours, _messages.id == message_id)
        with translated(), self._engine.begin() as connection:
            now = datetime.now(UTC)
            done = connection.execute(update(webhook_messages).where(which).values(next_at=now, dead_at=None))
        return done.rowcount

    def standing(self) -> tuple[int, datetime | None]:
        """How many wait, and since when the oldest does."""
        wanted = select(func.count(), func.min(_messages.created_at)).where(self._ours)
        with translated(), self._engine.connect() as connection:
            count, oldest = connection.execute(wanted).one()
        return count, oldest

    # --- the delivery log ------------------------------------------------------------------------------------------

    def note(self, attempts: Sequence[Attempt]) -> None:
        """Write them down."""
        now = datetime.now(UTC)
        rows = [
            {
                "id": uuid.uuid4().hex,
                "endpoint": self.endpoint,
                "at": now,
                **{name: value for name, value in one._asdict().items() if name != "place"},
                **dict(zip(("log_topic", "log_partition", "log_offset"), one.place, strict=True)),
            }
            for one in attempts
        ]
        if rows:
            with translated(), self._engine.begin() as connection:
                connection.execute(insert(webhook_attempts), rows)

    def attempts(self, at_most: int, message_id: str | None = None) -> list[dict[str, Any]]:
        """The last ones, the newest first."""
        columns = webhook_attempts.c
        wanted = select(webhook_attempts).where(columns.endpoint == self.endpoint)
        if message_id is not None:
            wanted = wanted.where(columns.message_id == message_id)
        with translated(), self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(columns.at.desc()).limit(at_most)).mappings()
            return [dict(row) for row in rows]

    def prune(self, keep_days: float) -> int:
        """Old lines of the delivery log go; how many."""
        columns, before = webhook_attempts.c, datetime.now(UTC) - timedelta(days=keep_days)
        old = select(columns.id).where(columns.endpoint == self.endpoint, columns.at < before).limit(PRUNED_ROWS)
        with translated(), self._engine.begin() as connection:
            return connection.execute(delete(webhook_attempts).where(columns.id.in_(old))).rowcount

    # --- the endpoint ----------------------------------------------------------------------------------------------

    def disabled(self) -> tuple[datetime, str] | None:
        """Since when and why; None where it is enabled."""
        columns = webhook_endpoints.c
        with translated(), self._engine.connect() as connection:
            wanted = select(columns.disabled_at, columns.why).where(columns.name == self.endpoint)
            row = connection.execute(wanted).one_or_none()
        return None if row is None or row.disabled_at is None else (row.disabled_at, row.why)

    def disable(self, why: str) -> None:
        """Nothing is posted there until `enable`."""
        self._endpoint(datetime.now(UTC), why)

    def enable(self) -> None:
        """It is tried again."""
        self._endpoint(None, "")

    def _endpoint(self, disabled_at: datetime | None, why: str) -> None:
        values = {"disabled_at": disabled_at, "why": why}
        made = self._upsert(webhook_endpoints).values(name=self.endpoint, **values)
        with translated(), self._engine.begin() as connection:
            connection.execute(made.on_conflict_do_update(index_elements=["name"], set_=values))

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _ours(self) -> Any:
        return _messages.endpoint == self.endpoint

    def _drop_earlier(self, connection: Connection, event: str, rank: str, now: datetime) -> None:
        earlier = (_messages.event == event, _messages.rank < rank, _messages.dead_at.is_(None), _free(now))
        connection.execute(delete(webhook_messages).where(self._ours, *earlier))

    def _row(self, one: Waiting, now: datetime) -> dict[str, Any]:
        record = one.record
        return {
            **{name: getattr(one, name) for name in ("id", "type", "event", "rank", "task", "attempts", "next_at")},
            **{name: getattr(one, name) for name in ("subject", "is_erasure", "detail")},
            **dict(zip(("source_topic", "source_partition", "source_offset"), one.source, strict=True)),
            "endpoint": self.endpoint,
            "created_at": now,
            "claimed_until": None,
            "dead_at": None,
            "log_topic": record.topic,
            "log_partition": record.partition,
            "log_offset": record.offset,
            "log_timestamp_ms": record.timestamp_ms,
            "key": record.key,
            "value": record.value,
            "headers": [[name, None if value is None else value.hex()] for name, value in record.headers],
        }


def _free(now: datetime) -> Any:
    return or_(_messages.claimed_until.is_(None), _messages.claimed_until <= now)


def _waiting(row: Any) -> Waiting:
    headers = tuple((name, None if value is None else bytes.fromhex(value)) for name, value in row["headers"])
    place = row["log_topic"], row["log_partition"], row["log_offset"]
    record = Record(*place, _bytes(row["key"]), _bytes(row["value"]), headers, row["log_timestamp_ms"])
    plain = ("id", "type", "event", "rank", "task", "subject", "is_erasure", "attempts", "next_at", "detail")
    return Waiting(
        **{name: row[name] for name in plain},
        source=(row["source_topic"], row["source_partition"], row["source_offset"]),
        record=record,
    )


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
