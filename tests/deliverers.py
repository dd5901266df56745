"""Processes of `penstock deliver`, as a supervisor would keep them.

scenarios → [deliverers] → penstock deliver
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from sink_feed import TASK

STOPPED_SECONDS, KILLED_SECONDS = 60, 30
MODULE = f"""
from pydantic import BaseModel
from penstock import Task
class Text(BaseModel):
    text: str
class Label(BaseModel):
    label: bool
labeler = Task({TASK.name!r}, reads={TASK.reads!r}, writes={TASK.writes!r}, dead_letters={TASK.dead_letters!r},
               input=Text, output=Label, instructions="Label.")
"""
"""`labels.py` of the directory in which they work: the task of `sink_feed`."""


class Deliverers:
    """All with the same arguments; `penstock.toml` of the directory is theirs too."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        (directory / "labels.py").write_text(MODULE)
        self._directory = directory
        self._command = [sys.executable, "-m", "penstock.cli", "deliver", *arguments]
        self._running: list[subprocess.Popen[bytes]] = []
        self.output = (directory / "deliver.log").open("ab")

    def start(self) -> None:
        """One more."""
        made = subprocess.Popen(self._command, cwd=self._directory, stdout=self.output, stderr=self.output)
        self._running.append(made)

    def kill_one(self) -> None:
        """kill -9, and another one in its place."""
        victim = self._running.pop(random.randrange(len(self._running)))
        assert victim.poll() is None, "it has ended by itself: " + self.told()
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(KILLED_SECONDS)
        self.start()

    def stop(self) -> list[int]:
        """All of them, in order; their exit codes. One that does not end in time has -9, and what they said shows why."""
        for one in self._running:
            one.send_signal(signal.SIGTERM)
        codes = [self._ended(one) for one in self._running]
        self._running.clear()
        self.output.close()
        return codes

    def close(self) -> None:
        """Whatever a test that failed has left."""
        for one in self._running:
            one.kill()
            one.wait(KILLED_SECONDS)
        self._running.clear()
        self.output.close()

    def _ended(self, one: subprocess.Popen[bytes]) -> int:
        try:
            return one.wait(STOPPED_SECONDS)
        except subprocess.TimeoutExpired:
            self.output.write(b"a process did not end within %d s of SIGTERM\n" % STOPPED_SECONDS)
            self.output.flush()
            one.kill()
            return one.wait(KILLED_SECONDS)

    def told(self) -> str:
        """The end of what they said."""
        return (self._directory / "deliver.log").read_text()[-2000:]
