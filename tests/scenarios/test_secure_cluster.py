"""A cluster that asks who you are and what you may, as a user meets it: the how-to, mistakes, rules that change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic, ResourceType

from bounded import line_of
from contract.log_fixtures import unique
from documents import ROOT, Session, blocks
from kafka_broker import fetched_jars
from kafka_own import need_java_compiler
from kafka_secure import ADMIN, ADMIN_PASSWORD, SecureBroker, authority, secure_broker, signed
from penstock.log.kafka import KafkaOptions
from penstock.log.kafka.connection import Connection
from penstock.settings_sources import dotted

PAGE = ROOT / "docs" / "how-to" / "connect-to-your-cluster.md"
ADDRESS = "broker-1.example.com:9094"
PASSWORD = "staple-battery-33c0"
SECONDS = 90.0
TOPICS = ("feedback", "feedback-sorted", "feedback-dlq", "feedback-sorter.retry", "penstock-state")


# --- the how-to -----------------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.slow
def test_the_how_to_can_be_followed(tmp_path: Path) -> None:
    """Top to bottom, as written but for the address, against a broker with SASL_SSL and rules for everything."""
    broker = secure_broker()
    broker.without_topics(*TOPICS)
    (tmp_path / "ca.pem").write_text(broker.ca.read_text())
    written = next(block.text for block in blocks(PAGE) if "ScramLoginModule" in block.text)
    (tmp_path / f"{ADMIN}.properties").write_text(written.replace("…", ADMIN_PASSWORD))
    session = Session(tmp_path, broker.tools())
    for block in blocks(PAGE):
        session.run(block._replace(text=block.text.replace(ADDRESS, broker.secure)))


def test_other_ways_in_are_properties_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka takes every block of the how-to: a client is made of each, with the secret that the text names."""
    monkeypatch.chdir(tmp_path)
    own = authority()
    client = signed(own, "penstock")
    for name, text in {"ca.pem": own.pem, "penstock.pem": client.pem, "penstock.key": client.key_pem}.items():
        Path(name).write_text(text)
    ways = [tomllib.loads(block.text) for block in blocks(PAGE) if block.language == "toml" and not block.file]
    assert len(ways) == 4
    for way in ways:
        properties = dict(dotted(way["kafka"]))
        mechanism = properties.get("sasl.mechanism", "")
        if mechanism == "OAUTHBEARER":
            properties["sasl.oauthbearer.client.secret"] = PASSWORD
            properties["sasl.oauthbearer.extensions"] = "logicalCluster=lkc-1,identityPoolId=pool-1"
        elif mechanism:
            properties["sasl.password"] = PASSWORD
        else:
            properties["ssl.key.password"] = PASSWORD
        Connection("127.0.0.1:1", properties, KafkaOptions()).admin()


def test_variables_of_the_how_to_are_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of secrets in the environment become librdkafka's own."""
    from penstock.settings import load_settings

    named = set(re.findall(r"PENSTOCK_KAFKA__[A-Z_]+[A-Z]", PAGE.read_text()))
    assert len(named) >= 4
    for variable in named - {"PENSTOCK_KAFKA__SASL_PASSWORD_FILE"}:
        monkeypatch.setenv(variable, PASSWORD)
    loaded = load_settings()
    assert {"sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret"} == set(loaded.settings.kafka)
    assert PASSWORD not in str(loaded.settings) + str(loaded.entries())


# --- readers --------------------------------------------------------------------------------------------------------

READERS = ROOT / "docs" / "explanation" / "guarantees.md"


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("file", ["reader.py", "Reader.java"])
def test_the_readers_that_are_shown_see_committed_records_only(file: str, tmp_path: Path) -> None:
    """As written but for address, topic and group: of a committed, an aborted and an open transaction they see the first."""
    if file.endswith(".java"):
        need_java_compiler()
    broker = secure_broker()
    topic = unique("results")
    admin = broker.admin()
    admin.create_topics([NewTopic(topic, 1)])[topic].result(10)
    committed, aborted, still_open = (producer_of(broker, topic, name) for name in ("kept", "undone", "open"))
    committed.commit_transaction(10)
    aborted.abort_transaction(10)
    text = next(block.text for block in blocks(READERS) if block.text.startswith((f"# {file}", f"// {file}")))
    for written, real in {
        "broker-1.example.com:9092": broker.bootstrap, "feedback-sorted": topic, '"billing"': f'"{topic}"'
    }.items():  # fmt: skip
        assert written in text
        text = text.replace(written, real)
    (tmp_path / file).write_text(text)
    java = ["java", "-cp", f"{fetched_jars()}/*", file]
    reader = subprocess.Popen(
        [sys.executable, "-u", file] if file.endswith(".py") else java,
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        seen = [_said(reader)]
        still_open.abort_transaction(10)
        last = producer_of(broker, topic, "last")
        last.commit_transaction(10)
        seen.append(_said(reader))
    finally:
        reader.kill()
        reader.communicate()
    assert ["kept" in seen[0], "last" in seen[1]] == [True, True], seen


def _said(reader: subprocess.Popen[str]) -> str:
    """The next line that is no remark of Java's logging."""
    return next(line for line in iter(lambda: line_of(reader), "") if not line.startswith("["))


def producer_of(broker: SecureBroker, topic: str, value: str) -> Producer:
    """One record inside a transaction that is not decided yet."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": unique("t"), "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, value.encode(), b"key")
    producer.flush(10)
    return producer


# --- a user's mistakes ----------------------------------------------------------------------------------------------


class Shop:
    """A project of `penstock init` whose settings name the cluster; every word of every call is kept."""

    def __init__(self, directory: Path, broker: SecureBroker) -> None:
        self.directory, self.broker, self.user = directory, broker, unique("shop")
        broker.add_user(self.user, PASSWORD)
        self.said = ""
        self.call("init", "--quiet", ".")
        text = (directory / "feedback.py").read_text()
        self.prefix = unique("s")
        for name in ("feedback-sorter", "feedback-sorted", "feedback-dlq"):
            text = text.replace(f'"{name}"', f'"{self.prefix}-{name}"')
        text = text.replace('reads="feedback"', f'reads="{self.prefix}-feedback"')
        (directory / "feedback.py").write_text(text)
        (directory / "penstock.toml").write_text(SETTINGS.format(broker=broker, user=self.user))
        (directory / "kafka-password").write_text(PASSWORD + "\n")

    def name(self, topic: str) -> str:
        return topic if topic == "penstock-state" else f"{self.prefix}-{topic}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
        return subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", *arguments],
            cwd=self.directory,
            env=kept | {"COLUMNS": "300"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, process: subprocess.Popen[str], code: int) -> str:
        """What it said, when it has ended with this exit code."""
        try:
            out, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        self.said += out
        assert process.returncode == code, (process.args, process.returncode, out)
        assert "Traceback" not in out
        assert PASSWORD not in out
        return out

    def call(self, *arguments: str, code: int = 0) -> str:
        return self.ended(self.start(*arguments), code)

    def as_admin(self, *arguments: str) -> str:
        """By the listener that asks nobody anything."""
        return self.call(*arguments, "--config", str(self._open_settings()))

    def _open_settings(self) -> Path:
        path = self.directory / "open.toml"
        path.write_text(f'log = "kafka:{self.broker.bootstrap}"\n')
        return path

    def allow_all(self) -> None:
        """The rules of the how-to."""
        allow = self.broker.allow
        allow(self.user, ResourceType.TOPIC, self.name("feedback"), "read")
        for topic in ("feedback-sorted", "feedback-dlq"):
            allow(self.user, ResourceType.TOPIC, self.name(topic), "write")
        for topic in ("feedback-sorter.retry", "penstock-state"):
            allow(self.user, ResourceType.TOPIC, self.name(topic), "read", "write")
        allow(self.user, ResourceType.GROUP, self.name("feedback-sorter"), "read")
        allow(self.user, ResourceType.TRANSACTIONAL_ID, self.name("feedback-sorter/"), "write", is_prefix=True)

    def produce(self) -> None:
        """The twelve sample events."""
        self.as_admin("produce", "events.jsonl", "--topic", self.name("feedback"), "--key-field", "customer", "--quiet")

    def results(self) -> list[dict[str, object]]:
        """What a reader of committed data sees in results and dead letters, as their sources."""
        lines = []
        for topic in ("feedback-sorted", "feedback-dlq"):
            told = self.as_admin("tail", self.name(topic), "--from", "earliest", "--json", "--quiet")
            lines += [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        return lines


SETTINGS = """\
log = "kafka:{broker.secure}"
[kafka]
security.protocol = "SASL_SSL"
sasl.mechanism = "SCRAM-SHA-512"
sasl.username = "{user}"
sasl.password_file = "kafka-password"
ssl.ca.location = "{broker.ca}"
"""
TASK = "feedback:sorter"
RUN = ("run", TASK, "--simulated", "--yes")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, secure_broker())


@pytest.mark.kafka
@pytest.mark.slow
def test_a_wrong_login_is_told_by_every_command(shop: Shop) -> None:
    """`run` and `topics create` end with code 2, the doctor with 3; all name the setting, none the password."""
    wrong = ("-X", "kafka.sasl.username=nobody")
    for command, code in ((RUN, 2), (("topics", "create", "--task", TASK), 2), (("doctor", TASK), 3)):
        told = shop.call(*command, *wrong, code=code)
        assert re.search(r"login as 'nobody' with SCRAM-SHA-512 was refused: check sasl\.username", told), told


@pytest.mark.kafka
@pytest.mark.slow
def test_missing_rights_are_told_one_by_one_until_it_runs(shop: Shop) -> None:
    """A user without rights learns what is missing from every command, and the doctor names every rule at once."""
    assert "Create on topics" in shop.call("topics", "create", "--task", TASK, code=2)
    shop.as_admin("topics", "create", "--task", TASK, "--partitions", "2", "--quiet")
    shop.produce()
    told = shop.call(*RUN, code=2)
    assert f"'{shop.name('feedback')}'" in told
    assert "Read the input topic" in told
    told = shop.call("doctor", TASK, code=3)
    for rule in (
        f"--operation Read --topic {shop.name('feedback')}",
        f"--operation Write --topic {shop.name('feedback-sorted')}",
        f"--group {shop.name('feedback-sorter')}",
        f"--transactional-id {shop.name('feedback-sorter')}/ --resource-pattern-type prefixed",
    ):
        assert rule in told, told
    shop.allow_all()
    ran = shop.call(*RUN, "--until-idle")
    assert "11 results, 1 dead letters" in ran
    assert "classic" in ran, "which group protocol, and why, is said where the broker's settings are hidden"
    assert "fail log" not in shop.call("doctor", TASK, code=3)


@pytest.mark.kafka
@pytest.mark.slow
def test_without_transactional_ids_the_way_out_is_named_and_works(shop: Shop) -> None:
    """The text names `delivery`, and with it the same user is served."""
    shop.as_admin("topics", "create", "--task", TASK, "--partitions", "2", "--quiet")
    shop.produce()
    shop.allow_all()
    shop.broker.take_away(shop.user, ResourceType.TRANSACTIONAL_ID, shop.name("feedback-sorter/"))
    told = shop.call(*RUN, "--until-idle", code=2)
    assert '[kafka_log] delivery = "at_least_once"' in told
    assert "11 results, 1 dead letters" in shop.call(*RUN, "--until-idle", "-X", "kafka_log.delivery=at_least_once")
    assert len(shop.results()) == 12


# --- rules that change ----------------------------------------------------------------------------------------------

TAKEN = {
    "the group": (ResourceType.GROUP, "feedback-sorter", "Group authorization failed"),
    "the results": (ResourceType.TOPIC, "feedback-sorted", "Topic authorization failed"),
    "transactions": (ResourceType.TRANSACTIONAL_ID, "feedback-sorter/", "Transactional Id authorization failed"),
}


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("taken", TAKEN)
def test_a_worker_whose_right_is_taken_away_says_so_and_its_successor_goes_on(taken: str, shop: Shop) -> None:
    """It stops with code 2 and the reason; after the right is back every event has one result or dead letter."""
    kind, name, reason = TAKEN[taken]
    shop.as_admin("topics", "create", "--task", TASK, "--partitions", "2", "--quiet")
    shop.allow_all()
    worker = shop.start(*RUN, "-X", "ops.port=off")
    try:
        shop.produce()
        eventually(lambda: len(shop.results()) == 12, "the first events are answered")
        shop.broker.take_away(shop.user, kind, shop.name(name))
        shop.produce()
        told = shop.ended(worker, 2)
    finally:
        worker.kill()
    assert reason in told
    shop.allow_all()
    shop.call(*RUN, "--until-idle")
    results = shop.results()
    assert len(results) == 24
    sources = {json.dumps(_source(result), sort_keys=True) for result in results}
    assert len(sources) == 24


def _source(record: dict[str, object]) -> object:
    """Where the event stood that this is about: results say it in their value, letters in their headers."""
    value = record["value"]
    if isinstance(value, dict) and "source" in value:
        return value["source"]
    headers = dict(record["headers"])  # type: ignore[call-overload]
    return {key: headers[key] for key in sorted(headers) if "offset" in key or "partition" in key}


def eventually(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.2)
