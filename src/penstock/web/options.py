"""What a user may set about the gateway: `[gateway]`. Nothing of a web framework is loaded by it.

settings → [options] → every file of this folder
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from penstock.errors import SettingsError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MOST_EVENT_BYTES = 1_000_000
"""Key and headers must fit beside it into what Kafka takes by default."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """How `penstock serve` takes events over HTTP and says what became of them."""

    host: str = "127.0.0.1"
    """`0.0.0.0` behind a proxy or in a container. Without TLS here, let only the proxy reach it."""
    port: int = 8080
    """0: a free one; it is told."""
    auth: Literal["keys", "none"] = "keys"
    """`none`: whoever reaches the port may read and write; only where `host` is a loopback address."""
    keys_file: Path = Path("penstock-keys.toml")
    """The API keys, hashed; `penstock gateway key` writes it. Read again when it changes."""
    ledger_file: Path = Path("penstock-gateway.db")
    """What was taken within a day and how it ended. All gateways of one machine share it."""
    tls_certificate: Path | None = None
    """A PEM file with the whole chain; with `tls_private_key` the gateway speaks HTTPS by itself."""
    tls_private_key: Path | None = None
    """The key of `tls_certificate`, a PEM file."""
    key: str = "subject"
    """What a record's key is, hence what keeps its order: `subject`, `event_id`, `none`, or a field of the input."""
    max_body_bytes: int = 5 * 1024 * 1024
    """A larger request is refused before it is read, but for NDJSON, of which so much is kept at a time."""
    max_event_bytes: int = 256 * 1024
    """Of one event."""
    max_batch_events: int = 1_000
    """Events of one request, but for NDJSON; of that so many are appended at a time."""
    max_stream_bytes: int = 1024 * 1024 * 1024
    """NDJSON of one request."""
    max_stream_seconds: float = 600.0
    """How long one request of NDJSON may go on."""
    max_answer_bytes: int = 64 * 1024 * 1024
    """About so long is the answer to NDJSON at most; a stream of more events is stopped, and says where."""
    max_requests: int = 256
    """Requests in progress; more are told to come back (503). NDJSON has at most half of them."""
    max_connections: int = 2_048
    """Open connections; more are closed at once."""
    max_buffered_bytes: int = 64 * 1024 * 1024
    """Bodies of all requests in progress together; NDJSON has at most half of it."""
    header_seconds: float = 10.0
    """A request's headers must be there within this time."""
    body_seconds: float = 30.0
    """And its body within this; of NDJSON at least a line."""
    keep_alive_seconds: float = 15.0
    """An idle connection is closed after this time."""
    log_patience_seconds: float = 5.0
    """While an append waits longer for the log, new events are refused (429)."""
    max_backlog_seconds: float | None = None
    """Events are refused (429) while a task would get to them later than this; unless set, the log is the buffer."""
    look_seconds: float = 5.0
    """How often the log is asked how far the tasks are."""
    tail_seconds: float = 0.2
    """How often the log is asked for new results and dead letters; while somebody waits with `?wait=`, every 40 ms."""
    max_wait_seconds: float = 30.0
    """The longest `?wait=`."""
    max_waiting: int = 512
    """Requests that wait with `?wait=`; more are answered at once."""
    remember_hours: float = 24.0
    """How long repeats are harmless and states are known."""
    max_endings: int = 1_000_000
    """Results and dead letters that are kept for `GET`; the oldest go first."""
    drain_seconds: float = 10.0
    """A stopping gateway finishes the requests in progress within this time."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and field.name != "port" and not value > 0:
                raise SettingsError(f"gateway.{field.name}={value!r}: write a number greater than 0")
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"gateway.port={self.port}: write a port from 0 to 65535")
        if self.max_event_bytes > MOST_EVENT_BYTES:
            raise SettingsError(f"gateway.max_event_bytes={self.max_event_bytes}: at most {MOST_EVENT_BYTES:,}")
        if self.auth == "none" and self.host not in LOOPBACK:
            raise SettingsError(
                f"gateway.auth='none' with gateway.host={self.host!r}: everybody who reaches this machine could write "
                "events; keep host on 127.0.0.1, or make keys with `penstock gateway key`"
            )
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise SettingsError("gateway.tls_certificate and gateway.tls_private_key belong together: set both")
