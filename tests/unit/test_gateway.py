"""The gateway over real HTTP on the embedded log: what it accepts is in the log, what it refuses it says why."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from contract.log_fixtures import all_records
from fakes import until
from gateway_calls import SECRET_TEXT, Client, made_key, options_in, order, order_task, serving
from penstock.codecs.registry import RegistryCodec
from penstock.errors import LogUnavailable, SettingsError
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import header_text
from penstock.web.build import build_server
from penstock.web.options import GatewayOptions

QUICK = SqliteOptions(synchronous="normal")
CE = {"ce_id": "c-1", "ce_source": "/shop", "ce_type": "order", "ce_specversion": "1.0"}


class Weather(SqliteLog):
    """A log whose appends fail, or wait, as a test tells it."""

    error: Exception | None = None
    gate: asyncio.Event | None = None
    is_away = False
    appended = 0

    async def bounds(self, topic):
        if self.is_away:
            raise LogUnavailable("nobody answers")
        return await super().bounds(topic)

    async def append(self, records):
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.appended += len(records)
        return await super().append(records)


@pytest.fixture
def log(tmp_path) -> Weather:
    return Weather(tmp_path / "log.db", options=QUICK)


@pytest.fixture
async def client(tmp_path, log) -> AsyncIterator[Client]:
    async with serving(log, options_in(tmp_path)) as made:
        yield made


# --- accepted ---------------------------------------------------------------------------------------------------


async def test_an_accepted_event_is_in_the_log(client, log):
    """202 means: it stands in the topic, byte for byte, under its id, with its subject as its key."""
    sent = json.dumps(order(1), indent=1).encode()
    status, told, _ = await client.post(data=sent)
    (record,) = await all_records(log, "orders")
    assert (status, told) == (202, {"id": "o-1", "topic": "orders", "state": "accepted", "repeated": False})
    assert (record.value, record.key) == (sent, b"o-1")
    assert header_text(record.headers, "ce_id") == "o-1"


async def test_arrays_and_lines_are_batches(client, log):
    """An array and NDJSON: each event has a record of its own, exactly as it stood there."""
    first = b' [ {"id": "a", "text": "1.50 \\u00e9"} ,\n{"text":"\xc3\xa9","id":"b"}] '
    status, told, _ = await client.post(data=first)
    assert (status, told["accepted"], [item["id"] for item in told["items"]]) == (202, 2, ["a", "b"])
    lines = b'{"id":"c","text":""}\r\n\n{"id":"d","text":"x"}'
    status, told, _ = await client.post(data=lines, content_type="application/x-ndjson")
    assert (status, [item["id"] for item in told["items"]]) == (202, ["c", "d"])
    values = {record.value for record in await all_records(log, "orders")}
    assert values == {
        b'{"id": "a", "text": "1.50 \\u00e9"}',
        b'{"text":"\xc3\xa9","id":"b"}',
        b'{"id":"c","text":""}',
        b'{"id":"d","text":"x"}',
    }


async def test_cloud_events_in_all_modes(client, log):
    """Structured and batched envelopes stay whole, binary attributes become headers; tasks read their data alike."""

    def envelope(name: str) -> dict:
        return {"specversion": "1.0", "id": name, "source": "/shop", "type": "order", "data": order(name)}

    status, told, _ = await client.post(envelope("s"), content_type="application/cloudevents+json; charset=utf-8")
    assert (status, told["id"]) == (202, "o-s")
    batch = [envelope("b1"), envelope("b2")]
    status, told, _ = await client.post(batch, content_type="application/cloudevents-batch+json")
    assert (status, told["accepted"]) == (202, 2)
    extra = {"ce_tenant": "caf%C3%A9", "ce_partitionkey": "p", "traceparent": "00-1-2-3"}
    status, told, _ = await client.post(order("bin"), **CE, **extra)
    assert (status, told["id"]) == (202, "o-bin")
    records = {record.value: record for record in await all_records(log, "orders")}
    binary = records[json.dumps(order("bin")).encode()]
    assert binary.key == b"p"
    assert header_text(binary.headers, "ce_tenant") == "café"
    assert header_text(binary.headers, "traceparent") == "00-1-2-3"
    assert header_text(binary.headers, "ce_source") == "/shop"
    assert len(records) == 4


async def test_an_event_without_an_id_gets_one(tmp_path, log):
    """The id of the answer is the event's id in the log, so that results can be found under it."""

    class Plain(BaseModel):
        text: str

    task = order_task(input=Plain)
    async with serving(log, options_in(tmp_path), task) as client:
        _, first, _ = await client.post({"text": "a"})
        _, second, _ = await client.post({"text": "a"})
        _, again, _ = await client.post({"text": "a"}, idempotency_key='"k1"')
        _, same, _ = await client.post({"text": "a"}, idempotency_key="k1")
        ids = [header_text(record.headers, "ce_id") for record in await all_records(log, "orders")]
    assert sorted(ids) == sorted([first["id"], second["id"], again["id"]])
    assert (same["id"], same["repeated"]) == (again["id"], True)
    assert len(set(ids)) == 3


@pytest.mark.parametrize(("key", "expected"), [("event_id", b"o-1"), ("none", None), ("shop", b"berlin")])
async def test_the_key_is_chosen_by_option(tmp_path, log, key, expected):
    """The record's key, hence the order, is the subject, the id, nothing, or a field of the input."""
    async with serving(log, options_in(tmp_path, key=key)) as client:
        await client.post(order(1, shop="berlin"))
        (record,) = await all_records(log, "orders")
    assert record.key == expected


async def test_urgency_goes_with_the_events(client, log):
    """penstock-priority and penstock-deadline become the headers that workers read; nonsense is refused."""
    soon = str(int(time.time() * 1000) + 60_000)
    await client.post(order(1), penstock_priority="high", penstock_deadline=soon)
    (record,) = await all_records(log, "orders")
    assert header_text(record.headers, "penstock.priority") == "high"
    assert header_text(record.headers, "penstock.deadline") == soon
    status, told, _ = await client.post(order(2), penstock_priority="urgent")
    assert (status, told["type"]) == (400, "urn:penstock:problem:malformed")


async def test_several_topics_have_pages_of_their_own(tmp_path, log):
    """With several topics each is named; `/v1/events` says where to go; an unknown topic is a 404."""
    tasks = (order_task(), order_task("second", "other-orders"))
    async with serving(log, options_in(tmp_path), *tasks) as client:
        status, told, _ = await client.post(order(1), path="/v1/topics/other-orders/events")
        assert (status, told["topic"]) == (202, "other-orders")
        assert (await client.get("o-1", path="/v1/topics/other-orders/events"))[0] == 200
        assert (await client.get("o-1", path="/v1/topics/orders/events"))[0] == 404
        for path in ("/v1/events", "/v1/topics/nope/events"):
            status, told, _ = await client.post(order(1), path=path)
            assert (status, told["type"]) == (404, "urn:penstock:problem:unknown-topic")
            assert "orders, other-orders" in told["detail"]


# --- refused ----------------------------------------------------------------------------------------------------

BAD = [
    ("malformed JSON", {"data": b'{"id": "' + SECRET_TEXT.encode()}, 400, "not-json"),
    ("nothing", {"data": b""}, 400, "not-json"),
    ("two documents", {"data": b'{"id":"a","text":""} {}'}, 400, "not-json"),
    ("no UTF-8", {"data": b'{"id":"\xff"}'}, 400, "not-json"),
    ("array without end", {"data": b'[{"id":"a","text":""}'}, 400, "not-json"),
    ("array with a rest", {"data": b"[1] 2"}, 400, "not-json"),
    ("NaN in an array", {"data": b"[NaN]"}, 400, "not-json"),
    ("too deep", {"data": b"[" * 100_000}, 400, "not-json"),
    ("empty array", {"data": b"[]"}, 400, "malformed"),
    ("only newlines", {"data": b"\n\n", "content_type": "application/x-ndjson"}, 400, "malformed"),
    ("wrong type", {"content": order(1, amount=SECRET_TEXT)}, 422, "invalid-event"),
    ("out of range", {"content": order(1, amount=-1)}, 422, "invalid-event"),
    ("unknown field", {"content": order(1, **{SECRET_TEXT: 1})}, 422, "invalid-event"),
    ("no object", {"data": b'"' + SECRET_TEXT.encode() + b'"'}, 422, "invalid-event"),
    ("lone surrogate in the id", {"data": b'{"id":"\\ud800","text":""}'}, 422, "invalid-event"),
    ("large event", {"content": order(1, text="x" * 5_000)}, 413, "too-large"),
    ("large body", {"data": b"x" * 30_000}, 413, "too-large"),
    ("too many events", {"data": b"[" + b"1," * 10 + b"1]"}, 413, "too-large"),
    ("text", {"data": b"{}", "content_type": "text/plain"}, 415, "unsupported-media-type"),
    ("a form", {"data": b"a=1", "content_type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
    ("other charset", {"data": b"{}", "content_type": "application/json; charset=latin1"}, 415, "unsupported-media-type"),
    ("compressed", {"data": b"{}", "content_encoding": "gzip"}, 415, "unsupported-media-type"),
    ("CloudEvents Avro", {"data": b"{}", "content_type": "application/cloudevents+avro"}, 415, "unsupported-media-type"),
    ("half a CloudEvent", {"content": order(1), "ce_id": "1"}, 400, "malformed"),
    ("CloudEvents 2", {"content": order(1), **CE, "ce_specversion": "2.0"}, 400, "malformed"),
    ("attribute no UTF-8", {"content": order(1), **CE, "ce_tenant": "%FF"}, 400, "malformed"),
    ("envelope without data", {"content": {"specversion": "1.0", "id": "1"}, "content_type": "application/cloudevents+json"}, 422, "invalid-event"),
    ("empty Idempotency-Key", {"content": order(1), "idempotency_key": '""'}, 400, "malformed"),
    ("endless Idempotency-Key", {"content": order(1), "idempotency_key": "k" * 300}, 400, "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "status", "kind"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
async def test_bad_input_is_refused_and_not_repeated(tmp_path, log, call, status, kind):
    """Every bad input has a problem of its own that says what to do, nothing of it is in the log or in the answer."""
    options = options_in(tmp_path, max_event_bytes=4_000, max_body_bytes=20_000, max_batch_events=10)
    if kind == "not-json" and call.get("data", b"").startswith(b"[["):
        options = options_in(tmp_path)
    async with serving(log, options) as client:
        found, told, headers = await client.post(**call)
        assert (found, told["type"]) == (status, f"urn:penstock:problem:{kind}")
        assert headers["content-type"] == "application/problem+json"
        assert set(told) == {"type", "title", "status", "detail"}
        assert SECRET_TEXT not in json.dumps(told)
        assert await all_records(log, "orders") == []


async def test_a_batch_says_of_each_event_what_became_of_it(client, log):
    """Good events of a mixed batch are accepted, the others are named by index; nothing accepted is a 422."""
    mixed = [order(1), {"id": "x", "text": 7}, order(2), order(1), order(1, amount=9)]
    status, told, _ = await client.post(mixed)
    assert (status, told["accepted"], told["repeated"], told["refused"]) == (207, 3, 1, 2)
    assert [item["state"] for item in told["items"]] == ["accepted", "refused", "accepted", "accepted", "refused"]
    assert [item["problem"]["status"] for item in told["items"] if item["state"] == "refused"] == [422, 409]
    status, told, _ = await client.post([{"id": "x"}, {}])
    assert (status, told["type"], len(told["items"])) == (422, "urn:penstock:problem:nothing-accepted", 2)
    assert len(await all_records(log, "orders")) == 2


async def test_an_event_must_fit_every_task_of_its_topic(tmp_path, log):
    """What one task of the topic could not read is refused, with that task's name."""

    class Rich(BaseModel):
        id: str
        text: str
        price: float

    tasks = (order_task(), order_task("pricer", input=Rich))
    async with serving(log, options_in(tmp_path), *tasks) as client:
        status, told, _ = await client.post(order(1))
        assert (status, "task pricer: price" in told["detail"]) == (422, True)


async def test_unknown_pages_and_methods_are_problems(client):
    """404 and 405 speak problem+json, with Allow; no banner says what serves."""
    async with client.session.get(client.url + "/admin") as reply:
        assert (reply.status, reply.content_type) == (404, "application/problem+json")
        assert "server" not in reply.headers
    async with client.session.delete(client.url + "/v1/events") as reply:
        assert (reply.status, reply.headers["allow"]) == (405, "POST")


async def test_every_answer_is_safe_for_browsers(client):
    """Nothing may be cached, framed, sniffed or read by another site's page; CORS is off."""
    async with client.session.options(
        client.url + "/v1/events", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    ) as reply:
        assert reply.status == 405
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]


async def test_without_keys_no_foreign_name_is_answered(client):
    """A foreign site whose name points at this machine gets nothing (DNS rebinding)."""
    status, told, _ = await client.post(order(1), host="evil.example")
    assert (status, told["type"]) == (421, "urn:penstock:problem:wrong-host")
    for name in ("localhost:1", "127.0.0.1", "[::1]:8080"):
        assert (await client.post(order(1), host=name))[0] == 202


# --- the network --------------------------------------------------------------------------------------------------


async def raw(client: Client, sent: bytes, *, then: bytes = b"", timeout_seconds: float = 10.0) -> bytes:
    """What comes back on a connection of its own until it is closed."""
    host, port = client.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(timeout_seconds):
            if then:
                writer.write(then)
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


HEAD = b"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"


async def test_a_body_of_100_mb_is_refused_before_it_is_read(client):
    """The length alone is enough to refuse it, and the connection ends."""
    said = await raw(client, HEAD + b"content-length: 104857600\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in said.lower()


async def test_an_endless_chunked_body_is_cut_off(tmp_path, log):
    """Without a length it is read up to the limit and not further."""
    async with serving(log, options_in(tmp_path, max_body_bytes=10_000)) as client:
        chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        said = await raw(client, HEAD + b"transfer-encoding: chunked\r\n\r\n", then=chunk * 4)
    assert said.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent", [b"POST /v1/ev", HEAD, HEAD + b"content-length: 50\r\n\r\n{"], ids=["line", "head", "body"]
)
async def test_slow_senders_are_not_waited_for(tmp_path, log, sent):
    """A request that stops in the middle, wherever, ends with 408 (slow loris)."""
    async with serving(log, options_in(tmp_path, header_seconds=0.2, body_seconds=0.2)) as client:
        assert (await raw(client, sent)).startswith(b"HTTP/1.1 408 ")


async def test_endless_headers_are_cut_off(client):
    """32 KiB of headers are enough for anybody; what is no HTTP is a problem too."""
    said = await raw(client, HEAD + b"x-long: " + b"a" * 40_000)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert (await raw(client, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_more_than_there_is_room_for_is_told_to_come_back(tmp_path, log):
    """Bodies in progress have a ceiling together: 503 with retry-after, and nothing is lost for who waits."""
    log.gate = asyncio.Event()
    async with serving(log, options_in(tmp_path, max_requests=1)) as client:
        first = asyncio.create_task(client.post(order(1)))
        await asyncio.sleep(0.2)
        status, told, headers = await client.post(order(2))
        assert (status, told["type"], headers["retry-after"]) == (503, "urn:penstock:problem:busy", "1")
        log.gate.set()
        assert (await first)[0] == 202


# --- repeats ------------------------------------------------------------------------------------------------------


async def test_a_repeat_is_harmless(client, log):
    """The same event again, by its own id or by Idempotency-Key, is accepted and not written again."""
    for headers in ({}, {"idempotency_key": "k"}):
        first = await client.post(order(7, text=str(headers)) | {"id": f"o-{len(headers)}"}, **headers)
        again = await client.post(order(7, text=str(headers)) | {"id": f"o-{len(headers)}"}, **headers)
        assert (first[0], again[0], again[1]["repeated"]) == (202, 202, True)
        assert first[1]["id"] == again[1]["id"]
    assert len(await all_records(log, "orders")) == 2


async def test_the_same_name_with_another_content_is_a_conflict(client, log):
    """409 for an id and for an Idempotency-Key; a new Idempotency-Key makes it another event on purpose."""
    await client.post(order(1))
    status, told, _ = await client.post(order(1, text="edited"))
    assert (status, told["type"]) == (409, "urn:penstock:problem:id-conflict")
    assert (await client.post(order(1, text="edited"), idempotency_key="edit-1"))[0] == 202
    status, told, _ = await client.post(order(1, text="again"), idempotency_key="edit-1")
    assert (status, told["type"]) == (409, "urn:penstock:problem:key-conflict")
    assert len(await all_records(log, "orders")) == 2


async def test_repeats_are_known_after_a_restart(tmp_path):
    """The memory is a file: a new process on it knows what the last one accepted."""
    for expected in (False, True):
        async with serving(SqliteLog(tmp_path / "log.db", options=QUICK), options_in(tmp_path)) as client:
            status, told, _ = await client.post([order(n) for n in range(3)])
            assert (status, told["repeated"]) == (202, 3 * expected)


async def test_fifty_at_once_are_one_event(tmp_path):
    """One Idempotency-Key, fifty requests at the same moment on two gateways of one machine: one event in the log."""
    logs = [Weather(tmp_path / "log.db", options=QUICK) for _ in range(2)]
    async with serving(logs[0], options_in(tmp_path)) as one, serving(logs[1], options_in(tmp_path)) as two:
        calls = [client.post(order(1), idempotency_key="once") for client in (one, two) * 25]
        answers = await asyncio.gather(*calls)
        assert {status for status, _, _ in answers} == {202}
        assert sum(not told["repeated"] for _, told, _ in answers) == 1
        assert len(await all_records(logs[0], "orders")) == 1


async def test_what_could_not_be_written_is_written_by_the_repeat(client, log):
    """503 with retry-after when the log is away; the repeat is a first time, and has the same id."""
    log.error = LogUnavailable("away")
    status, told, headers = await client.post(order(1), idempotency_key="k")
    assert (status, told["type"]) == (503, "urn:penstock:problem:log-unavailable")
    assert int(headers["retry-after"]) >= 1
    log.error = None
    status, told, _ = await client.post(order(1), idempotency_key="k")
    assert (status, told["repeated"]) == (202, False)
    assert len(await all_records(log, "orders")) == 1


async def test_a_caller_who_hangs_up_is_written_all_the_same(client, log):
    """The act of writing goes on without its caller: the repeat finds it done."""
    log.gate = asyncio.Event()
    calling = asyncio.create_task(client.post(order(1)))
    await asyncio.sleep(0.2)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    log.gate.set()
    status, told, _ = await client.post(order(1))
    assert (status, told["repeated"]) == (202, True)
    assert log.appended == 1


# --- backpressure --------------------------------------------------------------------------------------------------


async def test_while_the_log_hangs_new_events_are_refused_at_once(tmp_path, log):
    """An append that waits too long closes the door: nobody else waits for the same log."""
    log.gate = asyncio.Event()
    async with serving(log, options_in(tmp_path, log_patience_seconds=0.05)) as client:
        first = asyncio.create_task(client.post(order(1)))
        await asyncio.sleep(0.3)
        status, told, headers = await client.post(order(2))
        assert (status, told["type"], "retry-after" in headers) == (429, "urn:penstock:problem:log-unreachable", True)
        log.gate.set()
        assert (await first)[0] == 202
        assert (await client.post(order(2)))[0] == 202


async def test_a_log_that_does_not_answer_closes_the_door(tmp_path, log):
    """429 with retry-after before a body is read, and not ready; open again as soon as the log answers."""
    async with serving(log, options_in(tmp_path, look_seconds=0.05)) as client:

        async def is_ready() -> bool:
            async with client.session.get(client.url + "/readyz") as reply:
                return reply.status == 200

        async def is_closed() -> bool:
            return not await is_ready()

        assert await is_ready()
        log.is_away = True
        await until(is_closed)
        status, told, headers = await client.post(order(1))
        assert (status, told["type"], headers["retry-after"]) == (429, "urn:penstock:problem:log-unreachable", "2")
        assert log.appended == 0
        log.is_away = False
        await until(is_ready)
        assert (await client.post(order(1)))[0] == 202


# --- keys ---------------------------------------------------------------------------------------------------------


async def test_keys_open_what_their_scopes_say(tmp_path, log):
    """No key, a wrong one and one that is over are 401; a key without the scope is 403."""
    options = options_in(tmp_path, auth="keys")
    writer, reader = (made_key(options.keys_file, scopes=[f"events:{scope}"]) for scope in ("write", "read"))
    over = made_key(options.keys_file, days=1e-9)
    async with serving(log, options) as client:
        for wrong in ("", "nonsense", writer[:-1] + ("A" if writer[-1] != "A" else "B"), over):
            client.key = wrong
            status, told, headers = await client.post(order(1))
            assert (status, told["type"]) == (401, "urn:penstock:problem:unauthorized")
            assert headers["www-authenticate"].startswith("Bearer")
        client.key = writer
        assert (await client.post(order(1)))[0] == 202
        assert (await client.get("o-1"))[0] == 403
        client.key = reader
        assert (await client.get("o-1"))[0] == 200
        assert (await client.post(order(2)))[0] == 403


async def test_two_keys_of_one_name_are_one_client(tmp_path, log):
    """Rotation: an Idempotency-Key belongs to the client, not to the key; another client's is another."""
    options = options_in(tmp_path, auth="keys")
    old, new, other = (made_key(options.keys_file, name) for name in ("shop", "shop", "app"))

    class Plain(BaseModel):
        text: str

    async with serving(log, options, order_task(input=Plain)) as client:
        told = []
        for key in (old, new, other):
            client.key = key
            told.append((await client.post({"text": "x"}, idempotency_key="k"))[1])
    assert told[0]["id"] == told[1]["id"] != told[2]["id"]
    assert [one["repeated"] for one in told] == [False, True, False]


async def test_keys_come_and_go_while_it_runs(tmp_path, log):
    """A key that is added to the file opens within seconds, and one that is taken out does not any more."""
    options = options_in(tmp_path, auth="keys")
    made_key(options.keys_file)
    before = options.keys_file.read_text()
    async with serving(log, options) as client:
        client.key = made_key(options.keys_file)
        await until_status(client, 202)
        options.keys_file.write_text(before)
        await until_status(client, 401)


async def until_status(client: Client, wanted: int) -> None:
    async def has_it() -> bool:
        return (await client.post(order(1)))[0] == wanted

    await until(has_it)


async def test_a_client_that_is_too_fast_waits(tmp_path, log):
    """Each key has a rate of its own: 429 with the time to wait, and others are not held up."""
    options = options_in(tmp_path, auth="keys")
    slow = made_key(options.keys_file, "slow", events_per_second=0.5)
    fast = made_key(options.keys_file, "fast")
    async with serving(log, options) as client:
        client.key = slow
        assert (await client.post([order(n) for n in range(5)]))[0] == 202
        status, told, headers = await client.post(order(9))
        assert (status, told["type"]) == (429, "urn:penstock:problem:rate-limited")
        assert 1 <= int(headers["retry-after"]) <= 20
        client.key = fast
        assert (await client.post(order(9)))[0] == 202


# --- what cannot start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"auth": "none", "host": "0.0.0.0"}, "gateway.auth"),
        ({"port": 70_000}, "gateway.port"),
        ({"max_body_bytes": 0}, "gateway.max_body_bytes"),
        ({"max_event_bytes": 2_000_000}, "gateway.max_event_bytes"),
        ({"tls_private_key": "key.pem"}, "gateway.tls_certificate"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, named):
    """A wrong setting is told before anything starts."""
    with pytest.raises(SettingsError, match=named):
        GatewayOptions(**settings)


def test_what_cannot_be_served_is_told(tmp_path, log):
    """No keys, a key field that is none, a task that reads a registry's format, a port that is taken."""
    with pytest.raises(SettingsError, match="penstock gateway key"):
        build_server([order_task()], log, options_in(tmp_path, auth="keys"))
    with pytest.raises(SettingsError, match=r"gateway\.key='nope'.*id, text, shop"):
        build_server([order_task()], log, options_in(tmp_path, key="nope"))
    with pytest.raises(SettingsError, match="schema registry"):
        build_server([order_task(decode=RegistryCodec())], log, options_in(tmp_path))


async def test_a_port_that_is_taken_is_told(tmp_path, client):
    """The text names the setting."""
    port = int(client.url.rpartition(":")[2])
    second = build_server(
        [order_task()], SqliteLog(tmp_path / "log.db", options=QUICK), options_in(tmp_path, port=port)
    )
    with pytest.raises(SettingsError, match=r"gateway\.port"):
        await second.run()


async def test_health_says_whether_events_can_be_taken(client):
    """Alive while the process answers, ready while the log does."""
    for page in ("/livez", "/readyz"):
        async with client.session.get(client.url + page) as reply:
            assert reply.status == 200
