"""The demo's directory: what it keeps there, whose it is, and how far the last run came.

cli → [place] → run
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from penstock.errors import SettingsError
from penstock.record import Partition

try:
    import fcntl
except ImportError:  # pragma: no cover - no flock on this system: two demos in one directory are the user's care
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
_STATE, _LOCK, _LOG, _LEDGER = "demo.json", "demo.lock", "events.db", "ledger.jsonl"
_STORE, _TAKEN = "store.db", "gateway.db"
_OURS = (_STATE, _LOCK, _LOG, _LEDGER, _STORE, _TAKEN)


@dataclass(slots=True)
class Stretch:
    """One stream of events, from its first to the ending of its last; a run may begin, continue or finish it."""

    log: str = ""
    """On a cluster: its address, as `--log` takes it. Empty: the embedded log in the directory itself."""
    prefix: str = ""
    """On a cluster: what the names of this demo's topics, groups and tasks begin with."""
    number: int = 1
    """Counts up; stands in the header of every event of the stretch."""
    day: int = 1
    """Which made-up day it is, or the last one there was."""
    source: str = ""
    """`day`, or what names the input."""
    events: int = 0
    """Of a day: how many it has."""
    first: dict[str, int] = field(default_factory=dict)
    """Where its records begin: `topic/partition` → offset."""
    is_finished: bool = True
    is_running: bool = False
    """Still true at the next start where a run was killed."""

    def starts(self) -> dict[Partition, int]:
        """First offsets by partition."""
        places = ((name.rpartition("/"), offset) for name, offset in self.first.items())
        return {Partition(topic, int(number)): offset for (topic, _, number), offset in places}


class Place:
    """A directory that is ours alone while this object is open."""

    def __init__(self, path: Path, kafka: str = "") -> None:
        """Raises `SettingsError` where the directory cannot be used; nothing foreign is touched."""
        self.path = path
        self.kafka = kafka
        _make(path)
        self._lock = _locked(path)
        try:
            self.stretch = _read_state(path / _STATE)
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> str:
        """The log's address, as settings and `--log` take it."""
        return f"kafka:{self.kafka}" if self.kafka else f"sqlite:{self.path / _LOG}"

    def begin_anew(self, prefix: str = "") -> None:
        """Nothing of an earlier stretch is there to go on with; no topic is touched."""
        self.stretch = Stretch(log=self.log if self.kafka else "", prefix=prefix, number=0, day=0)

    @property
    def ledger(self) -> Path:
        """The simulator's accounts of this stretch."""
        return self.path / _LEDGER

    @property
    def store(self) -> Path:
        """The database of verdicts."""
        return self.path / _STORE

    @property
    def gateway_ledger(self) -> Path:
        """What the gateway took within a day."""
        return self.path / _TAKEN

    def words_of(self, role: str) -> Path:
        """What a role says."""
        return self.path / f"{role}.log"

    def save(self) -> None:
        """Write down how far the stretch is, whole or not at all."""
        fresh = self.path / f"{_STATE}.new"
        with _explained(self.path):
            fresh.write_text(json.dumps({"format": FORMAT, **asdict(self.stretch)}, indent=1) + "\n", "utf-8")
            fresh.replace(self.path / _STATE)

    def close(self) -> None:
        """Let the next demo in."""
        self._lock.close()


@contextlib.contextmanager
def _explained(path: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"the demo's directory {path} cannot be written: {error.strerror}; name another with --dir"
        ) from None


def _make(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SettingsError(f"{path} is a file: name a directory with --dir")
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)
        names = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in names if not name.startswith(_OURS)]
    if foreign and _STATE not in names:
        raise SettingsError(
            f"{path} holds something else ({', '.join(foreign[:3])}{' …' if len(foreign) > 3 else ''}): "
            "name a new or empty directory with --dir"
        )


def _locked(path: Path) -> IO[str]:
    with _explained(path):
        lock = (path / _LOCK).open("a+")
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise SettingsError(
                f"another demo (process {owner}) runs in {path}: stop it, or name another directory with --dir"
            ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _read_state(file: Path) -> Stretch:
    try:
        content = json.loads(file.read_text("utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("written by another version of Penstock")
        stretch = Stretch(**content)
        stretch.starts()
    except FileNotFoundError:
        return Stretch(number=0, day=0)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"{file} cannot be read ({error}): remove the directory {file.parent} to start over, or name another with --dir"
        ) from None
    return stretch
