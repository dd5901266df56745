"""The console's own application: who may see which page, and what a page says where it cannot be shown.

guard → [console] → overview, lists, one
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.errors import LogError, PenstockError
from penstock.web.pages import faults, session
from penstock.web.pages.database import Database
from penstock.web.pages.fields import choices
from penstock.web.pages.filters import Filters
from penstock.web.pages.lists import Lists
from penstock.web.pages.looking import Looking
from penstock.web.pages.one import One
from penstock.web.pages.overview import Overview
from penstock.web.pages.render import HEADERS, STATIC, page
from penstock.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.log.base import EventLog
    from penstock.store.options import DatabaseOptions
    from penstock.task import Task
    from penstock.web.events import Events
    from penstock.web.keys import Keys
    from penstock.web.pages.options import ConsoleOptions

logger = logging.getLogger("penstock.console")
ROOT = "/console"
MOST_FORM_BYTES = 4_096
MOST_FORM_FIELDS = 8
MOST_ID_CHARS = 4_096
FORM_SECONDS = 10.0
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleParts:
    """What the settings say of it."""

    options: ConsoleOptions
    database: DatabaseOptions
    log_place: str
    sink_prefix: str = "sink."
    endpoints: Sequence[str] = ()


class Console:
    """Answers people. One object serves all requests."""

    def __init__(
        self,
        parts: ConsoleParts,
        tasks: Sequence[Task[Any, Any]],
        log: EventLog,
        *,
        keys: Keys | None,
        ledger: Events | None,
    ) -> None:
        known = {task.name: choices(task) for task in tasks}
        topics = frozenset(name for task in tasks for name in (*task.topics, task.writes, task.dead_letters))
        self._options = parts.options
        self._sessions = None if keys is None else session.Sessions(keys, parts.options.session_hours)
        self._database = Database(parts.database, parts.options.query_seconds)
        groups = frozenset(task.group for task in tasks)
        self._looking = Looking(log, parts.options, parts.log_place, groups, parts.sink_prefix, topics)
        self._overview = Overview(
            self._database, self._looking, known, endpoints=parts.endpoints, sink_prefix=parts.sink_prefix
        )
        self._lists = Lists(self._database, known, parts.options.rows)
        reads = {task.name: task.reads for task in tasks}
        self._one = One(self._database, self._looking, known, reads, ledger)

    def application(self) -> Starlette:
        """To be mounted at `/console`."""
        routes = [
            Route("/", self._page(self._show_overview)),
            Route("/events", self._page(self._show_events)),
            Route("/events/new", self._page(self._show_new)),
            Route("/event", self._page(self._show_event)),
            Route("/dead-letters", self._page(self._show_letters)),
            Route("/letter", self._page(self._show_letter)),
            Route("/login", self._show_login),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/static/{name}", _static),
        ]
        handlers: dict[Any, Any] = {HTTPException: self._refused}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    async def close(self, seconds: float) -> None:
        """Ask nothing more of the log and the database; what does not end in this time is left to itself."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(self._overview.close(), self._looking.close())
                await self._database.close()
        except TimeoutError:
            logger.warning("the console's last questions did not end within %g s", seconds)

    # --- pages ------------------------------------------------------------------------------------------------------

    async def _show_overview(self, request: Request) -> Response:
        return self._made(request, "overview.html", "overview", **await self._overview.given())

    async def _show_events(self, request: Request) -> Response:
        given = await self._lists.given(Filters.read(dict(request.query_params)))
        return self._made(request, "events.html", "events", **given)

    async def _show_new(self, request: Request) -> Response:
        try:
            given = await self._lists.fresh(
                Filters.read(dict(request.query_params)),
                request.query_params.get("after", ""),
                request.query_params.get("down_to", ""),
            )
        except ValueError:
            raise HTTPException(400) from None
        return page("new.html", **given)

    async def _show_event(self, request: Request) -> Response:
        event_id = request.query_params.get("event_id", "").replace("\0", "\ufffd")
        task = request.query_params.get("task", "").replace("\0", "\ufffd")
        if not event_id or len(event_id) > MOST_ID_CHARS:
            raise HTTPException(404)
        given = await self._one.event(event_id, task)
        is_known = (
            given["verdicts"] or given["known"].letters or given["is_erased"] or given["waits"] or given["endings"]
        )
        status = 200 if is_known else 503 if given["ledger_away"] else 404
        return self._made(request, "event.html", "events", status=status, **given)

    async def _show_letters(self, request: Request) -> Response:
        return self._made(request, "letters.html", "letters", **await self._lists.letters())

    async def _show_letter(self, request: Request) -> Response:
        given = await self._one.letter(request.query_params.get("id", "").replace("\0", ""))
        if given is None:
            trouble = faults.Trouble(
                "No such dead letter", "It is not in the database: erased, too old, or never there.", (), 404
            )
            return self._made(request, "trouble.html", "letters", status=404, trouble=trouble)
        return self._made(request, "letter.html", "letters", **given)

    # --- who may ----------------------------------------------------------------------------------------------------

    def _page(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            if self._sessions is not None and self._sessions.of(request) is None:
                return self._to_login(request)
            try:
                return await handler(request)
            except PenstockError as error:
                if isinstance(error, LogError):
                    trouble = faults.of_log(error)
                else:
                    trouble = faults.of_database(error, self._database.shown)
                return self._made(request, "trouble.html", "", status=trouble.status, trouble=trouble)

        return answer

    def _made(self, request: Request, name: str, place: str, *, status: int = 200, **given: Any) -> Response:
        who = self._sessions.of(request) if self._sessions is not None else None
        path = request.url.path
        asks_again = place == "overview" or (status == 503 and request.method == "GET")
        return page(
            name, status, place=place, who=who, live_seconds=self._options.live_seconds, asks_again=asks_again,
            here=f"{path}?{request.url.query}" if request.url.query else path, **given,
        )  # fmt: skip

    def _to_login(self, request: Request) -> Response:
        if request.url.path.endswith("/events/new"):
            return page(
                "trouble.html", 401, place="", trouble=faults.Trouble("Log in again", "The session is over.", (), 401)
            )
        here = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        if session.is_foreign_link(
            request
        ):  # the same address again, from a page of ours: now the cookie comes with it
            return page("again.html", 200, here=session.target(here))
        return RedirectResponse(f"{ROOT}/login?next={quote(here, safe='')}", 303, headers=HEADERS)

    async def _show_login(self, request: Request) -> Response:
        wanted = session.target(request.query_params.get("next", ""))
        if self._sessions is None or self._sessions.of(request) is not None:
            return RedirectResponse(wanted, 303, headers=HEADERS)
        return page("login.html", wanted=wanted, wrong="", place="")

    async def _log_in(self, request: Request) -> Response:
        if self._sessions is None:
            return RedirectResponse(f"{ROOT}/", 303, headers=HEADERS)
        if not session.is_own(request):
            raise HTTPException(403)
        form = await _form(request)
        wanted = session.target(form.get("next", ""))
        try:
            token = self._sessions.open(form.get("key", ""), request.client.host if request.client else "")
        except session.TooManyTries as many:
            made = page("login.html", 429, wanted=wanted, wrong=str(many), place="")
            made.headers["retry-after"] = str(many.seconds)
            return made
        except Problem as problem:
            logger.info("a login was refused: %s", problem.kind)
            wrong = (
                "This key may not look at the console."
                if problem.kind == "forbidden"
                else "This key is unknown or over."
            )
            return page("login.html", problem.status, wanted=wanted, wrong=wrong, place="")
        self._sessions.close(request)
        made_response = RedirectResponse(wanted, 303, headers=HEADERS)
        session.remember(made_response, token, request, self._options.session_hours)
        return made_response

    async def _log_out(self, request: Request) -> Response:
        if not session.is_own(request):
            raise HTTPException(403)
        if self._sessions is not None:
            self._sessions.close(request)
        made = RedirectResponse(f"{ROOT}/login", 303, headers=HEADERS)
        session.forget(made)
        return made

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = {
            400: ("This address means nothing", "Its parts are no place in a list."),
            403: (
                "Not from here",
                "Another site sent this form, or the browser does not say who did. Open the page itself.",
            ),
            404: ("No such page", "The address leads nowhere."),
            405: ("Not this way", "This page is not for such a request."),
            408: ("Too slow", "The form did not come."),
            413: ("Too long", "The form is longer than a key."),
        }
        title, text = told.get(error.status_code, ("This did not work", "Try it again."))
        if error.status_code == 400 and error.detail != HTTPStatus.BAD_REQUEST.phrase:
            title, text = "This form cannot be read", error.detail
        trouble = faults.Trouble(title, text, (), error.status_code)
        return self._made(request, "trouble.html", "", status=error.status_code, trouble=trouble)


async def _static(request: Request) -> Response:
    """Files of ours by name: what is not in the folder is not there."""
    name = request.path_params["name"]
    file = STATIC / name
    if name not in {one.name for one in STATIC.iterdir() if one.is_file()}:
        raise HTTPException(404)
    kind = {"js": "text/javascript"}.get(name.rpartition(".")[2]) or mimetypes.guess_type(name)[0]
    headers = {"cache-control": "public, max-age=31536000, immutable"} if request.url.query else {}
    return Response(await asyncio.to_thread(file.read_bytes), media_type=kind, headers=headers)


async def _form(request: Request) -> dict[str, str]:
    """A short form, in time."""
    content = b""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > MOST_FORM_BYTES:
                    raise HTTPException(413)
    except TimeoutError:
        raise HTTPException(408) from None
    except ClientDisconnect:
        raise HTTPException(400, "The form ended before it was whole.") from None
    try:
        return dict(parse_qsl(content.decode("utf-8", "replace"), max_num_fields=MOST_FORM_FIELDS))
    except ValueError:
        raise HTTPException(400, f"The form has more than {MOST_FORM_FIELDS} fields: a login has two.") from None
