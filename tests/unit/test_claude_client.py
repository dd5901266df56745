"""One call over real HTTP: sent once, read back with everything that is billed on."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.claude.client import ClaudeClient, ClaudeOptions, read_reply
from penstock.claude.errors import Trouble
from penstock.claude.models import Tokens
from penstock.claude.reply import Reply
from penstock.errors import SettingsError
from scripted_claude import error, message, scripted

CALL = {"model": "claude-haiku-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_reply_is_read_with_its_usage() -> None:
    """Text of text blocks only, every token class, the request id and the simulator's mark."""
    thinking = [{"type": "thinking", "thinking": "", "signature": "x"}, {"type": "text", "text": "Hel"}]
    cached = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 12}

    def script(_: Any) -> web.Response:
        return message(
            "lo",
            blocks=thinking,
            cache_creation_input_tokens=42,
            cache_read_input_tokens=7,
            cache_creation=cached,
            inference_geo="us",
            headers={"x-simulated": "penstock"},
        )

    async with scripted(script) as (api, client):
        reply = await client.send(CALL)
    tokens = Tokens(800, 30, 12, 7, 100, "us")
    assert isinstance(reply, Reply)
    assert reply.headers["request-id"] == "req_1"
    assert reply._replace(headers={}) == Reply(
        "req_1", "claude-haiku-5-5", "end_turn", "Hello", tokens, "", simulated=True
    )
    assert api.headers[0]["Authorization"] == "Bearer test-key"
    assert "traceparent" not in api.headers[0]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 501, 503, 504, 529])
async def test_nothing_is_sent_twice(status: int) -> None:
    """Every error status comes back as a value after one request: we own the retries."""
    async with scripted(lambda _: error(status, "some_error", "why", "some_code", {"retry-after": "0"})) as (
        api,
        client,
    ):
        trouble = await client.send(CALL)
    assert isinstance(trouble, Trouble)
    assert (trouble.status, trouble.kind, trouble.code, trouble.message) == (status, "some_error", "some_code", "why")
    assert (trouble.headers["retry-after"], trouble.request_id) == ("0", "req_e")
    assert len(api.requests) == 1


@pytest.mark.parametrize("status", [413, 502])
async def test_errors_of_a_proxy_are_no_json(status: int) -> None:
    """HTML from the edge is an error like any other, without type or code."""
    html = web.Response(status=status, text="<html>too large</html>", content_type="text/html")
    async with scripted(lambda _: html) as (_, client):
        trouble = await client.send(CALL)
    assert isinstance(trouble, Trouble)
    assert (trouble.status, trouble.kind, trouble.code) == (status, "", "")


async def test_a_call_that_takes_too_long_ends() -> None:
    """The time-out is for the call as a whole, also where bytes keep dripping."""

    async def drip(_: Any) -> web.StreamResponse:
        await asyncio.sleep(30)
        return message("late")

    async with scripted(drip, timeout_seconds=0.2) as (_, client):
        trouble = await client.send(CALL)
    assert isinstance(trouble, Trouble)
    assert (trouble.status, trouble.kind, trouble.sent) == (0, "timed_out", True)


async def test_a_cut_connection_may_have_been_billed_and_a_refused_one_was_not() -> None:
    """What was sent and not answered is uncertain; what never got through is not."""

    async def cut_off(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with scripted(message) as (api, client):
        api.respond_raw = cut_off
        cut = await client.send(CALL)
        base_url = api.base_url
    assert isinstance(cut, Trouble)
    assert (cut.status, cut.kind, cut.sent) == (0, "unreachable", True)
    gone = ClaudeClient(ClaudeOptions(api_key="k", base_url=base_url))
    try:
        refused = await gone.send(CALL)
    finally:
        await gone.close()
    assert isinstance(refused, Trouble)
    assert (refused.status, refused.kind, refused.sent) == (0, "unreachable", False)


async def test_a_compressed_reply_is_a_reply() -> None:
    """What a proxy or the API compresses is read like anything else."""

    def packed(_: Any) -> web.Response:
        response = message("packed")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with scripted(packed) as (api, client):
        reply = await client.send(CALL)
    assert isinstance(reply, Reply)
    assert reply.text == "packed"
    assert "gzip" in api.headers[0]["Accept-Encoding"]


async def test_an_address_that_has_moved_is_followed() -> None:
    """A gateway may send us elsewhere: the whole call goes there, and comes back answered."""
    bodies = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        if "moved" not in request.query:
            return web.Response(status=307, headers={"location": "/v1/messages?moved=1"})
        return message("here", headers={"Set-Cookie": "a=b"})

    async with scripted(message) as (api, client):
        api.respond_raw = elsewhere
        reply = await client.send(CALL)
    assert isinstance(reply, Reply)
    assert reply.text == "here"
    assert bodies
    assert all(body == CALL for body in bodies)


GOOD = orjson.dumps(
    {
        "id": "m",
        "model": "x",
        "content": [],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "kind"),
    [
        (b"", 0, "unreachable"),
        (b"garbage\r\n\r\n", 0, "unreachable"),
        (b"HTTP/1.1 200 OK\r\n", 0, "unreachable"),
        (HEAD + b"content-length: 500\r\n\r\n" + GOOD, 0, "unreachable"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", 0, "unreachable"),
        (HEAD + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", 0, "unreachable"),
        (HEAD + b"content-length: 5\r\n\r\n\xff\xfe{}\x00", 200, "unreadable"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 500\r\n\r\nshort", 0, "unreachable"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 200, "unreadable"),
        (b"HTTP/1.1 302 Found\r\nlocation: ftp://x/\r\ncontent-length: 0\r\n\r\n", 0, "unreachable"),
    ],
)
async def test_whatever_comes_over_the_wire_is_a_value(raw: bytes, status: int, kind: str) -> None:
    """Broken HTTP, cut bodies, bad encodings and odd statuses end in a trouble, never in an exception."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = ClaudeClient(ClaudeOptions(api_key="k", base_url=f"http://127.0.0.1:{port}", timeout_seconds=5))
    try:
        trouble = await client.send(CALL)
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
    assert isinstance(trouble, Trouble)
    assert (trouble.status, trouble.kind, trouble.sent) == (status, kind, True)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to a simulator on loopback go there directly, whatever proxy is set for the outside."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with scripted(lambda _: message("hi")) as (_, client):
        assert isinstance(await client.send(CALL), Reply)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"id":"m","model":"x","content":[],"stop_reason":"end_turn"}',
        b'{"id":"m","model":"x","content":[],"stop_reason":"end_turn","usage":null}',
        b'{"id":"m","model":"x","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1}}',
        b'{"id":"m","model":"x","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":"2"}}',
        b'{"id":"m","model":"x","content":[],"stop_reason":"end_turn","usage":{"input_tokens":-1,"output_tokens":2}}',
        b'{"id":"m","model":"x","content":null,"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}',
        b'{"id":"m","model":"x","content":[{"type":"text"}],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":2}}',
        b'{"type":"error","error":{"type":"overloaded_error"}}',
    ],
)
def test_a_body_that_cannot_be_billed_on_is_not_believed(body: bytes) -> None:
    """Without whole token counts the cost is unknown: the call may have been billed, and says so."""
    trouble = read_reply(body, {"request-id": "req_1"})
    assert isinstance(trouble, Trouble)
    assert (trouble.status, trouble.kind, trouble.request_id) == (200, "unreadable", "req_1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "input_tokens", "output_tokens", "category"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(["id", "model", "content", "stop_reason", "usage", "stop_details"]), json_values, min_size=4
    )
)
def test_any_body_is_read_or_reported(body: dict[str, Any]) -> None:
    """Whatever JSON comes with HTTP 200 ends in a reply with whole counts or in a trouble."""
    reply = read_reply(orjson.dumps(body), {})
    if isinstance(reply, Reply):
        assert all(type(count) is int and count >= 0 for count in reply.tokens[:5])


@pytest.mark.parametrize(
    "base_url", ["", "https://api.anthropic.com", "http://10.0.0.1:80", "http://localhost.evil.test"]
)
def test_tests_cannot_spend_money(base_url: str) -> None:
    """Under a test run only addresses on this machine are let through."""
    with pytest.raises(SettingsError, match=r"claude\.base_url=.*penstock simulate"):
        ClaudeClient(ClaudeOptions(api_key="k", base_url=base_url))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"timeout_seconds": 0}, r"claude\.timeout_seconds"),
        ({"max_connections": -1}, r"claude\.max_connections"),
        ({"cache_ttl": "2h"}, r"claude\.cache_ttl"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], name: str) -> None:
    """The setting is named."""
    with pytest.raises(SettingsError, match=name):
        ClaudeOptions(**options)


def test_the_key_is_never_shown() -> None:
    """Options may be printed; the key is not in them."""
    assert "secret" not in repr(ClaudeOptions(api_key="secret"))
