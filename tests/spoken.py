"""What a process says, line by line, for a time: one that falls silent is killed, or its reader would wait for ever.

test → [spoken] → process
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Generator


def spoken(process: subprocess.Popen[str], seconds: float) -> Generator[str, None, None]:
    """Its lines until it ends, or is ended after so long."""
    assert process.stdout is not None
    silence = threading.Timer(seconds, process.kill)
    silence.daemon = True
    silence.start()
    try:
        yield from iter(process.stdout.readline, "")
    finally:
        silence.cancel()
