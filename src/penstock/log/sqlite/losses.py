"""The embedded log keeps its losses in a table too: whoever opens the file later sees what was deleted unread.

group, consumer → [losses] → the file
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from penstock.log.losses import Loss


def record(connection: sqlite3.Connection, loss: Loss, now_ms: int) -> None:
    """Write the range down; once is enough."""
    topic, number = loss.partition
    connection.execute(
        "INSERT OR IGNORE INTO losses VALUES (?, ?, ?, ?, ?, ?)",
        (loss.group, topic, number, loss.first, loss.stop, now_ms),
    )
