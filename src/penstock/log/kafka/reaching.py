"""The first connection: a client that a broker has answered, or the reason why none does and the setting to change.

settings → [reaching] → admin → cli
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.log.kafka.connection import Connection

SLICE_SECONDS = 1.0
DOUBT_SECONDS = 2.0
"""A refused login or certificate is believed after this long: there may be other brokers in the list."""
LOOK_SECONDS = 5.0
DEFAULT_PORT = 9092
STATE = re.compile(r"\w+://\S+/bootstrap: | \(after .*\)$")
"""What only developers of librdkafka want to know."""
EXPIRED, NOT_YET_VALID = 10, 9
OTHER_NAMES = frozenset({62, 64})
"""OpenSSL's codes of `verify_code`: another host's name, another address."""


def reached(connection: Connection) -> Any:
    """An admin client whose question was answered. Raises `SettingsError` within seconds, naming address and setting."""
    client = connection.admin()
    connection.refusal = ""
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        patience = min(SLICE_SECONDS, max(0.1, began + connection.options.connect_timeout_seconds - asked))
        try:
            client.list_topics(timeout=patience)
        except KafkaException as error:
            client.poll(0)  # hands over what was said about the connections: refused, unknown host, wrong password
            cause = connection.last_error or connection.redacted(error.args[0].str())
        else:
            return client
        now = time.monotonic()
        is_refused = connection.refusal and now - began > DOUBT_SECONDS
        if is_refused or now - asked < patience / 2 or now - began >= connection.options.connect_timeout_seconds:
            raise SettingsError(_told(connection, connection.refusal or cause))


def _told(connection: Connection, cause: str) -> str:
    advice = _advice(connection, cause)
    said = f"no Kafka broker answers at {connection.bootstrap_servers}: {STATE.sub('', cause)}"
    return f"{said}\n{advice}" if advice else said


def _advice(connection: Connection, cause: str) -> str:
    protocol = connection.given("security.protocol").upper() or "PLAINTEXT"
    if "SASL" in protocol and ("SASL" in cause or "uthentication" in cause):
        return _login(connection, protocol, cause)
    if "alert" in cause and ("certificate" in cause or "handshake failure" in cause):
        return (
            "the broker wants a certificate of yours that it trusts: set ssl.certificate.location and ssl.key.location "
            "in [kafka], or take the listener for logins"
        )
    looked = _looked_at_port(connection, protocol)
    if not looked and protocol == "SSL" and _is_hang_up(cause):
        return (
            "the broker took the TLS connection and then hung up: if it wants a login, set security.protocol = "
            '"SASL_SSL" with sasl.mechanism, sasl.username and sasl.password in [kafka]'
        )
    return looked


def _is_hang_up(cause: str) -> bool:
    return "Disconnected" in cause or "brokers are down" in cause


def _login(connection: Connection, protocol: str, cause: str) -> str:
    mechanism = connection.given("sasl.mechanism") or connection.given("sasl.mechanisms") or "GSSAPI"
    if "not valid in current SASL state" in cause:
        without = "SSL" if protocol == "SASL_SSL" else "PLAINTEXT"
        return (
            f'this port takes no login: set security.protocol = "{without}" in [kafka] (it is {protocol}), '
            "or give the port of the listener with logins in log=kafka:…"
        )
    if "nsupported SASL mechanism" in cause:
        return (
            f"the broker has no logins of the kind {mechanism}: set sasl.mechanism in [kafka] to one that it supports"
        )
    if mechanism.upper() == "OAUTHBEARER":
        return "the token was refused or could not be had: check sasl.oauthbearer.* in [kafka]"
    return (
        f"the login as {connection.given('sasl.username')!r} with {mechanism} was refused: check sasl.username and "
        "sasl.password in [kafka] (PENSTOCK_KAFKA__SASL_PASSWORD or PENSTOCK_KAFKA__SASL_PASSWORD_FILE)"
    )


def _looked_at_port(connection: Connection, protocol: str) -> str:
    """What a TLS client of our own sees there: librdkafka tells neither that TLS was expected nor what a certificate lacks."""
    try:
        context = _context(connection, verifies=protocol.endswith("SSL"))
    except (OSError, ValueError):  # an authority that cannot be read: the client has said so itself
        return ""
    addresses = _addresses(connection.bootstrap_servers)
    for host, port in addresses:
        try:
            with socket.create_connection((host, port), LOOK_SECONDS / len(addresses)) as plain:
                return _greeted(connection, protocol, context, plain, host)
        except (OSError, ValueError):  # not to be reached; or no name at all, such as "kafka..local"
            continue
    return ""


def _greeted(connection: Connection, protocol: str, context: ssl.SSLContext, plain: socket.socket, host: str) -> str:
    is_tls = protocol.endswith("SSL")
    login = "SASL_" if "SASL" in protocol else ""
    try:
        with context.wrap_socket(plain, server_hostname=host):
            pass
    except ssl.SSLCertVerificationError as error:
        return _certificate(connection, host, error)
    except TimeoutError:  # silence tells nothing
        return ""
    except OSError:  # an alert, a hang-up: nobody there speaks TLS
        return (
            f'this port does not speak TLS: set security.protocol = "{login}PLAINTEXT" in [kafka] (it is {protocol}), '
            "or give the port of the TLS listener in log=kafka:…"
            if is_tls
            else ""
        )
    if is_tls:
        return ""
    return (
        f'this port speaks TLS: set security.protocol = "{login}SSL" in [kafka] (it is {protocol})'
        + ("" if login else ', or "SASL_SSL" with sasl.mechanism, sasl.username and sasl.password if it wants a login')
        + ", and ssl.ca.location where the cluster has an authority of its own"
    )


def _certificate(connection: Connection, host: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        return f"{error.verify_message}: who runs the broker has to renew it (or this machine's clock is wrong)"
    if error.verify_code in OTHER_NAMES:
        return (
            f"the broker's certificate is for other names than {host!r}: write a name that it has into log=kafka:…, "
            "or let who runs the broker issue one with this name"
        )
    authority = connection.given("ssl.ca.location")
    trusted = f"that in ssl.ca.location ({authority})" if authority else "those that this machine trusts"
    return (
        f"the broker's certificate was not signed by {trusted}: set ssl.ca.location in [kafka] to the file with the "
        f"cluster's authority ({error.verify_message})"
    )


def _context(connection: Connection, *, verifies: bool) -> ssl.SSLContext:
    authority = connection.given("ssl.ca.location")
    place = Path(authority) if authority and authority != "probe" else None
    context = ssl.create_default_context(
        cafile=str(place) if place and place.is_file() else None,
        capath=str(place) if place and place.is_dir() else None,
        cadata=connection.given("ssl.ca.pem") or None,
    )
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # librdkafka is not as strict
    if not verifies or connection.given("ssl.endpoint.identification.algorithm").lower() == "none":
        context.check_hostname = False
    if not verifies or connection.given("enable.ssl.certificate.verification").lower() == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _addresses(bootstrap_servers: str) -> list[tuple[str, int]]:
    found = []
    for address in bootstrap_servers.split(","):
        host, _, port = address.rpartition("://")[2].rpartition(":")
        with suppress(ValueError):
            found.append((host.strip("[]"), int(port)) if host else (port, DEFAULT_PORT))
    return found


def missing_files(properties: dict[str, Any]) -> str:
    """Which files that properties name are not there; librdkafka tells of OpenSSL's troubles instead."""
    gone = [
        f"{name} names {value!r}, which is not there"
        for name, value in properties.items()
        if name.endswith((".location", ".file")) and isinstance(value, str) and value not in ("", "probe")
        if not Path(value).exists()
    ]
    return "; ".join(gone)
