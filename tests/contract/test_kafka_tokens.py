"""Logins by tokens (OAUTHBEARER), with properties as a user sets them: tokens end and are renewed while a worker works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka.admin import ResourceType

from contract.log_fixtures import Worker, all_records, eventually, numbered, unique, values
from kafka_secure import SecureBroker, secure_broker
from penstock.errors import LogUnavailable, SettingsError
from penstock.log.base import TopicSpec
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.topics import state_spec
from penstock.record import NewRecord, Partition
from token_endpoint import TokenEndpoint, token_endpoint

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SECRET = "staple-battery-3c7a"
LIFE_SECONDS = 5
LIVES = 3


@dataclass
class Shop:
    """A client that a token names, with topics and rights for one task."""

    broker: SecureBroker
    admin: KafkaLog
    endpoint: TokenEndpoint
    user: str
    reads: str
    results: str
    group: str

    def by_endpoint(self, **changes: Any) -> dict[str, Any]:
        """The block of the how-to: id and secret are shown to an identity provider, which gives tokens."""
        given = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.broker.ca),
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": self.user,
            "sasl.oauthbearer.client.secret": SECRET,
            "sasl.oauthbearer.token.endpoint.url": self.endpoint.url,
            "sasl.oauthbearer.scope": "kafka",
        }
        return given | {f"sasl.oauthbearer.{name}": value for name, value in changes.items()}

    def by_itself(self) -> dict[str, Any]:
        """Tokens that librdkafka makes, signed by nobody, for clusters that are being tried out. It renews them only in clients that are at work."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.broker.ca),
            "sasl.mechanism": "OAUTHBEARER",
            "enable.sasl.oauthbearer.unsecure.jwt": "true",
            "sasl.oauthbearer.config": f"principal={self.user} lifeSeconds=3600",
        }

    async def sees(self, *expected: bytes) -> None:
        """By a reader who needs no token; a commit is shown to others some milliseconds after it."""

        async def as_expected() -> bool:
            return len(await all_records(self.admin, self.results)) >= len(expected)

        await eventually(as_expected, f"results are {expected}")
        assert values(await all_records(self.admin, self.results)) == list(expected)


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with token_endpoint(SECRET, LIFE_SECONDS) as running:
        yield running


@pytest.fixture
async def shop(open_kafka, endpoint) -> Shop:
    broker = secure_broker()
    admin, user = open_kafka(broker.bootstrap), unique("client")
    reads, results, group = unique("events"), unique("results"), unique("task")
    await admin.create_topics([TopicSpec(reads, 1), TopicSpec(results, 1), state_spec()])
    broker.allow(user, ResourceType.TOPIC, reads, "read")
    for topic in (results, state_spec().name):
        broker.allow(user, ResourceType.TOPIC, topic, "read", "write")
    broker.allow(user, ResourceType.GROUP, group, "read")
    broker.allow(user, ResourceType.TRANSACTIONAL_ID, f"{group}/", "write", is_prefix=True)
    return Shop(broker, admin, endpoint, user, reads, results, group)


async def committed_at_last(worker: Worker, result: NewRecord) -> None:
    """As the engine does: weather is waited out with the same act."""
    act = worker.progress(result)
    async with asyncio.timeout(90):
        while True:
            try:
                return await worker.consumer.commit(act)
            except LogUnavailable:
                with contextlib.suppress(LogUnavailable):
                    await worker.poll(0, 0.2)


async def outlived(worker: Worker) -> None:
    """The worker polls, and nothing else of it stirs, for longer than any token that it has."""
    end = time.monotonic() + LIVES * LIFE_SECONDS
    while time.monotonic() < end:
        await worker.poll()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_tokens_are_renewed_while_it_works(shop, open_kafka, protocol, caplog):
    """Every client of a worker goes on past the end of its first token: consumer, committer, appender, reader, questions."""
    caplog.set_level(logging.WARNING, "penstock")
    options = KafkaOptions(group_protocol=protocol)
    log = open_kafka(shop.broker.tokens, properties=shop.by_endpoint(), options=options)
    worker = await Worker.joined(log, shop.group, shop.reads)
    for number in range(2):
        await shop.admin.append(numbered(shop.reads, 2, first=2 * number))
        await worker.read_count(2 * (number + 1))
        await committed_at_last(worker, NewRecord(shop.results, b"k", b"act %d" % number))
        await log.append([NewRecord(shop.results, b"k", b"appended %d" % number)])
        own = values(await log.read(Partition(shop.results, 0), 0, 10))
        assert own[-2:] == [b"act %d" % number, b"appended %d" % number]
        assert (await log.committed(shop.group, shop.reads))[Partition(shop.reads, 0)].base == 2 * (number + 1)
        await outlived(worker)
    assert (worker.revoked_ever, worker.lost_ever) == ([], [])
    assert "again" not in caplog.text
    await shop.sees(b"act 0", b"appended 0", b"act 1", b"appended 1")
    assert len(set(shop.endpoint.issued)) > LIVES


async def test_tokens_that_are_signed_by_nobody(shop, open_kafka):
    """librdkafka makes them itself; a worker reads and commits with them."""
    log = open_kafka(shop.broker.tokens, properties=shop.by_itself())
    worker = await Worker.joined(log, shop.group, shop.reads)
    await shop.admin.append(numbered(shop.reads, 2))
    await worker.read_count(2)
    await committed_at_last(worker, NewRecord(shop.results, b"k", b"0-1"))
    await shop.sees(b"0-1")


REFUSED = {
    "wrong secret": ({"client.secret": "wrong-staple-11"}, r"invalid_client.*\n.*sasl\.oauthbearer\."),
    "nobody gives tokens": (
        {"token.endpoint.url": "http://127.0.0.1:1/token"},
        r"127\.0\.0\.1.*\n.*sasl\.oauthbearer\.",
    ),
    "no secret": ({"client.secret": ""}, r"sasl\.oauthbearer\.client\.secret"),
    "no such method": ({"method": "oath"}, r"sasl\.oauthbearer\.method"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_token_that_cannot_be_had_is_told(case, shop, open_kafka):
    """Within seconds, with the cause, the address and the settings to look at; never with the secret."""
    changes, words = REFUSED[case]
    log = open_kafka(shop.broker.tokens, properties=shop.by_endpoint(**changes))
    with pytest.raises(SettingsError, match=f"(?s){words}") as told:
        await log.topics()
    assert SECRET not in str(told.value)
    assert "wrong-staple-11" not in str(told.value)


async def test_a_token_that_has_expired_is_told(shop, open_kafka):
    """What the provider gives is over already: its clock, or what it keeps, is the cause, and that is said."""
    shop.endpoint.life_seconds = -60
    log = open_kafka(shop.broker.tokens, properties=shop.by_endpoint())
    with pytest.raises(SettingsError, match=r"(?s)unexpired token.*sasl\.oauthbearer\.") as told:
        await log.topics()
    assert shop.endpoint.issued[-1] not in str(told.value)


async def test_a_token_without_rights_is_told_by_its_name(shop, open_kafka):
    """Who got in and may not do it: the client's id stands where a user's name stands else."""
    shop.broker.take_away(shop.user, ResourceType.TOPIC, shop.reads)
    log = open_kafka(shop.broker.tokens, properties=shop.by_endpoint())
    with pytest.raises(SettingsError, match=rf"allow user '{shop.user}' to: Read the input topic"):
        await Worker.joined(log, shop.group, shop.reads)


async def test_a_provider_that_is_away_is_waited_for(shop, open_kafka, caplog):
    """Tokens end while none can be had: that is said, and the act that waited is done once when there are some again."""
    caplog.set_level(logging.INFO, "penstock")
    options = KafkaOptions(group_protocol="classic", commit_timeout_seconds=3.0)
    log = open_kafka(shop.broker.tokens, properties=shop.by_endpoint(), options=options)
    worker = await Worker.joined(log, shop.group, shop.reads)
    await shop.admin.append(numbered(shop.reads, 3))
    await worker.read_count(3)
    shop.endpoint.secret = "another"

    async def is_said() -> bool:
        with contextlib.suppress(LogUnavailable):
            await worker.poll(500, 0.1)
        return shop.endpoint.refused > 0 and "Failed to retrieve OIDC token" in caplog.text

    await eventually(is_said, "the refused token stands in the log")
    await outlived_away(worker)
    shop.endpoint.secret = SECRET
    await committed_at_last(worker, NewRecord(shop.results, b"k", b"0-2"))
    await shop.sees(b"0-2")


async def outlived_away(worker: Worker) -> None:
    with contextlib.suppress(LogUnavailable):
        await outlived(worker)


async def test_secret_and_tokens_stand_in_no_line(shop, open_kafka, caplog, capfd):
    """With everything logged that librdkafka can log, right and wrong."""
    caplog.set_level(logging.DEBUG)
    loud = {"debug": "all", "log_level": 7}
    await shop.admin.append(numbered(shop.reads, 3))
    log = open_kafka(shop.broker.tokens, properties=shop.by_endpoint() | loud)
    worker = await Worker.joined(log, shop.group, shop.reads)
    await worker.read_count(3)
    said = [repr(log), repr(log._connection), str(vars(log))]
    wrong = open_kafka(shop.broker.tokens, properties=shop.by_endpoint(**{"client.secret": "wrong-staple-11"}) | loud)
    with pytest.raises(SettingsError) as told:
        await wrong.topics()
    out, err = capfd.readouterr()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) > 100, "librdkafka was not loud"
    assert shop.endpoint.issued
    for text in (*said, str(told.value), *lines, out, err):
        for secret in (SECRET, "wrong-staple-11", *shop.endpoint.issued):
            assert secret not in text
