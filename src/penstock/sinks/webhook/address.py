"""Where a webhook may go: an address that a user typed must not reach what only this machine can (SSRF).

endpoint → [address] → post

A host is written in plain letters, so that whoever reads the URL reads the same host. The name is resolved once for an
attempt, every answer is judged, and so is what a socket is made for: a name that resolves otherwise a moment later changes
nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from penstock.errors import SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS = {"https": 443, "http": 80}
MOST_URL_CHARS = 2_000
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?))(?::[0-9]{0,5})?")
"""Host and port. Of other characters some readers make dots and digits: 127。0。0。1 is this machine to them."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in ("64:ff9b:1::/48", "192.0.0.0/24", "192.88.99.0/24", "2001:db8::/32", "3fff::/20")
)
"""Some tables of Python's, or some of its versions, let these pass: a site's own NAT64, protocol anycast, documentation."""
_COMPATIBLE = ipaddress.ip_network("::/96")
"""IPv4 addresses in the clothes of IPv6, deprecated and still routed by some."""


class AddressRefused(Exception):
    """No connection is made there."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart and found to be one that a webhook may have."""

    url: str
    host: str
    port: int
    is_tls: bool

    @property
    def shown(self) -> str:
        """For logs: without path and query, which may hold secrets."""
        return f"{'https' if self.is_tls else 'http'}://{self.host}:{self.port}"


def target_of(url: str, setting: str, *, allows_http: bool = False, allows_ports: bool = False) -> Target:
    """Raises `SettingsError` with what to write instead."""
    parts = _split(url, setting)
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise SettingsError(f"{setting}: a webhook goes to https://…, not to {scheme or 'a bare name'}")
    if scheme == "http" and not allows_http:
        raise SettingsError(
            f"{setting}: http would show reviews and signatures to everyone on the way: use https, or allow_http = true for a test"
        )
    if "@" in parts.netloc:
        raise SettingsError(f"{setting}: leave user and password out of the URL; the signature says who sends")
    host = _host(parts, setting)
    port = parts.port or PORTS[scheme]
    if port != PORTS[scheme] and not allows_ports:
        raise SettingsError(f"{setting}: port {port}: webhooks go to {PORTS[scheme]}, others need allow_networks")
    return Target(url, host, port, scheme == "https")


def _split(url: str, setting: str) -> SplitResult:
    if len(url) > MOST_URL_CHARS or any(char.isspace() or not char.isprintable() for char in url):
        raise SettingsError(f"{setting}: a URL has no blanks and at most {MOST_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError("no host" if not parts.hostname else "port 0")
    except ValueError as error:
        raise SettingsError(f"{setting}: this is no URL ({error}): write https://shop.example.com/hooks") from None
    return parts


def _host(parts: SplitResult, setting: str) -> str:
    """A name or a proper address. 127.1, 2130706433 and 0x7f000001 are taken for addresses by some resolvers only."""
    if not parts.netloc.isascii():
        raise SettingsError(f"{setting}: this host has letters beyond ASCII: write its xn--… form")
    found = _PLACE.fullmatch(parts.netloc)
    six, host = (found[1], found[1] or found[2]) if found else (None, parts.netloc)
    last = host.rstrip(".").rpartition(".")[2].lower()
    if found is None or (_literal(host) is None and (six or last.isdigit() or last.startswith("0x"))):
        raise SettingsError(f"{setting}: {host} is an odd way of writing an address: write a name, or 203.0.113.7")
    return host.lower()


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def networks_of(given: tuple[str, ...], setting: str) -> tuple[Network, ...]:
    """Internal networks that a person has allowed."""
    try:
        return tuple(ipaddress.ip_network(text) for text in given)
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}; write networks as 10.20.0.0/16") from None


async def resolve(host: str, port: int, allowed: tuple[Network, ...] = (), family: int = socket.AF_UNSPEC) -> list[str]:
    """Literal addresses to connect to. Raises `AddressRefused` if one of them is not public, OSError if there is none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # labels that are too long or empty
        raise OSError(f"{host[:100]} is no name") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    for text in addresses:
        judge(text, host, allowed)
    return addresses


def judge(text: str, host: str, allowed: tuple[Network, ...]) -> None:
    """Raises `AddressRefused` where this address is neither public nor allowed. A zone does not change what it is."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if not (is_public(address) or any(address.version == net.version and address in net for net in allowed)):
        raise AddressRefused(
            f"{host} is {address}, which is not public: if this receiver is yours, name its network in allow_networks"
        )


def is_public(address: Address) -> bool:
    """Whether it is an ordinary address of the internet, whatever it is wrapped into."""
    if isinstance(address, IPv6Address):
        low = int(address) & 0xFFFFFFFF
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP and not is_public(IPv4Address(low)):
            return False  # and where it is, what stands around it is judged, too: it may be any prefix
        if inner := _inside(address):
            return all(is_public(one) for one in inner)
        if address in _COMPATIBLE or address.is_site_local:
            return False
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def _inside(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that it stands for by its prefix."""
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()
