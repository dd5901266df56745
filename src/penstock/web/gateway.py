"""The pages of the gateway: events in, states out.

producers → [gateway] → bodies, streaming → judge → posting
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from penstock.web import openapi
from penstock.web.answers import BatchAnswer, answer
from penstock.web.bodies import LINES, lines_head, media_type, read_body
from penstock.web.keys import NOBODY, ApiKey, Keys, Rates
from penstock.web.lines import Lines
from penstock.web.problems import Problem
from penstock.web.reading import Buffers, read_all
from penstock.web.streaming import Streaming

if TYPE_CHECKING:
    from penstock.task import Task
    from penstock.web.backlog import Backlog
    from penstock.web.events import Ending, Events
    from penstock.web.judge import Judge
    from penstock.web.options import GatewayOptions
    from penstock.web.pages.console import Console
    from penstock.web.posting import Posting

WAIT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s)?")
MAX_IDEMPOTENCY_KEY = 255
WORST: tuple[str, ...] = ("dead_letter", "erased", "answered")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pages need, made by wiring."""

    options: GatewayOptions
    tasks: Sequence[Task[Any, Any]]
    judges: Mapping[str, Judge]
    keys: Keys | None
    """None: whoever asks may."""
    posting: Posting
    events: Events
    backlog: Backlog


class Gateway:
    """Answers requests. One object serves all of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._options = parts.options
        self._rates = Rates()
        self._buffers = Buffers(parts.options)
        self._streaming = Streaming(parts.options, parts.posting, parts.backlog, self._rates)
        self._waiting = 0

    async def post(self, request: Request, topic: str) -> Response:
        """Take events. Whatever can be refused without the body is refused before it is read."""
        client = self._client(request, "events:write")
        judge = self._judge(topic)
        headers = _headers(request)
        key = _idempotency_key(headers)
        media = media_type(headers)
        self._rates.take(client, 0)
        self._parts.backlog.check(topic)
        if media in LINES:
            head = lines_head(headers)
            async with self._buffers.stream(headers) as place:
                return await self._streaming.post(
                    Lines(request.stream(), self._options, place), judge, client, key, head
                )
        async with self._buffers.room(headers):
            content = await read_all(request, self._options)
            body = read_body(content, headers, self._options.max_batch_events)
            if body.deadline_ms:
                self._parts.backlog.check(topic, body.deadline_ms)
            self._rates.take(client, len(body.offers))
            fates = await self._parts.posting.post(judge, body.offers, client.name, key)
        if body.is_batch:
            told = BatchAnswer(topic)
            told.add(fates)
            return told.response()
        (fate,) = fates
        if fate.problem is not None:
            raise fate.problem
        return answer({"id": fate.id, "topic": topic, "state": "accepted", "repeated": fate.is_repeat}, 202)

    async def get(self, request: Request, topic: str, event_id: str, wait: str | None) -> Response:
        """Tell what became of an event; wait for it if asked to."""
        self._client(request, "events:read")
        self._judge(topic)
        seconds = self._wait_seconds(wait)
        if not seconds or self._waiting >= self._options.max_waiting:
            return await self._told(topic, event_id, 0.0)
        self._waiting += 1
        try:
            return await self._told(topic, event_id, seconds)
        finally:
            self._waiting -= 1

    async def _told(self, topic: str, event_id: str, seconds: float) -> Response:
        end = time.monotonic() + seconds
        names = [task.name for task in self._parts.tasks if task.reads == topic]
        while True:
            left = end - time.monotonic()
            # It begins to listen before it looks, so that nothing falls between.
            async with self._parts.events.listening() as news:
                found = await self._parts.events.endings(topic, event_id)
                if found is None:
                    detail = "no event of this id was accepted here within the last day, nor has any come to an end"
                    raise Problem("unknown-event", detail)
                ended = {ending.task: ending for ending in found}
                if left <= 0 or all(name in ended and ended[name].is_final for name in names):
                    return answer(_state(event_id, topic, names, ended), 200)
                if not await news(left):
                    end = 0.0

    def _client(self, request: Request, scope: str) -> ApiKey:
        if self._parts.keys is None:
            return NOBODY
        return self._parts.keys.client(request.headers.get("authorization", ""), scope)

    def _judge(self, topic: str) -> Judge:
        found = self._parts.judges.get(topic)
        if found is None:
            served = ", ".join(sorted(self._parts.judges))
            raise Problem("unknown-topic", f"this gateway serves {served}: POST /v1/topics/TOPIC/events")
        return found

    def _wait_seconds(self, wait: str | None) -> float:
        if wait is None:
            return 0.0
        found = WAIT.fullmatch(wait)
        if found is None:
            raise Problem("malformed", "wait: write a time such as 5s or 500ms")
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
        return min(seconds, self._options.max_wait_seconds)


def application(parts: Parts, console: Console | None = None) -> FastAPI:
    """The ASGI application; the pages for people are one of their own."""
    gateway = Gateway(parts)
    topics = sorted(parts.judges)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False)
    app.openapi = lambda: openapi.document(app, parts)  # type: ignore[method-assign]

    async def post_one(request: Request) -> Response:
        return await gateway.post(request, topics[0] if len(topics) == 1 else "")

    async def post_to(request: Request, topic: str) -> Response:
        return await gateway.post(request, topic)

    async def get_one(request: Request, event_id: str, wait: str | None = None) -> Response:
        return await gateway.get(request, topics[0] if len(topics) == 1 else "", event_id, wait)

    async def get_of(request: Request, topic: str, event_id: str, wait: str | None = None) -> Response:
        return await gateway.get(request, topic, event_id, wait)

    async def live() -> Response:
        return answer({"status": "alive"}, 200)

    async def ready() -> Response:
        fault = parts.backlog.fault
        return answer({"status": "the log does not answer" if fault else "ready"}, 503 if fault else 200)

    app.add_api_route("/v1/events", post_one, methods=["POST"])
    app.add_api_route("/v1/events/{event_id:path}", get_one, methods=["GET"])
    app.add_api_route("/v1/topics/{topic}/events", post_to, methods=["POST"])
    app.add_api_route("/v1/topics/{topic}/events/{event_id:path}", get_of, methods=["GET"])
    app.add_api_route("/livez", live, methods=["GET"])
    app.add_api_route("/readyz", ready, methods=["GET"])
    if console is not None:
        app.add_api_route("/", _to_console, methods=["GET"])
        app.add_api_route("/console", _to_console, methods=["GET"])
        app.mount("/console", console.application())
    app.add_exception_handler(Problem, _refused)
    app.add_exception_handler(HTTPException, _by_framework)
    app.add_exception_handler(RequestValidationError, _by_framework)
    return app


async def _to_console() -> Response:
    return RedirectResponse("/console/", 303)


async def _refused(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return answer(problem.content(), problem.status, problem.headers)


async def _by_framework(request: Request, error: Exception) -> Response:
    """What FastAPI itself refuses: unknown pages, wrong methods."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    if status == 405:
        problem = Problem("method-not-allowed", "see /openapi.json for what this page takes")
        problem.headers.update(getattr(error, "headers", None) or {})
    elif status == 404:
        problem = Problem("not-found", "see /openapi.json for the pages there are")
    else:
        problem = Problem("malformed", "see /openapi.json for what this page takes")
    return await _refused(request, problem)


def _headers(request: Request) -> dict[str, str]:
    """By name; of a repeated header the last counts, as in a record."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}


def _idempotency_key(headers: Mapping[str, str]) -> str:
    """The draft makes it a quoted string; most write it bare: both are the same key."""
    given = headers.get("idempotency-key")
    if given is None:
        return ""
    key = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > MAX_IDEMPOTENCY_KEY:
        raise Problem("malformed", f"Idempotency-Key: 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return key


def _state(event_id: str, topic: str, names: Sequence[str], ended: Mapping[str, Ending]) -> dict[str, Any]:
    tasks = {name: _task_state(ended.get(name)) for name in names}
    states = {task["state"] for task in tasks.values()}
    is_open = states & {"waiting", "provisional"}
    state = "accepted" if is_open else next(state for state in WORST if state in states)
    return {"id": event_id, "topic": topic, "state": state, "tasks": tasks}


def _task_state(ending: Ending | None) -> dict[str, Any]:
    if ending is None:
        return {"state": "waiting"}
    told: dict[str, Any] = {"state": "answered" if ending.kind == "result" else ending.kind, "at": ending.at_ms}
    if ending.kind in {"result", "provisional"}:
        told["result"] = ending.content
    elif ending.kind == "dead_letter":
        told["dead_letter"] = ending.content
    return told
