"""What a user may set about the embedded log; every field's unit is in its name.

settings → [options] → every file of this folder
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """Options of the embedded log.

    A killed process loses nothing that was acknowledged, whatever `synchronous` says: the operating system holds it.
    When the power fails, `full` keeps every acknowledged commit (one fsync each); `normal` may lose the last ones
    together with their results, never a part of one: the file stays consistent and the events are answered again.
    """

    synchronous: Literal["full", "normal"] = "full"
    lock_wait_seconds: float = 5.0
    """How long a write waits for other writers before it reports `LogUnavailable`."""
    session_timeout_seconds: float = 5.0
    """A member whose heartbeat counter stands still for so long, as its neighbours see it, is dead."""
    heartbeat_seconds: float = 0.5
    revoke_seconds: float = 10.0
    """What `Listener.revoked` gets to finish; after that the partitions are lost."""
    max_metadata_bytes: int = 4096
    """As on Kafka, so that a task moves there unchanged."""
    max_record_bytes: int = 16 * 1024 * 1024
    max_poll_bytes: int = 8 * 1024 * 1024
    """One poll returns about this much at most, but always at least one record of a partition."""
    max_file_bytes: int | None = None
    """A ceiling for the file; what would pass it is refused with `LogUnavailable`. None: the disk's own."""
    max_wal_bytes: int = 64 * 1024 * 1024
    """The write-ahead log is emptied beyond this even if readers must wait a moment."""
    notice_seconds: float = 0.015
    """A waiting reader sees a neighbour's new records after at most about so long."""
    upkeep_seconds: float = 30.0
    """Between two looks at retention and compaction."""
    unread_lost: Literal["stop", "continue"] = "stop"
    """When retention deleted records that the group had not read: stop with an error, or go on behind the gap. It is recorded either way."""
