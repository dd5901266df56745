"""Waits for other processes that have an end: who reads a pipe of a process that is killed hears its end.

scenarios → [bounded] → processes
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from subprocess import Popen
from typing import Any

LINE_SECONDS = 60.0


@contextlib.contextmanager
def killed_after(seconds: float, process: Popen[Any]) -> Iterator[None]:
    """Inside, a wait for this process has an end: it is killed when the time is over."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def line_of(process: Popen[Any], seconds: float = LINE_SECONDS) -> Any:
    """The next line of its stdout. A process that says nothing in time is killed, and the error names it."""
    assert process.stdout is not None
    with killed_after(seconds, process):
        found = process.stdout.readline()
    assert found, f"no line within {seconds:.0f} s (exit code {process.poll()}): {process.args}"
    return found
