"""Laws of the Kafka log that need no broker: what may be set, what is never shown, how a wrong address is told."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from penstock.errors import SettingsError
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.kafka.client_lines import REPEAT_SECONDS, Sparse
from penstock.log.kafka.connection import PROTECTED, Connection
from penstock.log.kafka.held import Held
from penstock.record import Partition, Record
from penstock.settings import load_settings

SECRET = "hunter2-and-more"


@pytest.mark.parametrize("name", sorted(PROTECTED))
def test_what_protects_the_laws_cannot_be_set(name):
    """A property that would break a law is refused by name, with what to set instead."""
    with pytest.raises(SettingsError, match=f"'{name}'.*{PROTECTED[name]}"):
        KafkaLog("localhost:9092", properties={name: "whatever"})


def test_other_properties_pass_through():
    """librdkafka itself judges every other property: known ones are taken, unknown ones are told by name."""
    known = {"client.id": "shop", "security.protocol": "PLAINTEXT", "compression.type": "lz4", "linger.ms": 20}
    Connection("localhost:9092", known, KafkaOptions()).producer({})
    with pytest.raises(SettingsError, match=r"linger\.millis"):
        Connection("localhost:9092", {"linger.millis": 20}, KafkaOptions()).producer({})


def test_secrets_are_never_shown():
    """Neither repr nor an error about the settings contains a secret."""
    properties = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "shop",
        "sasl.password": SECRET,
        "ssl.key.pem": SECRET,
    }
    log = KafkaLog("localhost:9092", properties=properties)
    assert SECRET not in repr(log)
    connection = Connection("localhost:9092", properties, KafkaOptions())
    assert SECRET not in repr(connection)
    assert connection.redacted(f"cannot log in with {SECRET}") == "cannot log in with ***"
    with pytest.raises(SettingsError) as refused:
        connection.producer({"partitioner": SECRET})
    assert SECRET not in str(refused.value)


KEPT = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.kerberos.kinit.cmd",
    "sasl.jaas.config",
]
"""Properties of librdkafka that are secrets, or may hold one; the last is Java's, and given by mistake."""


@pytest.mark.parametrize("name", KEPT)
def test_each_property_that_may_hold_a_secret_is_kept(name, caplog):
    """Settings as shown, their repr, the error about the property and what is logged of it: its value is in none of them."""
    caplog.set_level(logging.DEBUG)
    loaded = load_settings(assignments=[f"kafka.{name}={SECRET}", "log=kafka:localhost:9092"])
    properties = loaded.settings.kafka_properties()
    assert properties == {name: SECRET}
    said = [repr(loaded), str(loaded.settings), loaded.settings.model_dump_json(), str(loaded.entries())]
    connection = Connection("localhost:9092", properties, KafkaOptions())
    said += [repr(connection), connection.redacted(f"{name}: {SECRET} is wrong")]
    try:
        connection.admin()
    except SettingsError as told:
        said += [str(told), repr(told), "".join(traceback.format_exception(told))]
    assert [text for text in (*said, caplog.text) if SECRET in text] == []


@pytest.mark.parametrize("address", ["", "localhost:", "local host:9092", "a:1,,b:2", "host:port", "kafka://"])
def test_an_address_that_is_none_is_told_at_once(address):
    """What cannot be an address is refused before anything connects."""
    with pytest.raises(SettingsError, match="bootstrap_servers"):
        KafkaLog(address)


@pytest.mark.parametrize(
    "address", ["localhost:9092", "a.example:1,b.example:2", "[::1]:9092", "broker-1", "SSL://b:9093"]
)
def test_addresses(address):
    """Hosts with or without port, several of them, IPv6 in brackets, with a protocol."""
    assert Connection(address, {}, KafkaOptions()).bootstrap_servers == address


async def test_a_wrong_address_is_told_by_name():
    """Where nobody listens, the first call raises with the address and the cause."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused for as long as the test runs
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        log = KafkaLog(address, options=KafkaOptions(connect_timeout_seconds=1.0))
        with pytest.raises(SettingsError, match=f"no Kafka broker answers at {address}.*refused"):
            await log.topics()
        await log.close()


async def test_static_membership_needs_a_slot():
    """A static member without a name that lasts would lock its partitions at every restart."""
    log = KafkaLog("localhost:9092", options=KafkaOptions(static_membership=True))
    with pytest.raises(SettingsError, match="slot"):
        await log.join("g", ["t"], listener=None)


def record(partition: int, offset: int) -> Record:
    return Record("t", partition, offset, None, None, (), 0)


def test_held_records_keep_their_order():
    """What waits for a paused partition comes later, in order; nothing is handed out twice; what was revoked is dropped."""
    held = Held()
    held.add([record(n % 3, n) for n in range(12)])
    paused = {Partition("t", 1)}
    assert held.count(paused) == 8
    taken = held.take(5, paused)
    held.add([record(1, 12)])
    held.drop({Partition("t", 2)})
    taken += held.take(100, paused)
    assert [r.offset for r in taken if r.partition == 0] == [0, 3, 6, 9]
    assert [r.offset for r in taken if r.partition == 2] == [2, 5]
    assert [r.offset for r in held.take(100, ())] == [1, 4, 7, 10, 12]
    assert len(held) == 0


def test_client_lines_are_sparse():
    """The same line of librdkafka is let through once in a while, with how often it was held back; others pass."""
    now = 0.0
    sparse = Sparse(lambda: now)

    def said(text: str) -> logging.LogRecord:
        return logging.LogRecord("client", logging.ERROR, "f", 1, text, (), None)

    assert sparse.filter(said("FAIL [penstock#producer-1] [thrd:b/1]: refused (after 1ms in state CONNECT)"))
    for n in range(50):
        assert not sparse.filter(
            said(f"FAIL [penstock#producer-{n}] [thrd:b/1]: refused (after {n}ms in state CONNECT)")
        )
    assert sparse.filter(said("FAIL [penstock#producer-1] [thrd:b/1]: unknown host"))
    now = REPEAT_SECONDS
    again = said("FAIL [penstock#producer-1] [thrd:b/1]: refused (after 2ms in state CONNECT)")
    assert sparse.filter(again)
    assert again.getMessage().endswith("(50 like it before)")


@contextmanager
def debugging() -> Iterator[None]:
    """Somebody wants to see everything that librdkafka says."""
    logger = logging.getLogger("penstock.log.kafka.client")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(before)


def test_what_the_client_repeats_itself_is_no_warning():
    """A coordinator that is still loading is nobody's business but librdkafka's."""
    line = logging.LogRecord(
        "client", logging.WARNING, "f", 1, "GETPID: Coordinator load in progress: retrying", (), None
    )
    assert not Sparse().filter(line)
    with debugging():
        assert Sparse().filter(line)
    assert line.levelno == logging.DEBUG
