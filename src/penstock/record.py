"""The log's own words: what is read from a topic and what is written to one.

producers → [record] → intake → … → checkpoint → [record] → sinks
"""

from __future__ import annotations

from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in their order; a name may repeat and a value may be null, as in Kafka."""
HEADER_LENGTHS_BYTES = 10
"""What a log writes beside each header at most: how long its name and its value are."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """A record as it was read. `offset` is its own; every *progress* offset in Penstock is the next one to read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    """Unix time in milliseconds, set by the producer (or the log when the producer gave none)."""

    @property
    def size(self) -> int:
        """Bytes of key, value and headers together."""
        return record_size(self.key, self.value, self.headers)


class NewRecord(NamedTuple):
    """A record to be written. Without `partition` the key decides (murmur2, as Kafka's own clients do)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None
    partition: int | None = None

    @property
    def size(self) -> int:
        """Bytes of key, value and headers together."""
        return record_size(self.key, self.value, self.headers)


class Position(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


def record_size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Bytes of key, value and headers together, as limits count them: never less than what a log writes of them."""
    size = (len(key) if key else 0) + (len(value) if value else 0)
    if not headers:
        return size
    size += HEADER_LENGTHS_BYTES * len(headers)
    for name, content in headers:
        size += len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
        if content:
            size += len(content)
    return size


def header(headers: Headers, name: str) -> bytes | None:
    """The last header of that name, as Kafka's clients read it; None where there is none or it is null."""
    for key, value in reversed(headers):
        if key == name:
            return value
    return None


def header_text(headers: Headers, name: str) -> str | None:
    """Like `header`, as text; bytes that are no UTF-8 are shown with escapes, never an error."""
    value = header(headers, name)
    return None if value is None else value.decode("utf-8", "backslashreplace")
