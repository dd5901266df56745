"""Whatever a URL's host is written like, the address that is judged is the one that is connected to."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from penstock.errors import SettingsError
from penstock.sinks.webhook.address import Target, is_public, target_of
from penstock.sinks.webhook.post import Post, PostOptions
from penstock.sinks.webhook.signing import Signer, new_secret

WIDE = {ord("0") + n: 0xFF10 + n for n in range(10)}
ROUND = {ord("0") + n: 0x2460 + n - 1 for n in range(1, 10)}
INSIDE = ["127.0.0.1", "0.0.0.0", "10.1.2.3", "100.64.0.1", "169.254.169.254", "172.16.0.1", "192.168.0.1", "224.0.0.1"]
INSIDE_SIX = ["::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "fec0::1", "fd00::5efe:808:808"]


def spellings(four: IPv4Address) -> list[str]:
    """What one reader or another takes for this address."""
    number, parts = int(four), [str(part) for part in four.packed]
    tail = str(number & 0xFFFFFF)
    bare = [
        *(".".join(parts), str(number), hex(number), f"0{number:o}", f"{parts[0]}.{tail}"),
        ".".join(f"0{int(part):o}" for part in parts),
        ".".join(hex(int(part)) for part in parts),
        ".".join([*parts[:3], hex(int(parts[3]))]),
        ".".join(part.zfill(3) for part in parts),
    ]
    worn = [text.translate(table) for text in bare for table in (WIDE, ROUND)]
    dotted = [text.replace(".", dot) for text in bare + worn for dot in "\u3002\uff0e\uff61"]
    coded = ["".join(f"%{ord(char):02x}" for char in text) for text in bare] + [
        text.replace(".", "%2e") for text in bare
    ]
    six = [f"[::ffff:{four}]", f"[::{four}]", f"[64:ff9b::{four}]", f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]"]
    all_of = bare + worn + dotted + coded
    return [*all_of, *(text + dot for text in all_of for dot in (".", "\u3002", "..")), *six]


SIX = [text for six in INSIDE_SIX for text in (f"[{six}]", f"[{six}%25eth0]", f"[{six}%1]", f"[{six}]".translate(WIDE))]


@pytest.mark.parametrize("inside", [*INSIDE, "six"])
def test_no_spelling_of_an_inner_address_is_a_target(inside):
    """It is refused when it is set, or what the client makes of it is an address that is not public."""
    for host in SIX if inside == "six" else spellings(IPv4Address(inside)):
        url = f"https://{host}/hooks"
        try:
            target_of(url, "url")
        except SettingsError:
            continue
        assert not is_public(ip_address(URL(url).raw_host or "")), url


HOSTS = st.text(st.one_of(st.sampled_from("0127.xa-_:[]%@\\\u3002\uff61\uff11\u2460ß"), st.characters()), max_size=15)


@given(HOSTS)
@example("[::1]a.example")
@example("[v1.a]")
@example("shop.example\\@127.0.0.1")
@example("@127.0.0.1")
def test_the_host_that_is_judged_is_the_host_that_is_asked_for(host):
    """Of every text that is taken both readers make the same host, and none makes an address of what is no address."""
    url = f"https://{host}/hooks"
    with contextlib.suppress(SettingsError):
        target, asked = target_of(url, "url", allows_ports=True), URL(url)
        assert (asked.port, asked.user, asked.password) == (target.port, None, None)
        try:
            literal = ip_address(target.host)
        except ValueError:
            assert asked.raw_host == target.host
            with pytest.raises(OSError, match=r"."):  # the oldest reader of all: it takes 127.1 and 0x7f.1
                socket.inet_aton(target.host)
        else:
            assert ip_address(asked.raw_host or "") == literal


def test_a_name_in_other_letters_is_asked_for_in_plain_ones():
    """The error says how to write it; that form is taken."""
    with pytest.raises(SettingsError, match=r"sinks\.shop\.url: .*xn--"):
        target_of("https://bücher.example/hooks", "sinks.shop.url")
    assert target_of("https://XN--bcher-kva.example/hooks", "url").host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "host", ["127。0。0。1", "127.0.0.1".translate(WIDE), "127.0.0.1", "[::ffff:7f00:1]", "0.0.0.0"]
)
async def test_what_a_socket_is_made_for_is_judged(host):
    """Also where a host came past the check of settings: no connection is made, and the reply says what it was."""
    asked: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response()

    app = web.Application()
    app.router.add_post("/hooks", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    post = Post(
        Target(f"http://{host}:{port}/hooks", host, port, is_tls=False),
        Signer([new_secret()], "secrets"),
        PostOptions(5.0),
    )
    await post.open()
    try:
        reply = await post.send("m", "{}")
    finally:
        await post.close()
        await runner.cleanup()
    assert (reply.verdict, reply.status, asked) == ("refused", 0, [])
    assert "not public" in reply.detail


@pytest.mark.parametrize(
    "prefix", ["fd00::", "fe80::", "ff02::", "fec0::", "2001:db8::", "64:ff9b:1::", "2002:808:808::", "2606:2800::"]
)
@pytest.mark.parametrize("universal", ["", "200:"])
def test_an_address_within_another_is_as_public_as_both(prefix, universal):
    """ISATAP: what stands around the inner address counts, and what stands inside."""
    outer_is_public = prefix in {"2606:2800::", "2002:808:808::"}
    assert is_public(IPv6Address(f"{prefix}{universal}5efe:808:808")) is outer_is_public
    assert not is_public(IPv6Address(f"{prefix}{universal}5efe:a00:1"))
