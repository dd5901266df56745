"""What a database's error means: weather, a mistake that a person mends, or one row that it will never take.

driver → [faults] → sinks, cli
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from penstock.errors import PenstockError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

MISTAKES = {
    "28P01": "the password is wrong (sinks.database.password)",
    "28000": "this user may not log in (sinks.database.url)",
    "3D000": "there is no such database: make it, or mend sinks.database.url",
    "42501": "the user of sinks.database.url lacks a privilege",
}
MISSING = {"42P01", "42703"}
"""No such table, no such column."""
TOO_LARGE = "54"
"""Beyond the server's own limits, as a text too long for an index."""
MAX_TEXT = 300


class StoreAway(PenstockError):
    """Weather: the database cannot be reached, is read-only, full or too busy. Nothing was written."""


class RowRefused(PenstockError):
    """The database will never take one of these rows; nothing was written. The text holds none of their content."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What the driver raises, as ours."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        raise meaning(error) from error
    except sqlite3.OperationalError as error:  # while a connection is made ready, SQLAlchemy does not wrap it
        raise StoreAway(f"the database: {error}") from error


def meaning(error: DBAPIError | PoolTimeout) -> PenstockError:
    """Weather unless it is known to be something else: a result that waits is not lost."""
    if not isinstance(error, DBAPIError):
        return StoreAway("the database: all connections are in use")
    state = getattr(error.orig, "sqlstate", None) or ""
    said = _first_line(error)
    if (mistake := _mistake(state, said)) is not None:
        return SettingsError(mistake)
    is_refusal = isinstance(error, DataError | IntegrityError)
    if is_refusal or state.startswith(TOO_LARGE):
        return RowRefused(f"the database will not take it ({state or type(error.orig).__name__})")
    if isinstance(error, ProgrammingError):
        return SettingsError(f"the database does not understand us: {said}")
    return StoreAway(f"the database: {said}")


def _mistake(state: str, said: str) -> str | None:
    if state in MISSING or "no such table" in said or "no such column" in said or "has no column" in said:
        return f"the database lacks tables or columns of this program ({said}): run `penstock db upgrade`"
    for known, told in MISTAKES.items():
        if state == known or (not state and _says(said, known)):
            return f"the database refuses us: {told}\n  {said}"
    return None


def _says(said: str, state: str) -> bool:
    """While a connection is made the server's code does not come through, only its words."""
    words = {"28P01": "password authentication failed", "28000": "no pg_hba.conf entry", "3D000": '" does not exist'}
    return words.get(state, "\0") in said


def _first_line(error: DBAPIError) -> str:
    text = str(error.orig).strip() or type(error.orig).__name__
    return " ".join(text.splitlines()[:2])[:MAX_TEXT]
