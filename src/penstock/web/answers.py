"""Answers as they are sent: JSON, problems by their own media type, and batches with what became of each event.

gateway, streaming → [answers] → spool, the caller
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response, StreamingResponse

from penstock.web.problems import MEDIA_TYPE, Problem
from penstock.web.reading import CLOSE
from penstock.web.spool import IN_MEMORY_BYTES, Spool

if TYPE_CHECKING:
    from penstock.web.posting import Fate

logger = logging.getLogger("penstock.gateway")


def answer(content: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; problems by their own media type."""
    return Response(orjson.dumps(content), status, dict(headers or {}), media_type=_media(content))


def _media(content: Mapping[str, Any]) -> str:
    return MEDIA_TYPE if "title" in content and "detail" in content else "application/json"


class BatchAnswer:
    """Gathers what became of the events of a request, however many they are."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._items = Spool()
        self.count = 0
        self._repeated = self._refused = 0
        self._statuses: set[int] = set()
        self._headers: dict[str, str] = {}
        self._stopped: Problem | None = None
        self._is_disk_full = False

    def add(self, fates: Sequence[Fate]) -> None:
        """The next events, in their order."""
        items = bytearray()
        for fate in fates:
            items += (b"," if self.count else b"") + orjson.dumps(_item(self.count, fate))
            self.count += 1
            self._repeated += fate.is_repeat
            if fate.problem is not None:
                self._refused += 1
                self._statuses.add(fate.problem.status)
                self._headers = self._headers or fate.problem.headers
        try:
            self._items.add(items)
        except OSError as error:  # it has them all the same, but has no room for others
            logger.error("an answer cannot be kept in a file: %s", error)  # noqa: TRY400 - the text says it all
            self._is_disk_full = True

    def check(self, most_bytes: int) -> None:
        """Raises a `Problem` where there is no room for what becomes of further events: then they must not be taken."""
        rest = "send the rest, from stopped.index on, as another request, with another Idempotency-Key if it has one"
        if self._is_disk_full:
            detail = f"the gateway has no room on its disk for a longer answer: {rest}"
            raise Problem("busy", detail, retry_after_seconds=5, headers=CLOSE)
        if self._items.size >= most_bytes:
            raise Problem(
                "too-large",
                f"an answer has about {most_bytes:,} bytes (gateway.max_answer_bytes): {rest}",
                headers=CLOSE,
            )

    def stop(self, problem: Problem) -> None:
        """Of what comes behind nothing was taken, or it is not known."""
        self._stopped, self._headers = problem, problem.headers

    def response(self) -> Response:
        """The answer; it takes what was gathered with it."""
        status, told = self._told()
        head, tail, size = orjson.dumps(told)[:-1] + b',"items":[', b"]}", self._items.size
        if size <= IN_MEMORY_BYTES:
            whole = b"".join([head, *self._items.pieces(), tail])
            return Response(whole, status, self._headers, media_type=_media(told))
        headers = {**self._headers, "content-length": str(len(head) + size + len(tail))}
        return StreamingResponse(self._pieces(head, tail), status, headers, media_type=_media(told))

    def close(self) -> None:
        """There will be no such answer."""
        self._items.close()

    def _told(self) -> tuple[int, dict[str, Any]]:
        if self._refused == self.count and self._stopped is None:
            problem = Problem("nothing-accepted", "every event of the batch was refused; items say why")
            status = self._statuses.pop() if len(self._statuses) == 1 else problem.status
            return status, {**problem.content(), "status": status}
        told: dict[str, Any] = {
            "topic": self._topic,
            "accepted": self.count - self._refused,
            "repeated": self._repeated,
            "refused": self._refused,
        }
        if self._stopped is not None:
            told["stopped"] = {"index": self.count, "problem": self._stopped.content()}
        return 207 if self._refused or self._stopped is not None else 202, told

    async def _pieces(self, head: bytes, tail: bytes) -> AsyncIterator[bytes]:
        yield head
        for piece in self._items.pieces():
            yield piece
        yield tail


def _item(index: int, fate: Fate) -> dict[str, Any]:
    if fate.problem is not None:
        return {"index": index, "state": "refused", "problem": fate.problem.content()}
    return {"index": index, "state": "accepted", "id": fate.id, "repeated": fate.is_repeat}
