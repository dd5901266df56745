"""Answers as they are sent: JSON, problems by their own media type, and batches with what became of each event.

gateway, streaming → [answers] → the caller
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response, StreamingResponse

from penstock.web.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from penstock.web.posting import Fate

IN_MEMORY_BYTES = 256 * 1024
"""Of the items of an answer; what is longer stands in a file meanwhile."""
PIECE_BYTES = 64 * 1024


def answer(content: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; problems by their own media type."""
    return Response(orjson.dumps(content), status, dict(headers or {}), media_type=_media(content))


def _media(content: Mapping[str, Any]) -> str:
    return MEDIA_TYPE if "title" in content and "detail" in content else "application/json"


class BatchAnswer:
    """Gathers what became of the events of a request, however many they are."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the answer
        self.count = 0
        self._repeated = self._refused = 0
        self._statuses: set[int] = set()
        self._headers: dict[str, str] = {}
        self._stopped: Problem | None = None

    def add(self, fates: Sequence[Fate]) -> None:
        """The next events, in their order."""
        for fate in fates:
            self._file.write((b"," if self.count else b"") + orjson.dumps(_item(self.count, fate)))
            self.count += 1
            self._repeated += fate.is_repeat
            if fate.problem is not None:
                self._refused += 1
                self._statuses.add(fate.problem.status)
                self._headers = self._headers or fate.problem.headers

    def stop(self, problem: Problem) -> None:
        """Of what comes behind nothing was taken, or it is not known."""
        self._stopped, self._headers = problem, problem.headers

    def response(self) -> Response:
        """The answer; it takes what was gathered with it."""
        status, told = self._told()
        head, tail, size = orjson.dumps(told)[:-1] + b',"items":[', b"]}", self._file.tell()
        self._file.seek(0)
        if size <= IN_MEMORY_BYTES:
            with self._file:
                whole = head + self._file.read() + tail
            return Response(whole, status, self._headers, media_type=_media(told))
        headers = {**self._headers, "content-length": str(len(head) + size + len(tail))}
        return StreamingResponse(self._pieces(head, tail), status, headers, media_type=_media(told))

    def close(self) -> None:
        """There will be no such answer."""
        self._file.close()

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
        with self._file:
            yield head
            while piece := self._file.read(PIECE_BYTES):
                yield piece
            yield tail


def _item(index: int, fate: Fate) -> dict[str, Any]:
    if fate.problem is not None:
        return {"index": index, "state": "refused", "problem": fate.problem.content()}
    return {"index": index, "state": "accepted", "id": fate.id, "repeated": fate.is_repeat}
