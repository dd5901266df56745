"""A request as it arrived and a reply as it is to be written.

http → [exchange] → api
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.simulator.failures import ApiError


@dataclass(slots=True)
class Request:
    """Read off the wire, body decoded."""

    method: str
    path: str
    query: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Names in lower case; of repeated headers the last."""
    body: bytes = b""
    keep_alive: bool = True
    failure: ApiError | None = None
    """Why the body could not be taken: too large, or an encoding that cannot be read."""


@dataclass(slots=True)
class Exchange:
    """What is to be written, when, and how it goes wrong."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    request_id: str = ""
    headers: bytes = b""
    delay_seconds: float = 0.0
    manner: str = ""
    """`reset_after`, `stall`, `drip`, or empty for plainly."""
    close: bool = False
    begins: Callable[[], None] | None = None
    """Called when the first byte of the reply is due."""
    ends: Callable[[bool], None] | None = None
    """Called once, with whether the reply was handed to a living connection."""
