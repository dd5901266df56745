"""Bytes that are gathered and then sent: a few in memory, more in a file, and none lost where the disk takes no more.

answers → [spool]
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

IN_MEMORY_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024


class Spool:
    """Of one answer."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._file: FileIO | None = None
        self._saved = 0

    @property
    def size(self) -> int:
        """Of all that was added."""
        return self._saved + len(self._held)

    def add(self, content: bytes | bytearray) -> None:
        """Raises OSError where the disk does not take it: then it is kept in memory, and nothing more should be added."""
        self._held += content
        if len(self._held) > IN_MEMORY_BYTES:
            self._save()

    def pieces(self) -> Iterator[bytes]:
        """All of it, in its order; then it is gone."""
        with closing(self):
            if self._file is not None:
                self._file.seek(0)
                left = self._saved
                while left and (piece := self._file.read(min(PIECE_BYTES, left))):
                    left -= len(piece)
                    yield piece
            yield bytes(self._held)

    def close(self) -> None:
        """It is not wanted any more."""
        if self._file is not None:
            self._file.close()

    def _save(self) -> None:
        """No buffer between: it could fail after it said that all is well."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the answer
        self._file.seek(self._saved)
        with memoryview(self._held) as content:
            written = 0
            while written < len(content):
                written += self._file.write(content[written:])
        self._saved += len(self._held)
        self._held.clear()
