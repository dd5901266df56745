"""What webhooks keep: which endpoints are disabled, messages that are tried again, and the delivery log.

0001 → [0002] → …
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT, WHEN, LONG, INT, BYTES = sa.Text, sa.DateTime(timezone=True), sa.BigInteger, sa.Integer, sa.LargeBinary
NAME = sa.String(100)
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def _is(name: str, kind: Any, *, null: bool = False, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, primary_key=key)


def _place() -> list[sa.Column[Any]]:
    return [_is("log_topic", TEXT), _is("log_partition", INT), _is("log_offset", LONG)]


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "webhook_endpoints", _is("name", TEXT, key=True), _is("disabled_at", WHEN, null=True), _is("why", TEXT)
    )
    op.create_table(
        "webhook_messages",
        _is("endpoint", TEXT, key=True), _is("id", NAME, key=True), _is("type", TEXT), _is("event", sa.String(64)),
        _is("rank", sa.String(64)), _is("attempts", INT), _is("created_at", WHEN), _is("next_at", WHEN),
        _is("claimed_until", WHEN, null=True), _is("dead_at", WHEN, null=True), _is("detail", TEXT),
        _is("task", TEXT), _is("subject", TEXT, null=True), _is("is_erasure", sa.Boolean),
        _is("source_topic", TEXT), _is("source_partition", INT), _is("source_offset", LONG), *_place(), _is("log_timestamp_ms", LONG), _is("key", BYTES, null=True),
        _is("value", BYTES, null=True), _is("headers", DOCUMENT),
    )  # fmt: skip
    op.create_index("webhook_messages_by_time", "webhook_messages", ["endpoint", "next_at"])
    op.create_index("webhook_messages_by_event", "webhook_messages", ["endpoint", "event"])
    op.create_table(
        "webhook_attempts",
        _is("id", sa.String(32), key=True), _is("endpoint", TEXT), _is("message_id", NAME), _is("type", TEXT),
        _is("attempt", INT), _is("at", WHEN), _is("verdict", sa.String(12)), _is("status", INT),
        _is("seconds", sa.Double), _is("detail", TEXT), *_place(),
    )  # fmt: skip
    op.create_index("webhook_attempts_by_time", "webhook_attempts", ["endpoint", "at"])
    op.create_index("webhook_attempts_by_message", "webhook_attempts", ["endpoint", "message_id"])


def downgrade() -> None:
    """Take them away."""
    for table in ("webhook_attempts", "webhook_messages", "webhook_endpoints"):
        op.drop_table(table)
