"""Posts many messages side by side, those of one lane in their order, until all were tried or the weather is bad.

sink → [courier] → post
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from penstock.sinks.webhook.message import ping
from penstock.store.outbox import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.sinks.webhook.message import Message
    from penstock.sinks.webhook.post import Post, Reply

TOO_MANY = 429


class Parcel(NamedTuple):
    """A message with its body."""

    message: Message
    body: str
    attempts: int = 0
    """Made before."""


@dataclass(slots=True)
class Round:
    """What came of trying some messages once."""

    taken: list[Parcel] = field(default_factory=list)
    failed: list[tuple[Parcel, Reply]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    """For the delivery log."""
    is_bad_weather: bool = False
    gone: str = ""
    """Why the endpoint is to be disabled."""

    def note(self, parcel: Parcel, reply: Reply) -> None:
        """One attempt more."""
        record, message = parcel.message.delivery.record, parcel.message
        place = (record.topic, record.partition, record.offset)
        told = (reply.verdict, reply.status, reply.seconds, reply.detail)
        self.attempts.append(Attempt(message.id, message.type, parcel.attempts + 1, *told, place))
        if reply.verdict == "delivered":
            self.taken.append(parcel)
            return
        self.failed.append((parcel, reply))
        self.is_bad_weather |= is_weather(reply)
        if reply.verdict == "gone":
            self.gone = reply.detail


def is_weather(reply: Reply) -> bool:
    """Whether it says something about the endpoint rather than about the message."""
    return reply.verdict in {"throttled", "refused", "gone"} or not reply.status


def may_be_the_message(reply: Reply) -> bool:
    """Whether weather may be one message's own: it makes the receiver hang or break, and others pass."""
    return reply.verdict not in {"refused", "gone"} and reply.status != TOO_MANY


class Courier:
    """Of one endpoint."""

    def __init__(self, post: Post, max_concurrent: int) -> None:
        self._post, self._max_concurrent = post, max_concurrent
        self.verdicts: Counter[str] = Counter()
        """Attempts by what came of them."""

    async def round(self, parcels: Iterable[Parcel]) -> Round:
        """Try each once. Behind one that fails its lane waits; in bad weather everything does."""
        lanes: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            lanes.setdefault(parcel.message.lane, []).append(parcel)
        found, queue = Round(), deque(lanes.values())
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._max_concurrent, len(lanes))):
                group.create_task(self._work(queue, found))
        return found

    async def _work(self, queue: deque[list[Parcel]], found: Round) -> None:
        while queue and not found.is_bad_weather:
            for parcel in queue.popleft():
                reply = await self._post.send(parcel.message.id, parcel.body)
                self.verdicts[reply.verdict] += 1
                found.note(parcel, reply)
                if reply.verdict != "delivered" or found.is_bad_weather:
                    break

    async def is_there(self) -> bool:
        """Whether the endpoint takes a message that says nothing: then it is not the weather."""
        reply = await self.ping()
        return reply.verdict == "delivered"

    async def ping(self) -> Reply:
        """Post one."""
        reply = await self._post.send(*ping(datetime.now(UTC)))
        self.verdicts[reply.verdict] += 1
        return reply
