"""The wire: order, bounds, encodings, cuts, and a bill that does not ask whether the client is still there."""

import asyncio
import gzip
import json
import zlib
from contextlib import asynccontextmanager

import pytest

from penstock.simulator import OptionError, SimulatorOptions, serve
from penstock.simulator.http import MAX_BODY_BYTES
from simulator_calls import batch, message

KEYS = "authorization: Bearer k\r\nanthropic-version: 2026-10-21\r\n"


@asynccontextmanager
async def listening(**options):
    """A simulator on this loop."""
    server = await serve(SimulatorOptions(**options))
    try:
        yield server
    finally:
        await server.close()


def posted(body, *, path="/v1/messages", headers=""):
    """A request as bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{KEYS}{headers}content-length: {len(raw)}\r\n\r\n".encode() + raw


async def reply_from(reader):
    """Status, headers and body of one reply."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


@asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def settled(server, what, wanted):
    """Wait until the accounts say so."""
    async with asyncio.timeout(10):
        while server.api.totals()[what] != wanted:  # noqa: ASYNC110 — the accounts are no asyncio.Event
            await asyncio.sleep(0.005)
    return server.api.totals()


async def test_pipelined_requests_are_answered_in_order():
    """Requests sent at once on one connection get their replies one after the other, whatever each takes."""
    async with listening(latency_ms=5, jitter=0.5) as server, connected(server) as (reader, writer):
        for number in range(50):
            writer.write(posted(message(f"x{number}", stop_sequences=[f"s{number}"] if number % 2 else None)))
        writer.write(b"GET /simulator/health HTTP/1.1\r\nhost: x\r\n\r\n")
        ids = [(await reply_from(reader))[1]["request-id"] for _ in range(50)]
        status, _, body = await reply_from(reader)
        rows = [json.loads(row)["request_id"] for row in server.api.accounts.rows(0, 100)]
    assert (status, json.loads(body)["status"]) == (200, "ok")
    assert ids == rows


async def test_a_vanished_client_is_billed():
    """Once the body is there the call costs money; the ledger says that nobody was there to read the reply."""
    async with listening(latency_ms=30) as server:
        async with connected(server) as (_, writer):
            writer.write(posted(batch("one", "two")))
            await settled(server, "in_flight", 1)
        totals = await settled(server, "in_flight", 0)
        row = json.loads(next(server.api.accounts.rows(0, 1)))
    assert totals["nanousd"] == totals["undelivered_nanousd"] == row["nanousd"] > 0
    assert (row["delivered"], row["items"]) == (False, 2)


async def test_half_a_body_costs_nothing():
    """A client that vanishes while it sends was never answered and is not billed."""
    async with listening() as server:
        async with connected(server) as (_, writer):
            writer.write(posted(message())[:-10])
            await writer.drain()
            await asyncio.sleep(0.02)
        async with connected(server) as (reader, writer):
            writer.write(posted(message()))
            await reply_from(reader)
        assert server.api.totals()["billed_calls"] == 1


@pytest.mark.parametrize(("kind", "billed"), [("reset_before", False), ("reset_after", True), ("stall", True)])
async def test_cut_connections(kind, billed):
    """A reset before the body is free, after it is not, and a stall is billed and ends with the client."""
    async with listening(fault_script=(kind,)) as server:
        async with connected(server) as (reader, writer):
            writer.write(posted(message()))
            if kind == "stall":
                await settled(server, "in_flight", 1)
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
        totals = await settled(server, "in_flight", 0)
    assert (totals["nanousd"] > 0, totals["calls_by_status"], totals["undelivered_calls"]) == (billed, {kind: 1}, 1)


async def test_stall_ends_by_itself():
    """A stalled reply cuts the connection after its time."""
    async with listening(fault_script=("stall",), stall_seconds=0.02) as server, connected(server) as (reader, writer):
        writer.write(posted(message()))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_reset_by_rate_before_the_body():
    """A drawn reset strikes on the header alone: no body needs to be sent."""
    async with listening(fault_rates={"reset_before": 1.0}) as server, connected(server) as (reader, writer):
        writer.write(posted(message())[: -len(json.dumps(message()))])
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert server.api.totals()["faults"] == {"reset_before": 1}


async def test_bodies_are_bounded():
    """32 MB and a byte is a 413 that the client gets to read, and the connection ends."""
    async with listening() as server, connected(server) as (reader, writer):
        writer.write(posted(b" " * (MAX_BODY_BYTES + 1)))
        status, headers, body = await reply_from(reader)
        assert (status, json.loads(body)["error"]["type"], headers["connection"]) == (413, "request_too_large", "close")
        assert await reader.read() == b""


BOMB = gzip.compress(b" " * (MAX_BODY_BYTES + 1))
ENCODED = {
    "gzip": (gzip.compress(json.dumps(message()).encode()), "gzip", 200, None),
    "deflate": (zlib.compress(json.dumps(message()).encode()), "deflate", 200, None),
    "damaged": (b"no gzip", "gzip", 400, "request_body_encoding_invalid"),
    "incomplete": (gzip.compress(json.dumps(message()).encode())[:-9], "gzip", 400, "request_body_encoding_invalid"),
    "unknown": (b"x", "br", 400, "request_body_encoding_unsupported"),
    "bomb": (BOMB, "gzip", 413, "request_body_too_large_after_decoding"),
}


@pytest.mark.parametrize("case", ENCODED)
async def test_encoded_bodies(case):
    """gzip and deflate are read within bounds; others and damaged ones are named by their code."""
    raw, encoding, expected, code = ENCODED[case]
    async with listening() as server, connected(server) as (reader, writer):
        writer.write(posted(raw, headers=f"content-encoding: {encoding}\r\n"))
        status, _, body = await reply_from(reader)
    assert status == expected
    assert code is None or json.loads(body)["error"]["details"]["error_code"] == code


async def test_what_is_not_http():
    """Garbage and endless headers get a 400 and the end of the connection; the server goes on."""
    async with listening() as server:
        for garbage in (b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 80_000 + b"\r\n\r\n"):
            async with connected(server) as (reader, writer):
                writer.write(garbage)
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
        async with connected(server) as (reader, writer):
            writer.write(posted(message()))
            assert (await reply_from(reader))[0] == 200


async def test_expectations_chunks_prefixes_and_closing():
    """`expect: 100-continue`, chunked bodies, a prefix before /v1 and `connection: close` are all HTTP."""
    raw = json.dumps(message()).encode()
    chunked = f"POST /p/v1/messages HTTP/1.1\r\nhost: x\r\n{KEYS}transfer-encoding: chunked\r\n\r\n".encode()
    async with listening() as server, connected(server) as (reader, writer):
        writer.write(posted(raw, headers="expect: 100-continue\r\n")[: -len(raw)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(raw)
        assert (await reply_from(reader))[0] == 200
        writer.write(chunked + b"%x\r\n" % len(raw) + raw + b"\r\n0\r\n\r\n")
        assert (await reply_from(reader))[0] == 200
        writer.write(posted(raw, headers="connection: close\r\n"))
        assert (await reply_from(reader))[1]["connection"] == "close"
        assert await reader.read() == b""


async def test_dripping_reply_is_whole():
    """A dripping reply is the same reply in small pieces, and what waits behind it comes after it."""
    async with listening(fault_script=("drip",), drip_ms=0.1) as server, connected(server) as (reader, writer):
        writer.write(posted(message()) + posted(message()))
        first, second = await reply_from(reader), await reply_from(reader)
    assert json.loads(first[2])["content"] == json.loads(second[2])["content"]


async def test_closing_ends_calls_in_flight():
    """A server that stops drops its connections; what was in flight ends undelivered."""
    async with listening(latency_ms=60_000) as server:
        async with connected(server) as (reader, writer):
            writer.write(posted(message()))
            await settled(server, "in_flight", 1)
            await server.close()
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        totals = server.api.totals()
    assert (totals["in_flight"], totals["undelivered_calls"]) == (0, 1)


async def test_taken_port_is_told():
    """A port that is in use is a mistake of the caller's, named in words."""
    async with listening() as server:
        with pytest.raises(OptionError, match=f"cannot listen on 127.0.0.1:{server.port}"):
            await serve(SimulatorOptions(port=server.port))
