"""Where the workers of this machine answer: each leaves a note while it runs, so that `penstock status` finds it by itself.

server → [register] → status
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("penstock.ops")


class Note(NamedTuple):
    """One worker's."""

    url: str
    log: str
    pid: int


def place() -> Path:
    """A directory of this user's own; nobody else's notes are believed."""
    return Path(tempfile.gettempdir()) / f"penstock-{os.getuid() if hasattr(os, 'getuid') else 'workers'}"


class Register:
    """This process's note. Where none can be left the worker works all the same, and is found by its address only."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._path: Path | None = None

    def enter(self, url: str) -> None:
        """From now on we answer there."""
        folder = place()
        path = folder / f"{os.getpid()}-{url.rpartition(':')[2]}.json"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(folder):
                logger.info("%s is not ours alone: `penstock status` finds this worker by --worker %s", folder, url)
                return
            path.write_text(json.dumps(Note(url, self._log, os.getpid())._asdict()))
        except OSError as error:
            logger.info("no note in %s (%s): `penstock status` finds this worker by --worker %s", folder, error, url)
            return
        self._path = path

    def leave(self) -> None:
        """We answer no more."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._path = None


def noted() -> list[Note]:
    """The workers of this user on this machine; what a dead one left is taken away."""
    folder = place()
    found: list[Note] = []
    if not folder.is_dir() or not _is_ours(folder):
        return found
    for path in sorted(folder.glob("*.json")):
        try:
            note = Note(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if _lives(note.pid):
            found.append(note)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return found


def _is_ours(folder: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
