"""What the log and its consumers use together.

log → [shared] → consumer, appender, upkeep
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.log.sqlite.catalogue import Catalogue
    from penstock.log.sqlite.database import Database
    from penstock.log.sqlite.news import News
    from penstock.log.sqlite.options import SqliteOptions


@dataclass(frozen=True, slots=True)
class Shared:
    """One thread that reads, one that writes, what each knows of topics, and who is told of news."""

    options: SqliteOptions
    reader: Database
    writer: Database
    read_catalogue: Catalogue
    write_catalogue: Catalogue
    news: News
    wall_ms: Callable[[], int]
    """The wall clock; it stamps and ages records, nobody lives or dies by it."""
