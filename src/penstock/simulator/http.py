"""HTTP/1.1 on a socket: reads requests, bounded and in order, and writes replies as their fault and latency say.

[http] → api
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
import zlib
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools

from penstock.simulator.exchange import Exchange, Request
from penstock.simulator.failures import ApiError, BadRequest

if TYPE_CHECKING:
    from penstock.simulator.accounts import Call

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_DRAINED_BYTES = 256 * 1024 * 1024
"""So much of a body that is too large is read and thrown away, so that the client gets to read the 413."""
MAX_HEADER_BYTES = 64 * 1024
MAX_WAITING = 32
"""Pipelined requests per connection before reading pauses."""
DRIP_CHUNK_BYTES = 48


class Answers(Protocol):
    """What the wire needs of the API."""

    drip_seconds: float
    stall_seconds: float

    def early(self, request: Request) -> Call | None:
        """Not None where the connection must be cut before the body is read."""
        ...

    def handle(self, request: Request) -> Exchange:
        """The reply to a whole request."""
        ...


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, in the order in which they came."""

    def __init__(self, api: Answers, open_connections: set[Connection]) -> None:
        self._api = api
        self._open = open_connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._waiting: deque[Request] = deque()
        self._current: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = True
        self._lost = False
        self._begin_request()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError as error:
            self._reject(str(error))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 — the contract
        self._lost = True
        self._open.discard(self)
        if self._current is not None and self._current.manner == "stall":
            self._finish(delivered=False)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._serve()

    def abandon(self) -> None:
        """The server stops: nothing more is written."""
        if self._timer is not None:
            self._timer.cancel()
        if self._current is not None:
            self._finish(delivered=False)
        self._waiting.clear()
        self._transport.abort()

    # What the parser calls

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("headers are too large")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        self._request = Request(method, _without_prefix(path), query, self._headers)
        if self._api.early(self._request) is not None:
            self._reset()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._chunks.append(chunk)
        elif self._body_bytes > MAX_DRAINED_BYTES:
            self._transport.abort()

    def on_message_complete(self) -> None:
        request = self._request
        request.keep_alive = self._parser.should_keep_alive()
        request.body = b"".join(self._chunks) if len(self._chunks) != 1 else self._chunks[0]
        request.failure = _decode(request, self._body_bytes)
        self._begin_request()
        if self._lost:
            return
        self._waiting.append(request)
        if len(self._waiting) > MAX_WAITING:
            self._transport.pause_reading()
        self._serve()

    def _begin_request(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._request = Request("", "")

    # Replies

    def _serve(self) -> None:
        """Answer what waits, one after the other."""
        while self._current is None and self._waiting and self._writable and not self._lost:
            request = self._waiting.popleft()
            if len(self._waiting) == MAX_WAITING:
                self._transport.resume_reading()
            exchange = self._api.handle(request)
            exchange.close = exchange.close or not request.keep_alive
            self._current = exchange
            if exchange.delay_seconds > 0:
                self._timer = self._loop.call_later(exchange.delay_seconds, self._due, exchange, request.method)
            else:
                self._reply(exchange, request.method)

    def _due(self, exchange: Exchange, method: str) -> None:
        self._reply(exchange, method)
        self._serve()

    def _reply(self, exchange: Exchange, method: str) -> None:
        if exchange.begins is not None:
            exchange.begins()
        if self._lost or self._transport.is_closing():
            self._finish(delivered=False)
        elif exchange.manner == "stall":
            self._timer = self._loop.call_later(self._api.stall_seconds, self._give_up)
        elif exchange.manner == "reset_after":
            self._finish(delivered=False)
            self._reset()
        elif exchange.manner == "drip":
            self._drip(_head(exchange) + exchange.body, 0)
        else:
            self._transport.write(_head(exchange) + (b"" if method == "HEAD" else exchange.body))
            self._written(exchange)

    def _written(self, exchange: Exchange) -> None:
        self._finish(delivered=True)
        if exchange.close:
            self._transport.close()

    def _drip(self, whole: bytes, start: int) -> None:
        """A few bytes at a time: each read of the client succeeds, and the whole takes long."""
        exchange = self._current
        if exchange is None:
            return
        if self._lost or self._transport.is_closing():
            self._finish(delivered=False)
            return
        stop = start + DRIP_CHUNK_BYTES
        self._transport.write(whole[start:stop])
        if stop < len(whole):
            self._timer = self._loop.call_later(self._api.drip_seconds, self._drip, whole, stop)
            return
        self._written(exchange)
        self._serve()

    def _give_up(self) -> None:
        self._finish(delivered=False)
        self._transport.abort()

    def _finish(self, *, delivered: bool) -> None:
        exchange, self._current = self._current, None
        self._timer = None
        if exchange is not None and exchange.ends is not None:
            exchange.ends(delivered)

    def _reset(self) -> None:
        """Close with RST, as a crashed peer or a middlebox does."""
        sock: Any = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # the client may have gone first
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._lost = True
        self._transport.abort()

    def _reject(self, why: str) -> None:
        """What is not HTTP gets a 400 and no second chance."""
        if self._current is None and not self._transport.is_closing():
            error = BadRequest(f"Invalid HTTP request: {why}")
            self._transport.write(_head(Exchange(400, error.body(""), close=True)) + error.body(""))
        self._transport.close()


def _without_prefix(path: str) -> str:
    """Base URLs may carry a path of their own before `/v1`."""
    at = path.find("/v1/")
    return path[at:].rstrip("/") if at >= 0 else path


def _decode(request: Request, body_bytes: int) -> ApiError | None:
    """Undo the body's encoding within bounds; the error where that cannot be."""
    too_large = ApiError(
        413, f"Request exceeds the maximum allowed number of bytes. The maximum request size is {MAX_BODY_BYTES} bytes."
    )
    if body_bytes > MAX_BODY_BYTES:
        return too_large
    encoding = request.headers.get(b"content-encoding", b"identity").lower()
    if encoding in (b"identity", b""):
        return None
    if encoding not in (b"gzip", b"deflate"):
        return BadRequest(
            f"content-encoding: '{encoding.decode('latin-1')}' is not supported",
            code="request_body_encoding_unsupported",
        )
    unpacker = zlib.decompressobj(wbits=47 if encoding == b"gzip" else zlib.MAX_WBITS)
    try:
        request.body = unpacker.decompress(request.body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        return BadRequest(f"content-encoding: {error}", code="request_body_encoding_invalid")
    if len(request.body) > MAX_BODY_BYTES:
        return ApiError(413, too_large.message, code="request_body_too_large_after_decoding")
    return (
        None if unpacker.eof else BadRequest("content-encoding: incomplete body", code="request_body_encoding_invalid")
    )


_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus} | {529: b"Overloaded"}
_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    """The `date` header, made once a second."""
    global _date  # noqa: PLW0603 — a cache of one line
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"date: " + formatdate(now, usegmt=True).encode("ascii") + b"\r\n")
    return _date[1]


def _head(exchange: Exchange) -> bytes:
    request_id = f"request-id: {exchange.request_id}\r\n".encode("ascii") if exchange.request_id else b""
    return b"".join(
        (
            b"HTTP/1.1 %d %b\r\n" % (exchange.status, _REASONS.get(exchange.status, b"Error")),
            _date_line(),
            b"content-type: ",
            exchange.content_type,
            b"\r\ncontent-length: %d\r\nconnection: %b\r\nx-simulated: penstock\r\n"
            % (len(exchange.body), b"close" if exchange.close else b"keep-alive"),
            request_id,
            exchange.headers,
            b"\r\n",
        )
    )
