"""Who may look: a key with the scope `console:read` opens a session, which a cookie names that no script can read.

browser → [session] → keys

Sessions live in this process: a restart asks for the key again. A key that is taken back or over ends its sessions at once.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from penstock.web.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from penstock.web.keys import Keys

SCOPE = "console:read"
COOKIE = "penstock_console"
MOST_SESSIONS = 2_000
MOST_ADDRESSES = 10_000
TRIES = 8
TRY_SECONDS = 60.0
"""So many wrong keys an address may send in this time."""
_LOCAL = re.compile(r"/console(/[\x21-\x5b\x5d-\x7e]*)?")


class Session(NamedTuple):
    """One person at one browser."""

    name: str
    key_id: str
    key_sha256: str
    until: float


class TooManyTries(Exception):
    """This address sent too many wrong keys."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong keys: try again in {seconds} s")
        self.seconds = seconds


class Sessions:
    """All of this process."""

    def __init__(self, keys: Keys, hours: float) -> None:
        self._keys, self._seconds = keys, hours * 3600
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._wrong: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def of(self, request: Request) -> Session | None:
        """Whose request it is; None where nobody is logged in."""
        token = request.cookies.get(COOKIE, "")
        session = self._known.get(_hash(token)) if token else None
        if session is None or time.monotonic() >= session.until:
            return None
        return session if self._keys.holds(session.key_id, session.key_sha256, SCOPE) else None

    def open(self, key: str, address: str) -> str:
        """The token of a new session. Raises `Problem` where the key does not open this door, `TooManyTries`.

        Behind a proxy everybody has one address: wrong keys of others must not keep a right one out.
        """
        try:
            found = self._keys.client(f"Bearer {key.strip()}", SCOPE)
        except Problem:
            self._may_try(address)
            self._count(address)
            raise
        token = secrets.token_urlsafe(32)
        self._known[_hash(token)] = Session(found.name, found.id, found.sha256, time.monotonic() + self._seconds)
        while len(self._known) > MOST_SESSIONS:
            self._known.popitem(last=False)
        return token

    def close(self, request: Request) -> None:
        """Its session is over."""
        self._known.pop(_hash(request.cookies.get(COOKIE, "")), None)

    def _may_try(self, address: str) -> None:
        level, at = self._wrong.get(address, (0.0, 0.0))
        left = level - (time.monotonic() - at) * TRIES / TRY_SECONDS
        if left > TRIES - 1:
            seconds = (left - (TRIES - 1)) * TRY_SECONDS / TRIES
            raise TooManyTries(math.ceil(seconds))

    def _count(self, address: str) -> None:
        now = time.monotonic()
        level, at = self._wrong.pop(address, (0.0, now))
        self._wrong[address] = max(0.0, level - (now - at) * TRIES / TRY_SECONDS) + 1, now
        while len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)


def remember(response: Response, token: str, request: Request, hours: float) -> None:
    """Put the session into the browser: for our pages only, out of reach of scripts and of other sites."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=round(hours * 3600),
        path="/console",
        secure=is_encrypted(request),
        httponly=True,
        samesite="strict",
    )


def forget(response: Response) -> None:
    """Take it out again."""
    response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")


def is_encrypted(request: Request) -> bool:
    """Whether the browser speaks TLS, be it to us or to a proxy before us."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def is_own(request: Request) -> bool:
    """Whether a page of ours, or the person, sent this form: never another site."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host", "")


def is_foreign_link(request: Request) -> bool:
    """Whether a link on another site led here: then the browser keeps the cookie back, though there may be one."""
    return request.headers.get("sec-fetch-site") == "cross-site" and COOKIE not in request.cookies


def target(wanted: str) -> str:
    """Where to go after the login: a page of ours, whatever was asked for."""
    return wanted if _LOCAL.fullmatch(wanted) and "//" not in wanted.partition("?")[0] else "/console/"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
