"""The contract of looking up what became of an event, and the words of its answer.

tail → [events] → gateway

The gateway's own ledger keeps it for a day; a database that keeps it for longer may stand in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["result", "provisional", "dead_letter", "erased"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How one task ended one event."""

    task: str
    kind: Kind
    at_ms: int
    """When it was committed."""
    content: Mapping[str, Any]
    """What a producer is told of it; empty where it was erased."""

    @property
    def is_final(self) -> bool:
        """Nothing will follow it, but for a redrive or an erasure."""
        return self.kind != "provisional"


class Events(Protocol):
    """What is known of events by their ids."""

    async def endings(self, topic: str, event_id: str) -> Sequence[Ending] | None:
        """The newest ending of each task; empty where none has come to an end; None where the event is not known."""
        ...

    def listening(self) -> AbstractAsyncContextManager[Callable[[float], Awaitable[bool]]]:
        """Hear of what is new from here on: calling what it gives returns when something may be, at the latest after so
        many seconds, and whether to go on waiting. Whoever looks inside misses nothing."""
        ...
