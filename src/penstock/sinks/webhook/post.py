"""One attempt: a signed POST to a judged address, and what the answer means.

signing, address → [post] → outbox

No redirects, no proxy of the environment, no answer longer than a little, no attempt longer than its time.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from penstock.sinks.webhook.address import AddressRefused, Network, Target, judge, resolve
from penstock.sinks.webhook.signing import Signer

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp import AddrInfoType

Verdict = Literal["delivered", "retry", "throttled", "gone", "refused"]
USER_AGENT = "penstock-webhooks/1"
GONE, TOO_MANY = 410, 429
THROTTLING = frozenset({TOO_MANY, 502, 503, 504})
SHOWN_BYTES = 500
"""Of an answer's body, for the delivery log."""


class Reply(NamedTuple):
    """What came of one attempt."""

    verdict: Verdict
    status: int
    """0: there was no answer."""
    detail: str
    """For people: no secret, no path of the URL."""
    seconds: float
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PostOptions:
    """How one attempt is made."""

    timeout_seconds: float = 20.0
    allow_networks: tuple[Network, ...] = ()
    tls: SSLContext | None = None
    """Trusts; the system's authorities unless given."""


class Post:
    """Sends messages to one target."""

    def __init__(self, target: Target, signer: Signer, options: PostOptions) -> None:
        self._target, self._signer, self._options = target, signer, options
        self._url = URL(target.url)
        self._resolver = _Judged(options.allow_networks)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """No connection yet: that is made with the first message."""
        if self._session is None:
            tls = self._options.tls or True
            connector = aiohttp.TCPConnector(
                resolver=self._resolver, socket_factory=self._socket, use_dns_cache=False, limit=0, ssl=tls
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._options.timeout_seconds),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )

    async def send(self, message_id: str, body: str) -> Reply:
        """One attempt; weather and refusals are replies, never exceptions."""
        assert self._session is not None
        started = time.monotonic()

        def took() -> float:
            return time.monotonic() - started

        headers = self._signer.headers(message_id, body, datetime.now(UTC))
        headers |= {"content-type": "application/json", "user-agent": USER_AGENT}
        try:
            async with self._session.post(
                self._url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                shown = await _beginning(response)
                return read_reply(response.status, response.headers.get("retry-after"), shown, took())
        except AddressRefused as refused:
            return Reply("refused", 0, str(refused), took())
        except TimeoutError:
            return Reply("retry", 0, f"no answer within {self._options.timeout_seconds:.0f} s", took())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(cause := error.__cause__ or error, AddressRefused):
                return Reply("refused", 0, str(cause), took())
            return Reply("retry", 0, f"{self._target.shown}: {_named(error)}", took())

    async def close(self) -> None:
        """Give back the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """The last door: of an address in the URL the client asks no resolver, and what it makes of a host is its own affair."""
        family, kind, protocol, _, place = info
        judge(str(place[0]), self._target.host, self._options.allow_networks)
        return socket.socket(family, kind, protocol)


class _Judged(AbstractResolver):
    """Gives the client only addresses that were judged: it connects to them and to no others."""

    def __init__(self, allowed: tuple[Network, ...]) -> None:
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await resolve(host, port, self._allowed, family)
        return [_result(host, address, port) for address in found]

    async def close(self) -> None:
        """Nothing is held."""


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The rest of a long answer is left unread; the connection goes with it."""
    found = b""
    while len(found) < SHOWN_BYTES and (chunk := await response.content.read(SHOWN_BYTES - len(found))):
        found += chunk
    if not response.content.at_eof():
        response.close()
    return "".join(char if char.isprintable() else " " for char in found.decode("utf-8", "replace"))


def read_reply(status: int, retry_after: str | None, body: str, seconds: float) -> Reply:
    """Only 2xx is taken; a redirect is a failure; 410 ends the endpoint; 429, 502, 503 and 504 ask for patience."""
    if 200 <= status < 300:
        return Reply("delivered", status, "", seconds)
    wish = wish_seconds(retry_after, lambda: datetime.now(UTC))
    if status == GONE:
        return Reply("gone", status, "the receiver wants no more (410)", seconds)
    if 300 <= status < 400:
        return Reply(
            "retry", status, f"answered {status}: redirects are not followed, give the final URL", seconds, wish
        )
    verdict: Verdict = "throttled" if status in THROTTLING else "retry"
    return Reply(verdict, status, f"answered {status}" + (f": {body[:200]}" if body else ""), seconds, wish)


def wish_seconds(retry_after: str | None, now: Callable[[], datetime]) -> float | None:
    """`retry-after` as seconds or as a date; None where it is neither, or in the past."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            at = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now()).total_seconds()
    return seconds if 0 < seconds < float("inf") else None


def _named(error: BaseException) -> str:
    """The client's own words hold the URL with its path at times: only the kind and the system's words are told."""
    system: Any = getattr(error, "os_error", error)
    words = getattr(system, "strerror", None) or type(error).__name__
    return f"{type(error).__name__}: {words}" if words != type(error).__name__ else str(words)
