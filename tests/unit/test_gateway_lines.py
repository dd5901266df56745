"""NDJSON as a stream: any number of events in one request, in bounded room, and an answer that is true wherever it stops."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.log_fixtures import all_records
from gateway_calls import Client, made_key, options_in, order, serving
from penstock.errors import LogUnavailable
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.web.lines import Lines
from penstock.web.options import GatewayOptions
from penstock.web.problems import Problem
from penstock.web.reading import Buffers
from penstock.web.spool import IN_MEMORY_BYTES, Spool

LINES = "application/x-ndjson"
ENOUGH_BYTES = 30_000_000
"""More than the sockets of both sides hold."""


class Weather(SqliteLog):
    """A log whose appends fail after so many, or wait, as a test tells it."""

    fails_after = 10**9
    gate: asyncio.Event | None = None
    appends = 0

    async def append(self, records):
        if self.gate is not None:
            await self.gate.wait()
        self.appends += 1
        if self.appends > self.fails_after:
            raise LogUnavailable("away")
        return await super().append(records)


@pytest.fixture
def log(tmp_path) -> Weather:
    return Weather(tmp_path / "log.db", options=SqliteOptions(synchronous="normal"))


def lines(first: int, count: int) -> bytes:
    return b"".join(orjson.dumps(order(number)) + b"\n" for number in range(first, first + count))


async def stream(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def taken(parts: list[bytes], options: GatewayOptions) -> list[list[bytes]]:
    found = []
    async with Buffers(options).stream({}) as place:
        made = Lines(stream(parts), options, place)
        while some := await made.take():
            found.append(some)
        await made.close()
    return found


LETTERS = st.binary(max_size=12).map(lambda drawn: bytes(b"ab\n"[byte % 3] for byte in drawn))


@settings(max_examples=100)
@given(st.lists(LETTERS, max_size=20), st.integers(1, 5), st.integers(1, 40))
def test_however_a_body_is_cut_its_lines_are_the_same(parts, most_events, most_bytes):
    """Every line comes once, whole and in order, or as one that is too long; no part is larger than it may be."""
    options = GatewayOptions(max_batch_events=most_events, max_body_bytes=most_bytes, max_event_bytes=8)
    found = asyncio.run(taken(parts, options))
    assert all(len(some) <= most_events for some in found)
    assert all(sum(map(len, some[:-1])) <= most_bytes for some in found)
    sent = [line for line in b"".join(parts).split(b"\n") if line]
    got = [line for some in found for line in some]
    assert [line if len(line) <= 8 else b"too long" for line in got] == [
        line if len(line) <= 8 else b"too long" for line in sent
    ]


async def test_any_number_of_events_in_one_request(tmp_path, log):
    """More than one append takes, in less room than they have: each is in the log once, and the answer names each in order."""
    count = 6_000
    options = options_in(tmp_path, max_batch_events=250, max_body_bytes=20_000, max_buffered_bytes=40_000)
    async with serving(log, options) as client:
        status, told, headers = await client.post(data=lines(0, count), content_type=LINES)
        assert (status, told["accepted"], told["repeated"], told["refused"]) == (202, count, 0, 0)
        assert [(item["index"], item["id"]) for item in told["items"]] == [(n, f"o-{n}") for n in range(count)]
        assert int(headers["content-length"]) > IN_MEMORY_BYTES
        again = await client.post(data=lines(0, count), content_type=LINES)
        assert (again[0], again[1]["repeated"]) == (202, count)
        assert log.appends == 24
    assert sorted(orjson.loads(r.value)["id"] for r in await _records(tmp_path)) == sorted(
        f"o-{n}" for n in range(count)
    )


async def test_what_the_log_does_not_take_is_not_read(tmp_path, log):
    """While the log waits the sender is stopped by its own socket, however much it has; nothing is gathered here."""
    log.gate = asyncio.Event()
    async with serving(log, options_in(tmp_path, max_batch_events=100)) as client:
        host, port = client.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {LINES}\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        line = orjson.dumps(order(1, text="x" * 1_000)) + b"\n"
        chunk = b"%x\r\n" % (len(line) * 50) + line * 50 + b"\r\n"

        async def push() -> int:
            """How much went out before the other side took no more."""
            for sent in range(0, ENOUGH_BYTES, len(chunk)):
                writer.write(chunk)
                try:
                    await asyncio.wait_for(writer.drain(), 1.0)
                except TimeoutError:
                    return sent
            return ENOUGH_BYTES

        assert await push() < ENOUGH_BYTES
        log.gate.set()
        writer.write(b"0\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert answer.startswith(b"HTTP/1.1 202 ")
        writer.close()


@asynccontextmanager
async def opened(client: Client) -> AsyncIterator[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A stream that says little; the first that is answered: 100, once its body is asked for, or a refusal."""
    host, port = client.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {LINES}\r\nexpect: 100-continue\r\n"
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        yield await asyncio.wait_for(reader.readuntil(b"\r\n"), 60), reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("limits", "most"), [({}, 56), ({"max_requests": 8}, 4)])
async def test_streams_leave_room_for_other_requests(tmp_path, log, limits, most):
    """However many are open and wait, others are taken; one stream too many is told what is full."""
    async with serving(log, options_in(tmp_path, **limits)) as client, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(opened(client)) for _ in range(most + 1)]
        assert [said.split()[1] for said, _, _ in streams] == [b"100"] * most + [b"503"]
        await asyncio.wait_for(streams[-1][1].readuntil(b"half of gateway.max_requests"), 60)
        body = b"[" + b",".join(orjson.dumps(order(n, text="x" * 40_000)) for n in range(20)) + b"]"
        assert (await client.post(data=body))[0] == 202
        for _, reader, writer in streams[:-1]:
            writer.write(b"0\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"malformed"), 60)
        said, _, _ = await stack.enter_async_context(opened(client))
        assert said.split()[1] == b"100"


async def test_a_stream_has_as_much_room_as_it_fills():
    """Those that hold what they read stay within their half, whatever comes; none is stopped, and each line comes once."""
    options = GatewayOptions(max_event_bytes=10_000, max_body_bytes=1_500_000, max_buffered_bytes=4_000_000)
    buffers, parts = Buffers(options), [(b"x" * 999 + b"\n") * 100] * 30
    async with AsyncExitStack() as stack:
        made = [Lines(stream(parts), options, await stack.enter_async_context(buffers.stream({}))) for _ in range(5)]
        held = [await lines.take() for lines in made]
        async with buffers.room({"content-length": "1500000"}):
            with pytest.raises(Problem, match="max_buffered_bytes"):
                await stack.enter_async_context(buffers.stream({}))
        counts = [len(some) for some in held]
        while any(held):
            held = [await lines.take() for lines in made]
            counts = [count + len(some) for count, some in zip(counts, held, strict=True)]
        assert counts == [3_000] * 5
    async with buffers.stream({}) as place:
        assert len(await Lines(stream(parts), options, place).take()) == 1_000


async def test_a_log_that_goes_away_stops_the_stream_where_it_is(tmp_path, log):
    """207 says what was taken and from which event on to send again; sent again whole it is all there, once."""
    log.fails_after = 3
    async with serving(log, options_in(tmp_path, max_batch_events=10)) as client:
        status, told, headers = await client.post(data=lines(0, 55), content_type=LINES, idempotency_key="k")
        assert (status, told["accepted"], told["stopped"]["index"], len(told["items"])) == (207, 30, 30, 30)
        assert told["stopped"]["problem"]["type"] == "urn:penstock:problem:log-unavailable"
        assert int(headers["retry-after"]) >= 1
        log.fails_after = 10**9
        status, told, _ = await client.post(data=lines(0, 55), content_type=LINES, idempotency_key="k")
        assert (status, told["accepted"], told["repeated"]) == (202, 55, 30)
    assert len(await _records(tmp_path)) == 55


async def test_a_log_that_is_away_from_the_start_is_one_refusal(tmp_path, log):
    """Nothing was taken: the answer is that of any other request."""
    log.fails_after = 0
    async with serving(log, options_in(tmp_path)) as client:
        status, told, _ = await client.post(data=lines(0, 5), content_type=LINES)
    assert (status, told["type"]) == (503, "urn:penstock:problem:log-unavailable")


async def test_each_line_has_a_fate_of_its_own(tmp_path, log):
    """Broken, wrong and too long ones are named by their place; their neighbours are taken, over the parts of the stream."""
    options = options_in(tmp_path, max_batch_events=3, max_event_bytes=200, max_body_bytes=100_000)
    sent = [orjson.dumps(order(n)) for n in range(9)]
    sent[1], sent[4], sent[7] = b"{", orjson.dumps(order(4, text="x" * 70_000)), orjson.dumps({"id": "o-7"})
    async with serving(log, options) as client:
        status, told, _ = await client.post(data=b"\r\n\n".join(sent), content_type=LINES)
        assert (status, told["accepted"], told["refused"]) == (207, 6, 3)
        kinds = {
            item["index"]: item["problem"]["type"].rpartition(":")[2] for item in told["items"] if "problem" in item
        }
        assert kinds == {1: "not-json", 4: "too-large", 7: "invalid-event"}
        assert "stopped" not in told
        status, told, _ = await client.post(data=b"{\n{\n{\n{\n", content_type=LINES)
        assert (status, told["type"], len(told["items"])) == (400, "urn:penstock:problem:nothing-accepted", 4)


async def test_a_slow_sender_keeps_what_was_taken(tmp_path, log):
    """Whole lines that came in time are taken; when none comes any more the stream is stopped behind them, and says so."""
    async with serving(log, options_in(tmp_path, body_seconds=0.4)) as client:

        async def slowly() -> AsyncIterator[bytes]:
            for number in range(3):
                yield lines(number, 1)
                await asyncio.sleep(0.15)
            yield b'{"id":'
            await asyncio.sleep(30)

        status, told, _ = await client.post(data=slowly(), content_type=LINES)
    assert (status, told["accepted"]) == (207, 3)
    assert told["stopped"]["index"] == 3
    assert told["stopped"]["problem"]["status"] == 408


@pytest.mark.parametrize(
    ("limits", "status", "kind"),
    [({"max_stream_bytes": 6_000}, 413, "too-large"), ({"max_stream_seconds": 0.000_001}, 408, "too-slow")],
)
async def test_a_stream_has_an_end(tmp_path, log, limits, status, kind):
    """In bytes and in time; the setting is named."""

    async def without_length() -> AsyncIterator[bytes]:
        for number in range(0, 400, 20):
            yield lines(number, 20)

    async with serving(log, options_in(tmp_path, max_batch_events=10, **limits)) as client:
        got, told, _ = await client.post(data=without_length(), content_type=LINES)
        problem: dict[str, Any] = told["stopped"]["problem"] if got == 207 else told
        assert (problem["status"], problem["type"].rpartition(":")[2]) == (status, kind)
        assert f"gateway.{next(iter(limits))}" in problem["detail"]
        if "max_stream_bytes" in limits:
            assert (await client.post(data=lines(0, 400), content_type=LINES))[0] == 413


async def test_an_answer_has_an_end(tmp_path, log):
    """Where its bytes are over the stream is stopped and says where; all that was accepted is told, and the rest is a request more."""
    async with serving(log, options_in(tmp_path, max_batch_events=10, max_answer_bytes=1_000)) as client:
        status, told, _ = await client.post(data=lines(0, 100), content_type=LINES)
        done = told["accepted"]
        assert (status, told["stopped"]["index"], len(told["items"])) == (207, done, done)
        assert 0 < done < 100
        assert told["stopped"]["problem"]["type"] == "urn:penstock:problem:too-large"
        assert "gateway.max_answer_bytes" in told["stopped"]["problem"]["detail"]
        refused = await client.post(data=b"{\n" * 5_000, content_type=LINES)
        assert (refused[0], refused[1]["refused"] < 5_000, refused[1]["stopped"]["index"]) == (
            207, True, refused[1]["refused"],
        )  # fmt: skip
    assert len(await _records(tmp_path)) == done


async def test_a_full_disk_hides_nothing_that_was_accepted(tmp_path, log, monkeypatch):
    """The stream is stopped, and its answer has an item for each event that is in the log; other requests go on."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no-such-directory"))
    async with serving(log, options_in(tmp_path)) as client:
        status, told, headers = await client.post(data=lines(0, 9_000), content_type=LINES)
        done = told["accepted"]
        assert (status, told["stopped"]["index"], len(told["items"])) == (207, done, done)
        assert told["stopped"]["problem"]["type"] == "urn:penstock:problem:busy"
        assert int(headers["retry-after"]) >= 1
        assert (await client.post(data=lines(done, 100), content_type=LINES))[0] == 202
    assert len(await _records(tmp_path)) == done + 100


def test_a_spool_loses_nothing_when_the_disk_takes_a_part():
    """A write that is cut short is none; everything comes back, byte for byte."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sent: list[bytes] = []
    spool = Spool()

    def fill() -> None:
        while len(sent) < 1_000:
            sent.append(len(sent).to_bytes(4, "big") * 12_345)
            spool.add(sent[-1])

    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * IN_MEMORY_BYTES + 1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert spool.size == sum(map(len, sent)) > 3 * IN_MEMORY_BYTES
    assert b"".join(spool.pieces()) == b"".join(sent)


async def test_a_keys_rate_slows_a_stream(tmp_path, log):
    """400 at once and 200 a second: the sender waits, unread, instead of being refused, and all of it is taken."""
    options = options_in(tmp_path, auth="keys", max_batch_events=20)
    key = made_key(options.keys_file, events_per_second=200.0)
    async with serving(log, options) as client:
        keyed = Client(client.session, client.url, key)
        status, told, _ = await keyed.post(data=lines(0, 500), content_type=LINES)
        assert (status, told["accepted"]) == (202, 500)


async def test_streams_of_one_key_share_its_rate(tmp_path, log):
    """They wait for the same moment, and whoever finds it taken waits for the next: none is stopped for being second."""
    options = options_in(tmp_path, auth="keys", max_batch_events=20)
    key = made_key(options.keys_file, events_per_second=200.0)
    async with serving(log, options) as client:
        keyed = Client(client.session, client.url, key)
        told = await asyncio.gather(
            *(keyed.post(data=lines(first, 200), content_type=LINES) for first in (0, 1_000, 2_000))
        )
    assert [(status, body["accepted"]) for status, body, _ in told] == [(202, 200)] * 3


async def _records(directory) -> list[Any]:
    log = SqliteLog(directory / "log.db")
    try:
        return await all_records(log, "orders")
    finally:
        await log.close()


def test_the_answer_is_what_the_document_says():
    """`stopped` is optional: who sends no stream never sees it."""
    from penstock.web.replies import BatchReply

    plain = {"topic": "t", "accepted": 1, "repeated": 0, "refused": 0, "items": []}
    assert BatchReply.model_validate(plain).stopped is None
    stopped = {"index": 1, "problem": {"type": "x", "title": "x", "status": 503, "detail": "x"}}
    assert BatchReply.model_validate_json(json.dumps(plain | {"stopped": stopped})).stopped is not None
