"""The embedded log's file, looked at from outside: nothing is made, changed or repaired.

doctor → [inspection] → the file
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import LogDamaged
from penstock.log.sqlite.database import translated
from penstock.log.sqlite.schema import is_ready

_STEPS_PER_LOOK = 100_000


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen."""

    path: Path
    exists: bool
    is_writable: bool
    """The file, or where there is none yet its folder."""
    file_bytes: int = 0
    wal_bytes: int = 0
    free_bytes: int = 0
    journal: str = ""
    damage: list[str] = field(default_factory=list)
    """SQLite's own words; empty where nothing was found."""
    is_complete: bool = True
    """Whether the whole file was looked through in the time given."""


def inspect(path: Path, seconds: float) -> Inspection:
    """Look for `seconds` at most. Raises `LogDamaged` for a foreign file, `LogUnavailable` where it cannot be read."""
    path = path.absolute()
    folder = path.parent
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    if not path.is_file():
        is_writable = folder.is_dir() and not path.exists() and os.access(folder, os.W_OK)
        return Inspection(path, exists=False, is_writable=is_writable, free_bytes=free)
    wal = path.with_name(path.name + "-wal")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            if not is_ready(connection, path):
                raise LogDamaged(f"{path} is empty: no log was ever made in it; remove it or give another path")
            (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
            damage, is_complete = _damage(connection, seconds)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    return Inspection(
        path,
        exists=True,
        # SQLite keeps its -wal and -shm beside the file.
        is_writable=os.access(path, os.W_OK) and os.access(folder, os.W_OK),
        file_bytes=path.stat().st_size,
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        free_bytes=free,
        journal=str(journal),
        damage=damage,
        is_complete=is_complete,
    )


def _damage(connection: sqlite3.Connection, seconds: float) -> tuple[list[str], bool]:
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS_PER_LOOK)
    try:
        rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
            raise
        return [], False
    return [row for row in rows if row != "ok"], True
