"""What a user may set about the console: `[console]`. Nothing of a web framework is loaded by it.

settings → [options] → every file of this folder
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from penstock.errors import SettingsError

MOST_ROWS = 500


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """How `penstock serve` shows people what was decided, at `/console/`."""

    enabled: bool = True
    """`false`: the gateway only."""
    rows: int = 50
    """Rows of a page, at most 500."""
    live_seconds: float = 4.0
    """How often an open page asks for what is new; nothing is asked while nobody looks."""
    query_seconds: float = 5.0
    """The database answers a page within this time, or the page says that it does not."""
    log_seconds: float = 5.0
    """The same for the log: lag, members, the event's own bytes."""
    session_hours: float = 12.0
    """After so long a person logs in again; so too after a restart, or when the key is taken back."""
    workers: tuple[str, ...] = ()
    """Ops ports (`HOST:PORT`) of workers and sinks that are asked how they stand; those of this machine unless given."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not 0 < value < 1e6:
                raise SettingsError(f"console.{field.name}={value!r}: write a number greater than 0")
        if not 1 <= self.rows <= MOST_ROWS:
            raise SettingsError(f"console.rows={self.rows}: write a number from 1 to {MOST_ROWS}")
