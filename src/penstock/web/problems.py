"""What a refusal says, as RFC 9457 writes it: what is wrong and what to do, never a word of the event.

gateway → [problems] → the caller
"""

from __future__ import annotations

import math
from typing import Any

MEDIA_TYPE = "application/problem+json"
TYPES: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "not-json": (400, "The body is no JSON"),
    "unauthorized": (401, "A key is needed"),
    "forbidden": (403, "The key may not do this"),
    "unknown-topic": (404, "No such topic here"),
    "unknown-event": (404, "Nothing is known of this event"),
    "not-found": (404, "No such page"),
    "method-not-allowed": (405, "Not this method"),
    "too-slow": (408, "The request took too long"),
    "id-conflict": (409, "Another event has this id"),
    "key-conflict": (409, "Another event had this Idempotency-Key"),
    "in-progress": (409, "The same event is being written"),
    "too-large": (413, "Too large"),
    "unsupported-media-type": (415, "Not this kind of body"),
    "wrong-host": (421, "Not this host"),
    "invalid-event": (422, "The event is not what the task reads"),
    "nothing-accepted": (422, "No event of the batch was accepted"),
    "rate-limited": (429, "Too many events for this key"),
    "backlog": (429, "Too much waits already"),
    "log-unreachable": (429, "The log does not answer: nothing was written"),
    "internal": (500, "Our fault"),
    "log-unavailable": (503, "The log did not say whether it was written"),
    "busy": (503, "Too much at once"),
}


class Problem(Exception):
    """A request, or one event of it, that is refused."""

    def __init__(
        self, kind: str, detail: str, *, retry_after_seconds: float | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = TYPES[kind]
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(min(retry_after_seconds, 3_600.0))))

    def content(self) -> dict[str, Any]:
        """The document of RFC 9457."""
        return {
            "type": f"urn:penstock:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
