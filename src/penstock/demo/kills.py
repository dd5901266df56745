"""`--kill`: strikes a worker every few seconds, once the last one that was struck is back at work.

watch → [kills] → crew
"""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.demo.crew import Crew
    from penstock.demo.watch import Picture, TaskRow

KILL_SECONDS = (3.0, 6.0)


class Kills:
    """Where starting a process takes long, workers come to work all the same."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._rng = Random()
        self._struck = ""
        """Task whose worker was struck and has not been seen at work since."""
        self._done: int | None = None
        """Of that task, when all that the dead one had committed was read."""
        self._wait()

    def look(self, picture: Picture) -> str:
        """Strike if it is time; what was done."""
        row = next((row for row in picture.rows if row.name == self._struck), None)
        if row is not None and not self._is_back(row):
            return ""
        if time.monotonic() < self._at:
            return ""
        worker = self._crew.kill_one(self._rng)
        if worker is None or worker.process is None:
            return ""
        self._struck, self._done = worker.name.rpartition("-")[0], None
        return f"kill -9 {worker.process.pid} ({worker.name})"

    def _is_back(self, row: TaskRow) -> bool:
        done = row.found.ended + row.found.skipped
        if self._done is None:
            self._done = done
        if done == self._done and row.lag:
            return False
        self._struck = ""
        self._wait()
        return True

    def _wait(self) -> None:
        self._at = time.monotonic() + self._rng.uniform(*KILL_SECONDS)
