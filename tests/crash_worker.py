"""A worker as its own process, with a simulated API of its own: started, frozen, killed or asked to stop by the crash proof.

test → [crash worker] → penstock run
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import Task
from penstock.simulator.process import SimulatorProcess

TESTS = Path(__file__).resolve().parent
CLIENT_FAULTS = frozenset({-signal.SIGSEGV, -signal.SIGABRT})
"""How librdkafka ends a process: a null pointer (its issue 5315), a failed assertion (its issues 3663 and 4605)."""
UNLIMITED = {
    "PENSTOCK_LIMITS__DEFAULT__REQUESTS_PER_MINUTE": "1000000",
    "PENSTOCK_LIMITS__DEFAULT__INPUT_TOKENS_PER_MINUTE": "1000000000",
    "PENSTOCK_LIMITS__DEFAULT__OUTPUT_TOKENS_PER_MINUTE": "1000000000",
}


@dataclass
class Kill:
    """One kill -9."""

    worker: str
    at_ms: int
    in_flight: int
    """Calls in flight at that moment."""
    at_risk: int
    """Items asked and not committed at that moment."""


@dataclass
class WorkerProcess:
    """A worker that can be started, frozen, killed or asked to stop, and its simulator."""

    name: str
    reference: str
    task: Task[Any, Any]
    simulator: SimulatorProcess
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    recorded_items: int = 0
    log_file: Path = Path(os.devnull)
    script: Path | None = None
    """Instead of `penstock run`: a program of the tests that takes the same task."""

    @property
    def group(self) -> str:
        """The consumer group that it is a member of."""
        return self.task.group

    def start(self) -> None:
        """As a user would: `penstock run`. Tasks of the tests are found too."""
        command = [sys.executable, "-m", "penstock.cli", "run", self.reference, "--yes", "--quiet"]
        if self.script is not None:
            command = [sys.executable, str(self.script), self.reference]
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        with self.log_file.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONFAULTHANDLER": "1", "PYTHONPATH": path} | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def last_words(self) -> str:
        """The last line that it wrote."""
        return (self.log_file.read_text(errors="replace").splitlines() or [""])[-1]

    def signal(self, number: int) -> None:
        """Send a signal to this process, which we started."""
        assert self.process is not None
        self.process.send_signal(number)

    def at_risk(self) -> int:
        """Items that were asked and stand on no record yet."""
        return int(self.simulator.accounts()["items"]) - self.recorded_items

    async def stopped(self, seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)
