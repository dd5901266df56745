"""The user's own events: lines of a file or of stdin, plain or packed.

file → [lines] → producer
"""

from __future__ import annotations

import gzip
import io
import os
import select
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.errors import SettingsError

_LOOK_SECONDS = 0.2


class Lines:
    """Opened and known to hold at least one line, or refused. Bad lines are events too: the tasks bury them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.damage = ""
        """Where the packed file ends too early, and why."""
        self._stopped = threading.Event()
        self._source = _opened(file, self._stopped)
        buffered = io.BufferedReader(self._source)
        is_packed = buffered.peek(2)[:2] == b"\x1f\x8b"
        self._lines = self._numbered(gzip.GzipFile(fileobj=buffered) if is_packed else buffered)
        self._first = next(self._lines, None)
        if self._first is None:
            self.close()
            raise SettingsError(self.damage or f"{self.name} holds no events: one JSON object a line is wanted")

    @property
    def name(self) -> str:
        """As people call it."""
        return "stdin" if self.file == "-" else self.file

    @property
    def identity(self) -> str:
        """Whether a later run reads the same input; stdin is always a new one."""
        if self.file == "-":
            return "-"
        status = Path(self.file).stat()
        return f"{Path(self.file).absolute()} {status.st_size} {status.st_mtime_ns}"

    def numbered(self) -> Iterator[tuple[int, bytes]]:
        """Every line that is not blank, with its number from 0."""
        if self._first is not None:
            yield self._first
        yield from self._lines

    def count(self) -> int:
        """How many there are; the input is used up by it."""
        return sum(1 for _ in self.numbered())

    def stop(self) -> None:
        """Reading ends soon, also where nothing comes."""
        self._stopped.set()

    def close(self) -> None:
        """Give back the file."""
        self.stop()
        self._source.close()

    def _numbered(self, lines: Any) -> Iterator[tuple[int, bytes]]:
        number = 0
        try:
            for number, line in enumerate(lines):
                value = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf" if number == 0 else b"")
                if value.strip():
                    yield number, value
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            if not self._stopped.is_set():
                self.damage = f"{self.name} is a damaged gzip file from line {number + 1} on: {error}"


class _Stoppable(io.RawIOBase):
    """A file or pipe whose reader can be told to stop while it waits."""

    def __init__(self, descriptor: int, stopped: threading.Event) -> None:
        self._descriptor = descriptor
        self._stopped = stopped

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._stopped.is_set():
            if select.select([self._descriptor], [], [], _LOOK_SECONDS)[0]:
                return os.readv(self._descriptor, [buffer])
        return 0

    def close(self) -> None:
        if not self.closed and self._descriptor != 0:
            os.close(self._descriptor)
        super().close()


def _opened(file: str, stopped: threading.Event) -> io.RawIOBase:
    if file == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise SettingsError("--input - reads stdin, and nothing is piped into it")
    try:
        if Path(file).is_dir():
            raise SettingsError(f"--input {file} is a directory: name a file of JSON lines")
        return _Stoppable(0 if file == "-" else os.open(file, os.O_RDONLY), stopped)
    except OSError as error:
        raise SettingsError(f"--input {file} cannot be read: {error.strerror}") from None
