"""Who runs side by side: Penstock's worker with and without order, and what people write instead.

contenders → runs → kafka
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO

import psutil

STOP_SECONDS = 60.0
WIDE = {
    "PENSTOCK_LIMITS__DEFAULT__REQUESTS_PER_MINUTE": "10000000",
    "PENSTOCK_LIMITS__DEFAULT__INPUT_TOKENS_PER_MINUTE": "100000000000",
    "PENSTOCK_LIMITS__DEFAULT__OUTPUT_TOKENS_PER_MINUTE": "100000000000",
}
"""Limits that never bind."""
COMMON = {"PENSTOCK_CONCURRENCY__MAX_CALLS": "256", "PENSTOCK_CLAUDE__API_KEY": "offline"}


@dataclass(frozen=True)
class Contender:
    """A program that reads a topic, asks and writes results."""

    name: str
    order: str = ""
    """Of Penstock's task; empty: a rival."""
    module: str = ""
    is_limited: bool = False
    """The account's limits bind: Penstock learns them from replies; else its own are set so wide that nothing does."""
    tasks: str = "benchmarks.tasks"
    """Where Penstock's task `by_<order>` stands."""
    environment: tuple[tuple[str, str], ...] = ()
    """What this one is told beside."""

    def results(self, run: str) -> str:
        """The topic that it writes."""
        return f"bench-{self.order or 'rival'}{run}-results"

    def start(self, bootstrap: str, api_url: str, run: str, slot: str, policy: str, profile: str) -> Worker:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment = outside | {"BENCH_RUN": run, "BENCH_POLICY": policy} | dict(self.environment)
        if self.order:
            environment |= (
                COMMON
                | ({} if self.is_limited else WIDE)
                | {"PENSTOCK_LOG": f"kafka:{bootstrap}", "PENSTOCK_SLOT": slot}
            )
            environment["PENSTOCK_CLAUDE__BASE_URL"] = api_url
            reference = f"{self.tasks}:by_{self.order}"
            command = ["benchmarks.profiled", profile] if profile else ["penstock.cli"]
            command += ["run", reference, "--yes", "--quiet"]
        else:
            command = [f"benchmarks.rivals.{self.module}", bootstrap, api_url, f"bench-events{run}"]
            command += [self.results(run), f"bench-rival{run}"]
        said = tempfile.TemporaryFile()  # noqa: SIM115 - the worker's, and closed with it
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        return Worker(process, said)


class Worker:
    """A contender's process."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process, self._said = process, said
        self._watched = psutil.Process(process.pid)
        self._last = 0.0

    def last_words(self) -> str:
        """The end of what it wrote, for when it ended by itself."""
        self._said.seek(0)
        return self._said.read()[-3_000:].decode(errors="replace")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def cpu_seconds(self) -> float:
        """Of all its threads; of one that is gone, what it had taken when last looked at."""
        if self.is_alive:
            times = self._watched.cpu_times()
            self._last = times.user + times.system
        return self._last

    def mb(self) -> float:
        return self._watched.memory_info().rss / 1e6 if self.is_alive else 0.0

    def freeze(self) -> None:
        """SIGSTOP: what it has asked and not written can be counted."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As an orchestrator does; what does not end is killed."""
        if self.is_alive:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()


NONE = Contender("penstock, order none", order="none")
KEY = Contender("penstock, order key", order="key")
NAIVE = Contender("naive loop", module="naive")
SEMAPHORE = Contender("aiokafka + semaphore", module="semaphore")
CARELESS = Contender("careless, 50 a call", module="careless")
