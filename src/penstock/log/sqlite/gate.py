"""Whose turn it is to write: quick and fair, where SQLite's own waiting is neither.

writers of many processes → [gate] → database

SQLite's busy handler sleeps up to 100 ms and lets the luckiest win. Here a writer waits in two flock'd side files: who
stands at the *turn* is next at the *gate*, so nobody who just wrote can overtake it. The gate is manners only; the lock
that counts is SQLite's. Nobody waits here longer than `patience_seconds`, because a stopped process may hold it.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # pragma: no cover - no flock on this system: SQLite's own waiting serves
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST_NAP_SECONDS = 0.0002
_LONGEST_NAP_SECONDS = 0.001


class Gate:
    """Two side files next to the log's file; without them (read-only folder) everybody passes."""

    def __init__(self, path: Path, patience_seconds: float = 0.25) -> None:
        self._patience_seconds = patience_seconds
        self._turn = _side_file(f"{path}-turn")
        self._gate = _side_file(f"{path}-gate")

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Hold the gate, or go on without it when patience ends."""
        deadline = time.monotonic() + self._patience_seconds
        held = False
        if _locked(self._turn, deadline):
            held = _locked(self._gate, deadline)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the side files back; they stay on disk, empty."""
        for descriptor in (self._turn, self._gate):
            if descriptor >= 0:
                os.close(descriptor)
        self._turn = self._gate = -1


def _side_file(name: str) -> int:
    if fcntl is None:
        return -1
    try:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return -1  # manners are not worth an error; a folder that cannot be written shows itself at the first write


def _locked(descriptor: int, deadline: float) -> bool:
    nap_seconds = _FIRST_NAP_SECONDS
    while descriptor >= 0:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(nap_seconds)
            nap_seconds = min(nap_seconds * 1.5, _LONGEST_NAP_SECONDS)
        else:
            return True
    return False
