"""The tables: verdicts, dead letters, erasures, costs, decisions by people, what webhooks keep; and two views for people who know SQL.

migrations → [tables] ← queries, writing

One row a verdict, the one that holds. Money is in whole nanodollars, as everywhere; times are with their zone. `docs/reference/
tables.md` says what each column means.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

metadata = MetaData()
Document = JSON().with_variant(JSONB(), "postgresql")


class Moment(TypeDecorator[datetime]):
    """A time in UTC: `timestamptz` on PostgreSQL; on SQLite, which has none, text that sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Naive values have no place here."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """SQLite forgets the zone."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def moment(unix_ms: int) -> datetime | None:
    """Unix time in milliseconds as a column's value; 0 is none."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC) if unix_ms > 0 else None


verdicts = Table(
    "verdicts",
    metadata,
    Column("task", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("result_id", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("label", Text),
    Column("confidence", String(10), nullable=False),
    Column("needs_review", Boolean, nullable=False),
    Column("provisional", Boolean, nullable=False),
    Column("supersedes", String(64)),
    Column("simulated", Boolean, nullable=False),
    Column("output", Document, nullable=False),
    Column("tier", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("nanousd", BigInteger, nullable=False),
    Column("produced_at", Moment),
    Column("answered_at", Moment),
    Column("committed_at", Moment, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("key", LargeBinary),
    Column("source_topic", Text, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Index("verdicts_by_time", "committed_at"),
    Index("verdicts_by_task", "task", "committed_at", "label"),
    Index("verdicts_by_label", "task", "label", "committed_at"),
    Index("verdicts_by_subject", "subject"),
    Index("verdicts_by_key", "key"),
    Index(
        "verdicts_for_review",
        "task",
        "committed_at",
        postgresql_where=text("needs_review"),
        sqlite_where=text("needs_review"),
    ),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("task", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("stage", String(20), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("nanousd", BigInteger, nullable=False),
    Column("first_at", Moment),
    Column("last_at", Moment),
    Column("committed_at", Moment, nullable=False),
    Column("is_pointer", Boolean, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("source_topic", Text, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("log_topic", Text, nullable=False),
    Column("log_partition", Integer, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Index("dead_letters_by_time", "committed_at"),
    Index("dead_letters_by_task", "task", "committed_at", "stage", "reason"),
    Index("dead_letters_by_kind", "task", "stage", "reason", "committed_at"),
    Index("dead_letters_by_event", "task", "event_id"),
    Index("dead_letters_by_subject", "subject"),
    Index("dead_letters_by_key", "key"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("task", Text, primary_key=True),
    Column("scope", String(10), primary_key=True),
    Column("name", LargeBinary, primary_key=True),
    Column("source_topic", Text, primary_key=True),
    Column("source_partition", Integer, primary_key=True),
    Column("source_offset", BigInteger, nullable=False),
    Column("committed_at", Moment, nullable=False),
)

costs = Table(
    "costs",
    metadata,
    Column("result_id", String(64), primary_key=True),
    Column("task", Text, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("model", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("committed_at", Moment, nullable=False),
    Column("nanousd", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Index("costs_by_time", "committed_at", "task", "nanousd", "simulated"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("task", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("result_id", String(64), nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", Moment, nullable=False),
    Column("label_before", Text),
    Column("label", Text),
    Column("output", Document),
    Column("note", Text, nullable=False),
    Index("decisions_by_event", "task", "event_id", "decided_at"),
    Index("decisions_by_time", "decided_at"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("disabled_at", Moment),
    Column("why", Text, nullable=False),
)

webhook_messages = Table(
    "webhook_messages",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("type", Text, nullable=False),
    Column("event", String(64), nullable=False),
    Column("rank", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("claimed_until", Moment),
    Column("dead_at", Moment),
    Column("detail", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("subject", Text),
    Column("is_erasure", Boolean, nullable=False),
    Column("source_topic", Text, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("log_topic", Text, nullable=False),
    Column("log_partition", Integer, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Column("log_timestamp_ms", BigInteger, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", Document, nullable=False),
    Index("webhook_messages_by_time", "endpoint", "next_at"),
    Index("webhook_messages_by_event", "endpoint", "event"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("message_id", String(100), nullable=False),
    Column("type", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("verdict", String(12), nullable=False),
    Column("status", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("detail", Text, nullable=False),
    Column("log_topic", Text, nullable=False),
    Column("log_partition", Integer, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Index("webhook_attempts_by_time", "endpoint", "at"),
    Index("webhook_attempts_by_message", "endpoint", "message_id"),
)

events = Table(
    "events",
    MetaData(),
    *(Column(name, kind) for name, kind in (("task", Text), ("event_id", Text), ("subject", Text), ("state", Text))),
    *(Column(name, kind) for name, kind in (("source_topic", Text), ("source_partition", Integer))),
    Column("source_offset", BigInteger),
    Column("committed_at", Moment),
)
"""A view: every event that has ended, once per task, and how (`answered`, `provisional`, `dead`). Made by a migration."""

costs_by_hour = Table(
    "costs_by_hour",
    MetaData(),
    Column("hour", Moment),
    *(Column(name, Text) for name in ("task", "model", "tier")),
    Column("simulated", Boolean),
    *(
        Column(name, BigInteger)
        for name in ("endings", "input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens")
    ),
    Column("usd", Double),
)
"""A view: endings, tokens and dollars by hour, task, model and tier. Made by a migration."""
