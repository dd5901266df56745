"""What the console asks for: indexes by task and time, by kind of dead letter, and costs by time without the table.

0002 → [0003] → …
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COSTS = ["committed_at", "task", "nanousd", "simulated"]


def upgrade() -> None:
    """Make them; two that they cover go."""
    op.create_index("verdicts_by_task", "verdicts", ["task", "committed_at", "label"])
    op.create_index("dead_letters_by_task", "dead_letters", ["task", "committed_at", "stage", "reason"])
    op.create_index("dead_letters_by_kind", "dead_letters", ["task", "stage", "reason", "committed_at"])
    op.drop_index("dead_letters_by_reason", "dead_letters")
    op.drop_index("costs_by_time", "costs")
    op.create_index("costs_by_time", "costs", COSTS)


def downgrade() -> None:
    """As they were."""
    op.drop_index("costs_by_time", "costs")
    op.create_index("costs_by_time", "costs", ["committed_at"])
    op.create_index("dead_letters_by_reason", "dead_letters", ["task", "reason", "committed_at"])
    for table, kind in (("dead_letters", "kind"), ("dead_letters", "task"), ("verdicts", "task")):
        op.drop_index(f"{table}_by_{kind}", table)
