"""The SDK's HTTP client by a shorter way: what a call to one API needs, and none of what a browser's client does.

client → SDK → [transport] → Claude API

The SDK's own client goes from aiohttp's requests and responses to httpx2's and back, merges headers, cookies and addresses
anew for every request, and looks for redirects and logins in every response: a third of the CPU of a call. What is not a
plain POST of bytes takes that way still.

Importing it imports the SDK, which takes seconds.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import anthropic
import httpx2

_PLAIN = frozenset({"content", "headers", "timeout"})


class _Post(httpx2.Request):
    """One whose body is at hand: the headers are complete, nothing is worked out of it."""

    def __init__(self, url: httpx2.URL, headers: httpx2.Headers, body: bytes, timeout: httpx2.Timeout) -> None:
        extensions = {"timeout": timeout.as_dict()}
        super().__init__("POST", url, headers=headers, stream=httpx2.ByteStream(body), extensions=extensions)
        self._body = body

    @property
    def content(self) -> bytes:
        """What is sent."""
        return self._body


class _Answer(httpx2.Response):
    """One that is read: nothing is left to be decoded."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, request: httpx2.Request) -> None:
        super().__init__(status, headers=headers, stream=httpx2.ByteStream(body), request=request)
        self._body = body

    @property
    def content(self) -> bytes:
        """What came."""
        return self._body


class ShortWay(anthropic.DefaultAioHttpClient):  # at runtime a class, where its types say so too
    """To be given to the SDK as `http_client`. One per process."""

    def __init__(self, *, max_connections: int, trust_env: bool) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=max_connections), trust_env=trust_env)
        self._most_connections, self._trusts_env = max_connections, trust_env
        self._session: aiohttp.ClientSession | None = None

    def build_request(self, method: str, url: httpx2.URL | str, **given: Any) -> httpx2.Request:
        """Of a plain POST, one with exactly the headers that are given."""
        content, headers, timeout = given.get("content"), given.get("headers"), given.get("timeout")
        if (
            method.upper() == "POST"
            and isinstance(url, httpx2.URL)
            and isinstance(content, bytes)
            and isinstance(headers, httpx2.Headers)
            and isinstance(timeout, httpx2.Timeout)
            and not any(value for name, value in given.items() if name not in _PLAIN)
        ):
            return _Post(url, headers, content, timeout)
        return super().build_request(method, url, **given)

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        """Send it, and read the whole response."""
        if not isinstance(request, _Post) or any(how.values()):
            return await super().send(request, **how)
        seconds = request.extensions["timeout"]
        try:
            async with self._opened().post(
                str(request.url),
                data=request.content,
                headers=[(name.decode(), value.decode()) for name, value in request.headers.raw],
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=seconds["pool"], sock_connect=seconds["connect"], sock_read=seconds["read"]
                ),
            ) as answer:
                body = await answer.read()
        except TimeoutError as error:
            raise httpx2.TimeoutException(str(error)) from error
        headers = [pair for pair in answer.raw_headers if pair[0].lower() != b"content-encoding"]  # it is decoded
        told = _Answer(answer.status, headers, body, request)
        if told.has_redirect_location:  # nothing of it was billed: the long way knows where to go
            again = super().build_request("POST", request.url, headers=request.headers, content=request.content)
            return await super().send(again, **how)
        return told

    async def aclose(self) -> None:
        """Give back the connections."""
        if self._session is not None:
            await self._session.close()
        await super().aclose()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._most_connections, ssl=httpx2.create_ssl_context())
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=self._trusts_env
            )
        return self._session
