"""Health checks: whether something is as it should be, why, and since when; and the page that a probe reads.

pulse, readings → [health] → server
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    is_ok: bool
    why: str
    """For people; no secrets and no text of events."""


class Seen(NamedTuple):
    """A check and since when it says so (Unix time)."""

    check: Check
    since: float


class Memory:
    """Remembers since when each check says yes or no."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[bool, float]] = {}

    def note(self, checks: Iterable[Check]) -> list[Seen]:
        """The same checks, each with the time of its last change."""
        now = time.time()
        seen = []
        for check in checks:
            was_ok, since = self._since.get(check.name, (not check.is_ok, now))
            if was_ok != check.is_ok:
                since = now
            self._since[check.name] = (check.is_ok, since)
            seen.append(Seen(check, since))
        return seen


def told(seen: Iterable[Seen], *, is_verbose: bool) -> tuple[bool, str]:
    """Whether all is well, and the text: one word, with `verbose` (or where something is wrong) a line a check."""
    rows = list(seen)
    is_ok = all(row.check.is_ok for row in rows)
    lines = ["ok" if is_ok else "not ok"]
    lines += [_line(row) for row in rows if is_verbose or not row.check.is_ok]
    return is_ok, "\n".join(lines) + "\n"


def _line(row: Seen) -> str:
    since = datetime.fromtimestamp(row.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    mark = "[ok]  " if row.check.is_ok else "[FAIL]"
    return f"{mark} {row.check.name}: {' '.join(row.check.why.split())} (since {since})"
