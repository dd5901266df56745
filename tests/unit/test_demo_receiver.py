"""The demo's receiver believes nobody, and what comes over HTTP is followed to where it arrives."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime

import aiohttp
import pytest
from standardwebhooks import Webhook

from penstock.demo.gateway import Port
from penstock.demo.guests import MOST_FOLLOWED, Guests
from penstock.demo.producer import MARK
from penstock.demo.receiver import Receiver
from penstock.record import Record
from penstock.sinks.webhook.signing import new_secret


@pytest.fixture
async def receiver():
    made = Receiver()
    await made.start()
    yield made
    await made.stop()


def signed(secret, message_id, body):
    now = datetime.now(UTC)
    signature = Webhook(secret).sign(msg_id=message_id, timestamp=now, data=body)
    return {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


def message(event_id="e1", kind="penstock.result.v1"):
    data = {"event_id": event_id, "simulated": True}
    return json.dumps({"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data})


async def post(receiver, page, body, headers=None):
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{receiver.port}/{page}"
        async with session.post(url, data=body, headers=headers or {}) as reply:
            return reply.status


async def test_only_what_is_signed_rightly_counts_and_each_id_once(receiver):
    """Another secret, a changed body, garbage headers: 401, and counted apart; a repeat is told from a new one."""
    secret = receiver.webhook("t").plain_secrets()[0]
    body = message()
    headers = signed(secret, "m1", body)
    assert await post(receiver, "webhook", body, headers) == 204
    assert await post(receiver, "webhook", body, headers) == 204
    assert (receiver.webhooks, receiver.repeats, receiver.simulated, receiver.refused) == (1, 1, 1, 0)
    assert await post(receiver, "webhook", body, signed(new_secret(), "m2", body)) == 401
    assert await post(receiver, "webhook", body + " ", headers) == 401
    assert await post(receiver, "webhook", b"\xff", headers) == 401
    assert await post(receiver, "webhook", body, headers | {"webhook-signature": "v1"}) == 401
    assert await post(receiver, "webhook", body) == 401
    assert (receiver.webhooks, receiver.refused) == (1, 5)
    erased = message(kind="penstock.erased.v1")
    assert await post(receiver, "webhook", erased, signed(secret, "m3", erased)) == 204
    assert (receiver.webhooks, receiver.erasures, len(receiver.delays_ms)) == (2, 1, 1)


@pytest.mark.parametrize("body", [b"[[[", b"7", b"{}", b'{"text":"a","blocks":[1]}', b'{"text":"a","blocks":[]}', b'{"text":"a","blocks":[{"text":{"text":7}}]}'])  # fmt: skip
async def test_what_slack_would_refuse_is_no_digest(receiver, body):
    """400, as Slack says it; only a payload with text and blocks is counted."""
    assert await post(receiver, "slack", body) == 400
    assert (receiver.digests, receiver.refused) == (0, 1)
    good = {"text": "a", "blocks": [{"type": "section", "text": {"text": "e1 &amp; co · sure"}}, {"type": "divider"}]}
    assert await post(receiver, "slack", json.dumps(good)) == 200
    assert receiver.last_digest == ["e1 & co · sure"]


def event(offset, mark=False):
    headers = ((MARK, b"1/1"),) if mark else ()
    return Record("review-events", 0, offset, None, b"{}", headers, 0)


def result(offset, event_id, decision):
    place = {"topic": "review-events", "partition": 0, "offset": offset}
    times = {"produced": 0, "committed": 840}
    return {"event_id": event_id, "source": place, "times": times, "output": {"decision": decision, "violations": []}}


async def test_an_event_of_somebody_else_has_arrived_when_it_has_arrived_everywhere(receiver):
    """Verdict, row, webhook, and where it is held back the digest that names it, in whatever order; the demo's own are not told."""
    told = []
    rows = set()

    async def has_row(task, event_id):
        return (task, event_id) in rows

    guests = Guests("moderator", receiver, has_row, told.append)
    guests.see_event(event(1, mark=True))
    guests.see_ending("moderator", result(1, "own", "reject"))
    guests.see_event(event(2))
    receiver.latest_events.append("e\x1b2")
    guests.see_ending("moderator", result(2, "e\x1b2", "reject"))
    assert told == ["e?2: moderator says reject after 0.84 s"]
    rows.add(("moderator", "e\x1b2"))
    await guests.look()
    receiver.latest_lines.append("e\x1b22 · sure")
    await guests.look()
    assert len(told) == 1
    receiver.latest_lines.append("e\x1b2 · sure, simulated")
    await guests.look()
    await guests.look()
    assert told[1:] == ["e?2: row written, webhook verified, Slack digest caught"]
    assert guests.count == 1


async def test_a_flood_is_counted_and_only_its_latest_are_followed(receiver):
    """Memory and screen are bounded, whatever somebody sends."""
    told = []

    async def has_row(*_):
        return True

    guests = Guests("moderator", receiver, has_row, told.append)
    for offset in range(1_000):
        guests.see_event(event(offset))
    for offset in range(1_000):
        guests.see_ending("moderator", result(offset, f"e{offset}", "publish"))
    assert guests.count == 1_000
    assert len(told) == MOST_FOLLOWED
    assert "e999: moderator says publish after 0.84 s" in told


def test_a_port_that_is_taken_is_left_to_its_owner():
    """The wanted one where it is free, else another; two demos that start at once have two, though no gateway listens yet."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        first = Port(wanted)
        assert first.number != wanted
        first.close()
    first, second = Port(wanted), Port(wanted)
    assert first.number == wanted
    assert second.number != wanted
    first.close()
    third = Port(wanted)
    assert third.number == wanted
    for port in (second, third):
        port.close()
