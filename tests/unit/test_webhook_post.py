"""A message is signed by the standard, goes nowhere inside, and every answer has one meaning."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from penstock.errors import SettingsError
from penstock.sinks.webhook.address import AddressRefused, is_public, networks_of, resolve, target_of
from penstock.sinks.webhook.post import Post, PostOptions, read_reply, wish_seconds
from penstock.sinks.webhook.schedule import DELAYS_SECONDS, next_delay_seconds
from penstock.sinks.webhook.signing import Signer, new_secret

OLD, NEW = new_secret(), new_secret()
LOOPBACK = networks_of(("127.0.0.0/8",), "allow_networks")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_post("/hooks", handler)
    app.router.add_post("/elsewhere", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def post_to(port: int, *, host: str = "127.0.0.1", seconds: float = 5.0, allow=LOOPBACK) -> AsyncIterator[Post]:
    target = target_of(f"http://{host}:{port}/hooks", "url", allows_http=True, allows_ports=True)
    post = Post(target, Signer([NEW, OLD], "secrets"), PostOptions(seconds, allow))
    await post.open()
    try:
        yield post
    finally:
        await post.close()


# --- signatures


async def test_the_standards_own_verifier_takes_what_arrives():
    """With either secret while one is changed for the other, and with no third one; id and body are what was signed."""
    seen = []

    async def take(request: web.Request) -> web.Response:
        seen.append(((await request.read()), dict(request.headers)))
        return web.Response(status=204)

    async with receiver(take) as port, post_to(port) as post:
        reply = await post.send("msg_1", '{"type":"review.moderated","text":"Ünïcode"}')
    assert (reply.verdict, reply.status) == ("delivered", 204)
    ((body, headers),) = seen
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(body, headers)["text"] == "Ünïcode"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body, headers | {"webhook-id": "msg_2"})


@given(st.integers(-12, 14), st.integers(0, 4_000_000_000))
def test_a_signature_does_not_depend_on_the_zone(hours, at):
    """The same instant signs alike, whatever zone the machine's clock shows."""
    now = datetime.fromtimestamp(at, UTC)
    elsewhere = now.astimezone(timezone(timedelta(hours=hours)))
    signer = Signer([NEW], "secrets")
    assert signer.headers("m", "{}", now) == signer.headers("m", "{}", elsewhere)


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ([], "empty"),
        (["sekrit-value"], "begins with whsec_"),
        (["whsec_????"], "no base64"),
        (["whsec_c2hvcnQ="], "24 to 64 bytes, this one 5"),
        ([OLD, NEW, OLD], "at most 2"),
    ],
)
def test_a_bad_secret_is_told_without_showing_it(secrets, said):
    """The error names the setting and says what is wrong, never the secret."""
    with pytest.raises(SettingsError, match=said) as error:
        Signer(secrets, "sinks.shop.secrets")
    assert "sinks.shop.secrets" in str(error.value)
    assert not any(secret.removeprefix("whsec_") in str(error.value) for secret in secrets)


# --- addresses


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.5.5", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("64:ff9b:1:a00:1::808:808", False),
        ("2606:2800::5efe:10.0.0.1", False),
        ("2606:2800::200:5efe:93.184.216.34", True),
        ("192.0.0.9", False),
        ("192.88.99.1", False),
        ("3fff::1", False),
        ("2002:a00:1::", False),
        ("2001:0:a00:1::", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_only_addresses_of_the_internet_are_public(address, public):
    """Private, local, shared, reserved and multicast ones are not, however they are wrapped."""
    assert is_public(ip_address(address)) is public


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_no_spelling_of_this_machine_is_connected_to(host):
    """Without permission no connection is even tried; the reply says which setting would allow it."""
    asked = []

    async def take(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response()

    async with receiver(take) as port, post_to(port, host=host, allow=()) as post:
        reply = await post.send("m", "{}")
    assert (reply.verdict, reply.status, asked) == ("refused", 0, [])
    assert "allow_networks" in reply.detail


async def test_one_bad_answer_of_a_name_is_enough():
    """Each address that a name has is judged, not the first one only."""
    with pytest.raises(AddressRefused, match="not public"):
        await resolve("localhost", 80, networks_of(("::1/128",), "x"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://shop.example.com/", "use https"),
        ("ftp://shop.example.com/", "not to ftp"),
        ("shop.example.com/hooks", "no host"),
        ("https://127.1/", "odd way"),
        ("https://2130706433/", "odd way"),
        ("https://0x7f000001/", "odd way"),
        ("https://0/", "odd way"),
        ("https://", "no URL"),
        ("https://user:pass@shop.example.com/", "leave user and password out"),
        ("https://shop.example.com:8443/", "port 8443"),
        ("https://shop.example.com:99999/", "no URL"),
        ("https://shop.example.com/a b", "no blanks"),
        ("https://shop.example.com/" + "a" * 3_000, "at most 2000"),
    ],
)
def test_a_url_that_no_webhook_has_is_refused(url, said):
    """The setting and what to write instead are named."""
    with pytest.raises(SettingsError, match=said) as error:
        target_of(url, "sinks.shop.url")
    assert "sinks.shop.url" in str(error.value)


# --- answers


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"),
        (299, "delivered"),
        (301, "retry"),
        (307, "retry"),
        (400, "retry"),
        (404, "retry"),
        (410, "gone"),
        (429, "throttled"),
        (500, "retry"),
        (502, "throttled"),
        (503, "throttled"),
        (504, "throttled"),
    ],
)
def test_every_status_has_one_meaning(status, verdict):
    """By the standard: 2xx only, 3xx is a failure, 410 ends it, four ask for patience."""
    assert read_reply(status, None, "", 0.1).verdict == verdict


async def test_a_redirect_is_never_followed():
    """Where it leads to is not asked, with or without permission."""
    paths = []

    async def redirect(request: web.Request) -> web.Response:
        paths.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with receiver(redirect) as port, post_to(port) as post:
        reply = await post.send("m", "{}")
    assert (reply.verdict, paths) == ("retry", ["/hooks"])
    assert "give the final URL" in reply.detail


async def test_who_hangs_or_talks_without_end_is_left():
    """An attempt ends in its time, and no more than the beginning of an answer is read."""

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"\x1b[31mno " * 10_000)
        return response

    async with receiver(hang) as port, post_to(port, seconds=0.3) as post:
        reply = await post.send("m", "{}")
        assert (reply.verdict, reply.status) == ("retry", 0)
        assert "no answer within" in reply.detail
    async with receiver(flood) as port, post_to(port) as post:
        reply = await post.send("m", "{}")
    assert (reply.verdict, reply.status) == ("retry", 500)
    assert len(reply.detail) < 300
    assert "\x1b" not in reply.detail


async def test_nobody_there_is_weather_and_tells_no_path():
    """A refused connection or an unknown name is tried again; the log shows host and port alone."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    async with post_to(port) as post:
        reply = await post.send("m", "{}")
    assert (reply.verdict, reply.status) == ("retry", 0)
    async with post_to(port, host="no-such-host.invalid") as post:
        unknown = await post.send("m", "{}")
    assert unknown.verdict == "retry"
    assert "/hooks" not in reply.detail + unknown.detail


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[(None, None), ("120", 120.0), ("-5", None), ("soon", None), ("nan", None), ("inf", None)],
        ("Tue, 24 Nov 2026 12:01:00 GMT", 60.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_retry_after_in_every_form(text, seconds):
    """Seconds or a date; nonsense and the past are no wish."""
    assert wish_seconds(text, lambda: datetime(2026, 11, 24, 12, tzinfo=UTC)) == seconds


# --- the schedule


def test_the_schedule_is_the_standards():
    """Ten attempts; after the tenth there is none; the sum is three days and some hours."""
    chance = random.Random(1)
    delays = [next_delay_seconds(n, None, chance) for n in range(1, 11)]
    assert delays[-1] is None
    assert len([d for d in delays if d is not None]) == 9
    assert sum(DELAYS_SECONDS) == pytest.approx(75.5 * 3600, rel=0.01)


@given(st.integers(1, 9), st.floats(0, 1e7), st.randoms(use_true_random=False))
def test_a_receivers_wish_is_kept_and_has_a_bound(attempts, wish, chance):
    """Never sooner than asked for, never sooner than planned, never later than a day and some jitter."""
    delay = next_delay_seconds(attempts, wish, chance)
    assert delay is not None
    assert delay >= min(wish, 24 * 3600)
    assert DELAYS_SECONDS[attempts - 1] <= delay <= max(24 * 3600, DELAYS_SECONDS[attempts - 1]) * 1.1
