"""`python -m penstock.cli.role LIMIT COMMAND…`: a command as a child of `penstock up`, which ends when its parent does.

up → [role] → any command
"""

from __future__ import annotations

import os
import signal
import sys
import threading

FAILED = 1


def end_with_parent(limit_seconds: float) -> None:
    """The parent holds the other end of stdin: when it dies, by whatever death, we read its end."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        # Who answers may have died with the parent: what waits for it waits in vain.
        threading.Event().wait(limit_seconds)
        os._exit(FAILED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    """The command line without its first argument."""
    end_with_parent(float(sys.argv.pop(1)))
    from penstock.cli import main as command

    command()


if __name__ == "__main__":
    main()
