"""The first tables: verdicts, dead letters, erasures, costs, decisions, and the views over them.

[0001] → 0002 …
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BYTES, TEXT, WHEN, ID, WHETHER = sa.LargeBinary, sa.Text, sa.DateTime(timezone=True), sa.String(64), sa.Boolean
LONG = sa.BigInteger
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
HOURS = {
    "postgresql": "date_trunc('hour', committed_at, 'UTC')",
    "sqlite": "strftime('%Y-%m-%d %H:00:00', committed_at)",
}
TABLES = ("decisions", "costs", "erasures", "dead_letters", "verdicts")


def _is(name: str, kind: Any, *, null: bool = False, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, primary_key=key)


def _source() -> list[sa.Column[Any]]:
    return [_is("source_topic", TEXT), _is("source_partition", sa.Integer), _is("source_offset", LONG)]


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        _is("task", TEXT, key=True), _is("event_id", TEXT, key=True), _is("result_id", ID), _is("subject", TEXT),
        _is("label", TEXT, null=True), _is("confidence", sa.String(10)), _is("needs_review", WHETHER),
        _is("provisional", WHETHER), _is("supersedes", ID, null=True), _is("simulated", WHETHER),
        _is("output", DOCUMENT), _is("tier", TEXT), _is("model", TEXT), _is("prompt", TEXT), _is("policy", TEXT),
        _is("attempts", sa.Integer), _is("nanousd", LONG), _is("produced_at", WHEN, null=True),
        _is("answered_at", WHEN, null=True), _is("committed_at", WHEN), _is("generation", sa.Integer),
        _is("key", BYTES, null=True), *_source(), _is("log_offset", LONG),
    )  # fmt: skip
    op.create_index("verdicts_by_time", "verdicts", ["committed_at"])
    op.create_index("verdicts_by_label", "verdicts", ["task", "label", "committed_at"])
    op.create_index("verdicts_by_subject", "verdicts", ["subject"])
    op.create_index("verdicts_by_key", "verdicts", ["key"])
    only = sa.text("needs_review")
    op.create_index(
        "verdicts_for_review", "verdicts", ["task", "committed_at"], postgresql_where=only, sqlite_where=only
    )


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        _is("id", ID, key=True), _is("task", TEXT), _is("event_id", TEXT), _is("subject", TEXT),
        _is("stage", sa.String(20)), _is("reason", sa.String(64)), _is("detail", TEXT), _is("attempts", sa.Integer),
        _is("nanousd", LONG), _is("first_at", WHEN, null=True), _is("last_at", WHEN, null=True),
        _is("committed_at", WHEN), _is("is_pointer", WHETHER), _is("key", BYTES, null=True),
        _is("value", BYTES, null=True), *_source(), _is("log_topic", TEXT), _is("log_partition", sa.Integer),
        _is("log_offset", LONG),
    )  # fmt: skip
    op.create_index("dead_letters_by_time", "dead_letters", ["committed_at"])
    op.create_index("dead_letters_by_reason", "dead_letters", ["task", "reason", "committed_at"])
    op.create_index("dead_letters_by_event", "dead_letters", ["task", "event_id"])
    op.create_index("dead_letters_by_subject", "dead_letters", ["subject"])
    op.create_index("dead_letters_by_key", "dead_letters", ["key"])


def _books() -> None:
    op.create_table(
        "erasures",
        _is("task", TEXT, key=True), _is("scope", sa.String(10), key=True), _is("name", BYTES, key=True),
        _is("source_topic", TEXT, key=True), _is("source_partition", sa.Integer, key=True),
        _is("source_offset", LONG), _is("committed_at", WHEN),
    )  # fmt: skip
    op.create_table(
        "costs",
        _is("result_id", ID, key=True), _is("task", TEXT), _is("kind", sa.String(10)), _is("model", TEXT),
        _is("tier", TEXT), _is("simulated", WHETHER), _is("committed_at", WHEN), _is("nanousd", LONG),
        _is("input_tokens", LONG), _is("cache_write_tokens", LONG), _is("cache_read_tokens", LONG),
        _is("output_tokens", LONG),
    )  # fmt: skip
    op.create_index("costs_by_time", "costs", ["committed_at"])
    op.create_table(
        "decisions",
        _is("id", ID, key=True), _is("task", TEXT), _is("event_id", TEXT), _is("subject", TEXT),
        _is("result_id", ID), _is("decided_by", TEXT), _is("decided_at", WHEN), _is("label_before", TEXT, null=True),
        _is("label", TEXT, null=True), _is("output", DOCUMENT, null=True), _is("note", TEXT),
    )  # fmt: skip
    op.create_index("decisions_by_event", "decisions", ["task", "event_id", "decided_at"])
    op.create_index("decisions_by_time", "decisions", ["decided_at"])


EVENTS = """
CREATE VIEW events AS
SELECT v.task, v.event_id, v.subject, CASE WHEN v.provisional THEN 'provisional' ELSE 'answered' END AS state,
  v.source_topic, v.source_partition, v.source_offset, v.committed_at
FROM verdicts v
UNION ALL
SELECT d.task, d.event_id, d.subject, 'dead', d.source_topic, d.source_partition, d.source_offset, d.committed_at
FROM dead_letters d
WHERE d.stage <> 'deliver'
  AND NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.task = d.task AND v.event_id = d.event_id)
  AND NOT EXISTS (SELECT 1 FROM dead_letters e WHERE e.task = d.task AND e.event_id = d.event_id AND e.stage <> 'deliver'
    AND (e.committed_at > d.committed_at OR (e.committed_at = d.committed_at AND e.id > d.id)))
"""
COSTS = """
CREATE VIEW costs_by_hour AS
SELECT {hour} AS hour, task, model, tier, simulated, count(*) AS endings,
  CAST(sum(input_tokens) AS bigint) AS input_tokens, CAST(sum(cache_write_tokens) AS bigint) AS cache_write_tokens,
  CAST(sum(cache_read_tokens) AS bigint) AS cache_read_tokens, CAST(sum(output_tokens) AS bigint) AS output_tokens,
  CAST(sum(nanousd) / 1e9 AS double precision) AS usd
FROM costs
GROUP BY 1, 2, 3, 4, 5
"""


def upgrade() -> None:
    """Make everything."""
    _verdicts()
    _dead_letters()
    _books()
    op.execute(EVENTS)
    op.execute(COSTS.format(hour=HOURS[op.get_context().dialect.name]))


def downgrade() -> None:
    """Take everything away."""
    for view in ("costs_by_hour", "events"):
        op.execute(f"DROP VIEW {view}")
    for table in TABLES:
        op.drop_table(table)
