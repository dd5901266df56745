"""Logins, certificates and access rules of a real cluster: who is kept out is told why, and what to change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka.admin import ResourceType

from contract.log_fixtures import PATIENCE_SECONDS, Worker, all_records, eventually, numbered, unique, values
from kafka_secure import SecureBroker, secure_broker
from penstock.errors import LogUnavailable, SettingsError
from penstock.log.base import TopicSpec
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.state import STATE_TOPIC
from penstock.record import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PASSWORD = "correct-horse-9d1f"
Open = Callable[..., KafkaLog]
PROTOCOLS = ("classic", "consumer")


@pytest.fixture(scope="module")
def broker() -> SecureBroker:
    return secure_broker()


@pytest.fixture
def open_kafka(open_kafka) -> Open:
    """Opens handles with the ways to log in beside the address."""

    def open_one(address: str, properties: Mapping[str, Any], **options) -> KafkaLog:
        return open_kafka(address, properties=properties, options=KafkaOptions(**options))

    return open_one


@dataclass
class Shop:
    """A user of its own with the topics of one task, and who may do everything beside it."""

    broker: SecureBroker
    admin: KafkaLog
    user: str
    reads: str
    results: str
    group: str

    def properties(self, **changes: Any) -> dict[str, Any]:
        """How the user logs in; `None` takes a property away."""
        given = login(self.broker, self.user) | {name.replace("_", "."): value for name, value in changes.items()}
        return {name: value for name, value in given.items() if value is not None}

    def allow_all(self) -> None:
        """What a worker needs beside the state topic, and no more."""
        for right in RIGHTS:
            self.give(right)

    def give(self, right: str) -> None:
        kind, name, operations, is_prefix = self._rule(right)
        self.broker.allow(self.user, kind, name, *operations, is_prefix=is_prefix)

    def take_away(self, right: str) -> None:
        kind, name, _, _ = self._rule(right)
        self.broker.take_away(self.user, kind, name)

    def _rule(self, right: str) -> tuple[ResourceType, str, tuple[str, ...], bool]:
        return {
            "read events": (ResourceType.TOPIC, self.reads, ("read",), False),
            "write results": (ResourceType.TOPIC, self.results, ("write",), False),
            "join the group": (ResourceType.GROUP, self.group, ("read",), False),
            "begin transactions": (ResourceType.TRANSACTIONAL_ID, f"{self.group}/", ("write",), True),
        }[right]

    async def results_seen(self) -> list[bytes | None]:
        """What readers of committed data see."""
        return values(await all_records(self.admin, self.results))

    async def sees(self, expected: list[bytes | None]) -> None:
        """A commit is shown to others some milliseconds after it."""

        async def as_expected() -> bool:
            return sorted(map(str, await self.results_seen())) == sorted(map(str, expected))

        await eventually(as_expected, f"results are {expected}")


RIGHTS = ("read events", "write results", "join the group", "begin transactions")
TOLD = {
    "read events": r"Topic authorization failed.*Read the input topic",
    "write results": r"Topic authorization failed.*Write results",
    "join the group": r"Group authorization failed.*Read the group",
    "begin transactions": r"Transactional Id authorization failed.*\[kafka_log\] delivery = \"at_least_once\"",
}


def login(broker: SecureBroker, user: str) -> dict[str, Any]:
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(broker.ca),
    }


@pytest.fixture
async def shop(broker, open_kafka) -> Shop:
    user, reads, results = unique("shop"), unique("events"), unique("results")
    broker.add_user(user, PASSWORD)
    broker.allow(user, ResourceType.TOPIC, STATE_TOPIC, "read", "write")
    admin = open_kafka(broker.bootstrap, {})
    await admin.create_topics([TopicSpec(reads, 1), TopicSpec(results, 1)])
    return Shop(broker, admin, user, reads, results, unique("task"))


async def refused(log: KafkaLog) -> str:
    with pytest.raises(SettingsError) as told:
        await log.topics()
    return str(told.value)


# --- who does not get in ------------------------------------------------------------------------------------------

LOCKED_OUT = {
    "wrong password": ("secure", {"sasl_password": "wrong-horse-77aa"}, r"login as 'shop-.*sasl\.password"),
    "unknown user": ("secure", {"sasl_username": "nobody"}, r"login as 'nobody'.*sasl\.username"),
    "wrong mechanism": ("secure", {"sasl_mechanism": "PLAIN"}, r"SCRAM-SHA-512.*\n.*kind PLAIN.*sasl\.mechanism"),
    "plain text to TLS": ("secure", {"security_protocol": "PLAINTEXT"}, r"speaks TLS.*security\.protocol = \"SSL\""),
    "plain login to TLS": ("secure", {"security_protocol": "SASL_PLAINTEXT"}, r"speaks TLS.*= \"SASL_SSL\""),
    "no login": ("secure", {"security_protocol": "SSL"}, r"wants a login.*\"SASL_SSL\".*sasl\.mechanism"),
    "TLS to plain text": ("bootstrap", {}, r"does not speak TLS.*security\.protocol = \"SASL_PLAINTEXT\""),
    "a login where none is": ("bootstrap", {"security_protocol": "SASL_PLAINTEXT"}, r"no login.*= \"PLAINTEXT\""),
    "another authority": ("secure", {"ssl_ca_location": "other"}, r"not signed by that in ssl\.ca\.location \(.*other"),
    "no authority": ("secure", {"ssl_ca_location": None}, r"this machine trusts.*set ssl\.ca\.location"),
    "expired certificate": ("expired", {}, r"certificate has expired.*renew"),
    "another's certificate": ("misnamed", {}, r"other names than '127\.0\.0\.1'.*log=kafka:"),
    "no certificate of ours": ("mutual", {"security_protocol": "SSL"}, r"ssl\.certificate\.location and ssl\.key\.loc"),
    "no such file": ("secure", {"ssl_ca_location": "gone.pem"}, r"ssl\.ca\.location names 'gone\.pem', which is not"),
    "no password": ("secure", {"sasl_password": None}, r"sasl\.password must be set"),
    "misspelt": ("secure", {"sasl_pasword": "x"}, r"No such configuration property: \"sasl\.pasword\""),
}


@pytest.mark.parametrize("case", LOCKED_OUT)
async def test_who_is_locked_out_is_told_which_setting_to_change(case, shop, open_kafka):
    """Every way of not getting in has words of its own that name address and setting, and never the password."""
    listener, changes, words = LOCKED_OUT[case]
    if changes.get("ssl_ca_location") == "other":
        changes = {"ssl_ca_location": str(shop.broker.other_ca)}
    address = getattr(shop.broker, listener)
    told = await refused(open_kafka(address, shop.properties(**changes), connect_timeout_seconds=5.0))
    assert re.search(words, told, re.DOTALL), told
    assert PASSWORD not in told
    assert str(changes.get("sasl_password")) not in told


async def test_a_certificate_of_its_own_lets_a_client_in(shop, open_kafka):
    """Mutual TLS: the certificate's name is the user that the rules are about."""
    certificate, key = shop.broker.client_certificate(shop.user)
    properties = {
        "security.protocol": "SSL",
        "ssl.ca.location": str(shop.broker.ca),
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
    }
    log = open_kafka(shop.broker.mutual, properties)
    assert shop.reads not in await log.topics()
    shop.give("read events")
    await eventually(lambda: _lists(log, shop.reads), "the rule for the certificate's name is known")


async def _lists(log: KafkaLog, topic: str) -> bool:
    return topic in await log.topics()


# --- what is not allowed --------------------------------------------------------------------------------------------


async def answer(worker: Worker, shop: Shop, *results: bytes) -> None:
    await worker.consumer.commit(worker.progress(*[NewRecord(shop.results, b"k", result) for result in results]))


async def test_few_rights_are_enough(shop, open_kafka, caplog):
    """Read events, write results, one group, one prefix of transactional ids; the broker's settings stay hidden."""
    caplog.set_level(logging.INFO, "penstock")
    shop.allow_all()
    await shop.admin.append(numbered(shop.reads, 5))
    worker = await Worker.joined(open_kafka(shop.broker.secure, shop.properties()), shop.group, shop.reads)
    await worker.read_count(5)
    await answer(worker, shop, b"0-4")
    await shop.sees([b"0-4"])
    (line,) = [record.getMessage() for record in caplog.records if "group protocol" in record.getMessage()]
    assert "classic" in line
    assert "DescribeConfigs" in line


@pytest.mark.parametrize("lacking", RIGHTS)
async def test_a_right_that_is_missing_is_told_by_name(lacking, shop, open_kafka):
    """From joining to the first commit: what is refused says who has to be allowed what, and nothing is written."""
    for right in RIGHTS:
        if right != lacking:
            shop.give(right)
    await shop.admin.append(numbered(shop.reads, 3))
    log = open_kafka(shop.broker.secure, shop.properties())
    with pytest.raises(SettingsError, match=TOLD[lacking]) as told:
        await at_work(log, shop)
    assert f"user {shop.user!r}" in str(told.value)
    assert await shop.results_seen() == []


async def at_work(log: KafkaLog, shop: Shop) -> None:
    worker = await Worker.joined(log, shop.group, shop.reads)
    await worker.read_count(3)
    await answer(worker, shop, b"0-2")


async def test_topics_that_may_not_be_made_are_told(shop, open_kafka):
    """`topics create` without Create or Describe names the topic and who lacks what."""
    log = open_kafka(shop.broker.secure, shop.properties())
    with pytest.raises(SettingsError, match=rf"(?s)'{shop.user}-new'.*Create"):
        await log.create_topics([TopicSpec(f"{shop.user}-new", 1)])
    shop.broker.allow(shop.user, ResourceType.TOPIC, f"{shop.user}-new", "describe")
    with pytest.raises(SettingsError, match=rf"(?s)making topic '{shop.user}-new'.*Create"):
        await log.create_topics([TopicSpec(f"{shop.user}-new", 1)])
    shop.broker.allow(shop.user, ResourceType.TOPIC, f"{shop.user}-new", "create")
    assert await log.create_topics([TopicSpec(f"{shop.user}-new", 1)]) == [f"{shop.user}-new"]


# --- a right that is taken away from a worker at work ---------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("taken", RIGHTS)
async def test_a_right_that_is_taken_away_stops_the_worker_and_doubles_nothing(taken, protocol, shop, open_kafka):
    """It says what is refused; what it could not commit is unread for its successor, what it committed stays once."""
    shop.allow_all()
    await shop.admin.append(numbered(shop.reads, 3))
    log = open_kafka(shop.broker.secure, shop.properties(), group_protocol=protocol)
    worker = await Worker.joined(log, shop.group, shop.reads, slot="a")
    await worker.read_count(3)
    await answer(worker, shop, b"0-2")
    shop.take_away(taken)
    with pytest.raises(SettingsError, match=TOLD[taken]):
        await worked_on(worker, shop)
    shop.give(taken)
    await log.close()
    successor = open_kafka(shop.broker.secure, shop.properties(), group_protocol=protocol)
    await shop.admin.append(numbered(shop.reads, 1, first=LAST))
    await until_the_last(await Worker.joined(successor, shop.group, shop.reads, slot="a"), shop)
    events = values(await all_records(shop.admin, shop.reads))
    await shop.sees([b"0-2", *events[3:]])


LAST = 1_000


async def until_the_last(worker: Worker, shop: Shop) -> None:
    """Every event that is left is answered with itself."""
    end = time.monotonic() + PATIENCE_SECONDS
    while b"%d" % LAST not in values(worker.read):
        assert time.monotonic() < end, f"the last event never came; read: {values(worker.read)}"
        if records := await worker.poll():
            await answer(worker, shop, *[record.value for record in records])


async def worked_on(worker: Worker, shop: Shop) -> None:
    """Events come, and each is answered, until something is refused."""
    end = time.monotonic() + PATIENCE_SECONDS
    number = 10
    while time.monotonic() < end:
        await shop.admin.append(numbered(shop.reads, 1, first=number))
        number += 1
        if records := await worker.poll(500, 0.2):
            await answer(worker, shop, *[record.value for record in records])
    raise AssertionError("nothing was refused")


# --- a login that ends ----------------------------------------------------------------------------------------------


async def test_a_login_that_ends_is_said_and_waited_for(shop, open_kafka, caplog):
    """Rules are the user's mistake, a login that is refused in mid-work may be the broker's: it is tried on, and nothing doubles."""
    caplog.set_level(logging.INFO, "penstock")
    shop.allow_all()
    await shop.admin.append(numbered(shop.reads, 3))
    log = open_kafka(shop.broker.secure, shop.properties(), group_protocol="classic", commit_timeout_seconds=3.0)
    worker = await Worker.joined(log, shop.group, shop.reads, slot="a")
    await worker.read_count(3)
    shop.broker.remove_user(shop.user)
    await asyncio.to_thread(shop.broker.restart)
    commit = asyncio.create_task(answered_in_the_end(worker, shop, b"0-2"))

    async def is_said() -> bool:
        with contextlib.suppress(LogUnavailable):
            await worker.poll(500, 0.1)  # librdkafka says its lines to who asks it something
        return any("uthentication failed" in record.getMessage() for record in caplog.records)

    await eventually(is_said, "the refused login stands in the log")
    assert not commit.done()
    shop.broker.add_user(shop.user, PASSWORD)
    await commit
    await shop.sees([b"0-2"])


async def answered_in_the_end(worker: Worker, shop: Shop, result: bytes) -> None:
    """As the engine does: weather is waited out with the same act."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while True:
            try:
                return await answer(worker, shop, result)
            except LogUnavailable:
                await asyncio.sleep(0.2)


# --- secrets --------------------------------------------------------------------------------------------------------


async def test_the_password_stands_in_no_line(shop, open_kafka, caplog, capfd):
    """With everything logged that librdkafka can log, right and wrong, the password is in none of it."""
    caplog.set_level(logging.DEBUG)
    shop.allow_all()
    loud = {"debug": "all", "log_level": 7}
    properties = shop.properties() | loud
    await shop.admin.append(numbered(shop.reads, 3))
    log = open_kafka(shop.broker.secure, properties)
    await at_work(log, shop)
    said = [repr(log), repr(log._connection), str(vars(log))]
    wrong = properties | {"sasl.username": "nobody"}
    said.append(await refused(open_kafka(shop.broker.secure, wrong, connect_timeout_seconds=5.0)))
    said.append(await refused(open_kafka(shop.broker.secure, properties | {"sasl.mechanism": "NONE"})))
    said.append(await refused(open_kafka(shop.broker.secure, properties | {"no.such": "x"})))
    await asyncio.to_thread(time.sleep, 0.2)
    out, err = capfd.readouterr()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) > 100, "librdkafka was not loud"
    for text in (*said, *lines, out, err, caplog.text):
        assert PASSWORD not in text
