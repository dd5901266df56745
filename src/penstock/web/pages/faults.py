"""What a page says where the database or the log does not answer: what is wrong and what to do, never a traceback.

database, looking → [faults] → templates
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.errors import LogError, PenstockError, UserError
from penstock.store.reading import StoreMissing, StoreSlow


class Trouble(NamedTuple):
    """A page, or a part of one, that cannot be shown now."""

    title: str
    text: str
    todo: tuple[str, ...] = ()
    """Steps; what stands in them between backquotes is to be typed."""
    status: int = 503


def of_database(error: PenstockError, shown: str) -> Trouble:
    """Of a question to the database."""
    if isinstance(error, StoreMissing) and "not there yet" in str(error):
        return Trouble(
            "No database yet",
            f"The console shows what `penstock deliver database` writes, and {shown} is not there.",
            (
                "Start the sink: `penstock deliver database --task MODULE:TASK`, or everything: `penstock up --sink database MODULE:TASK`.",
                "Is it elsewhere? Set `sinks.database.url` for `penstock serve` as for the sink; see `penstock config`.",
            ),
        )
    if isinstance(error, StoreMissing):
        todo = (
            "Run `penstock db upgrade` with the same settings."
            if "db upgrade" in str(error)
            else "Use the newer Penstock here too."
        )
        return Trouble("The database is of another version", str(error), (todo, "The gateway takes events meanwhile."))
    if isinstance(error, StoreSlow):
        steps = ("Choose a shorter time or fewer filters.", "Or give it more time: `console.query_seconds`.")
        return Trouble("The database is slow", str(error), steps)
    if isinstance(error, UserError):
        return Trouble("The database refuses us", str(error), ("Mend the setting, then load this page again.",))
    return Trouble(
        "The database does not answer",
        f"{shown}: {error}",
        ("The page asks again by itself; the gateway takes events meanwhile, and results wait in the log.",),
    )


def of_log(error: PenstockError) -> Trouble:
    """Of a question to the log."""
    if isinstance(error, LogError | TimeoutError):
        return Trouble("The log does not answer", str(error), ("What the database knows is shown all the same.",))
    return Trouble("The log cannot be read", str(error))
