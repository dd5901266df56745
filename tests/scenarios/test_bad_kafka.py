"""Everything wrong that a cluster and its records can be, through the commands: told by name, and nothing stuck."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from confluent_kafka import Producer

import kafka_broker
from penstock.deadletters.letter import read_letter
from penstock.log.kafka import KafkaLog

pytestmark = [pytest.mark.slow, pytest.mark.kafka]
MODULE = """
from pydantic import BaseModel

from penstock import Answer, Capacity, Responder, Route, Step, Task


class Note(BaseModel):
    text: str


class Label(BaseModel):
    label: str


class Rules:
    name = "rules"

    async def answer(self, task, items):
        return [Answer(Label(label=item.shown["text"][:5]), "sure", Responder("rules")) for item in items]

    def capacity(self, task):
        return Capacity(100)

    async def close(self):
        pass


task = Task(
    "{name}", reads="{name}-notes", input=Note, output=Label, instructions="Label it.", start_from="earliest",
    route=Route(Step(Rules())),
)
"""
LARGE_BYTES = 10_000_000
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


class Command:
    """One that runs, and what it has said."""

    def __init__(self, process, words):
        self.process, self._words = process, words

    @property
    def said(self):
        return self._words.read_text("utf-8", "replace")

    def ended(self, code=0):
        """Everything it said, once it is over."""
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end: {self.said}")
        assert self.process.returncode == code, self.said
        assert "Traceback" not in self.said
        return self.said


class Place:
    """A directory with a task of its own, and commands on the session's broker."""

    def __init__(self, directory, bootstrap):
        self.directory, self.bootstrap = directory, bootstrap
        self.name = f"bad-{uuid.uuid4().hex[:8]}"
        self.topic = f"{self.name}-notes"
        self.started = []
        (directory / "own.py").write_text(
            MODULE.replace("{name}", self.name).replace('item.shown["text"][:5]', '"seen"')
        )

    def start(self, *arguments, log=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
        words = self.directory / f"{len(self.started)}.words"
        with words.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli", *arguments, "--log", log or f"kafka:{self.bootstrap}"],
                cwd=self.directory,
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return Command(process, words)

    def said(self, *arguments, code=0, log=None):
        return self.start(*arguments, log=log).ended(code)

    def send(self, values, **given):
        """As a foreign producer would."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "message.max.bytes": 12_000_000})
        faults = []
        for value in values:
            producer.produce(
                self.topic, value, on_delivery=lambda error, _: faults.append(error) if error else None, **given
            )
            producer.flush(30)
        assert faults == []

    def read(self, topic):
        async def read():
            log, found = KafkaLog(self.bootstrap), []
            try:
                for partition, bounds in (await log.bounds(topic)).items():
                    at = bounds.low
                    while at < bounds.high and (records := await log.read(partition, at, 1_000)):
                        found += records
                        at = records[-1].offset + 1
            finally:
                await log.close()
            return found

        return asyncio.run(read())

    @property
    def results(self):
        return [json.loads(record.value) for record in self.read(f"{self.name}-results")]

    @property
    def letters(self):
        return [read_letter(record) for record in self.read(f"{self.name}-dlq")]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path, kafka_broker.session_broker().bootstrap)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait()


def note(text="fine"):
    return json.dumps({"text": text}).encode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "list"),
        ("topics", "create", "x"),
        ("status",),
        ("tail", "x"),
        ("produce", "own.py", "-t", "x"),
        ("run", "own:task"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_address_where_nobody_is_is_told_by_every_command(place, arguments):
    """Within seconds, with the address and the cause, and exit code 2: it is the user's to mend."""
    hurried = ("-X", "kafka_log.connect_timeout_seconds=2")
    said = place.said(*arguments, *hurried, code=2, log="kafka:127.0.0.1:1")
    assert "no Kafka broker answers at 127.0.0.1:1" in said
    assert "refused" in said


def test_topics_that_nobody_made_are_told_with_the_command(place):
    """The input first; then what the task writes, all of it at once; nothing is made by accident."""
    said = place.said("run", "own:task", code=2)
    assert f"penstock topics create {place.topic}" in said
    place.said("topics", "create", place.topic)
    said = place.said("run", "own:task", code=2)
    for topic in (f"{place.name}-results", f"{place.name}-dlq", f"{place.name}.retry"):
        assert topic in said
    assert place.topic not in said
    assert "does not exist" in place.said("tail", f"{place.name}-results", code=2)


def test_more_workers_than_partitions_is_said_and_loses_nothing(place):
    """One partition: told at the start; of two workers one works, the other says why it does not and takes over later."""
    said = place.said("topics", "create", "--task", "own:task", "--partitions", "1")
    assert f"warning: topic {place.topic} has one partition. " in said
    place.send([note() for _ in range(20)])
    workers = [place.start("run", "own:task", "-X", "ops.port=off") for _ in range(2)]
    eventually(lambda: any("gets no events" in worker.said for worker in workers))
    busy, spare = sorted(workers, key=lambda worker: "gets no events" in worker.said)
    assert f"group {place.name} has 2 members and {place.topic} has 1 partition, which belong to " in spare.said
    assert f"topic {place.topic} has one partition" in busy.said
    busy.process.send_signal(signal.SIGTERM)
    busy.ended()
    place.send([note() for _ in range(20)])
    eventually(lambda: len(place.results) >= 40)
    eventually(lambda: f"{place.name}: this worker has partitions of {place.topic} now" in spare.said)
    spare.process.send_signal(signal.SIGTERM)
    spare.ended()
    assert len(place.results) == 40


def eventually(condition, seconds=90.0):
    """The time is a bound against hanging."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.3)


def test_records_of_10_mb_end_as_letters_and_hold_up_nobody(place):
    """A topic that takes them: each becomes a dead letter that points to it, its neighbours are answered."""
    place.said("topics", "create", place.topic, "--partitions", "1", "--topic-config", "max.message.bytes=12000000")
    place.said("topics", "create", "--task", "own:task", "--partitions", "1")
    large = note("x" * LARGE_BYTES)
    place.send([note(), large, note(), b"y" * LARGE_BYTES, note()])
    place.said("run", "own:task", "--until-idle")
    assert len(place.results) == 3
    letters = sorted(place.letters, key=lambda letter: letter.source.offset)
    assert [(letter.reason, letter.is_pointer) for letter in letters] == [("too_large", True), ("undecodable", True)]
    for letter, event, offset in zip(letters, (large, b"y" * LARGE_BYTES), (1, 3), strict=True):
        pointer = json.loads(letter.record.value)
        assert pointer["bytes"] >= len(event)
        assert (pointer["topic"], pointer["offset"]) == (place.topic, offset)
        assert pointer["sha256"] == hashlib.sha256(event).hexdigest()


def test_what_we_send_may_be_as_large_as_the_settings_say(place):
    """`kafka_log.max_record_bytes` is a setting: too large without it, told by line; sent with it."""
    place.said("topics", "create", place.topic, "--partitions", "1", "-X", "kafka_log.max_record_bytes=11000000")
    (place.directory / "large.jsonl").write_bytes(note("x" * LARGE_BYTES) + b"\n" + note() + b"\n")
    refused = place.said("produce", "large.jsonl", "-t", place.topic, code=3)
    assert "line 1: a record" in refused
    assert "the log takes 1,040,000" in refused
    place.said("produce", "large.jsonl", "-t", place.topic, "-X", "kafka_log.max_record_bytes=11000000")
    assert sorted(len(record.value) > LARGE_BYTES for record in place.read(place.topic)) == [False, False, True]


def test_odd_headers_and_clocks_are_no_reason_to_fail(place):
    """Headers without a value, repeated or not UTF-8, timestamps of the future and of 1970: answered, and looked at."""
    place.said(
        "topics", "create", place.topic, "--partitions", "1", "--retention-days", "0",
        "--topic-config", f"message.timestamp.after.max.ms={20 * YEAR_MS}",
    )  # fmt: skip
    place.said("topics", "create", "--task", "own:task", "--partitions", "1")
    now_ms = int(time.time() * 1000)
    place.send([note()], headers=[("nothing", None), ("twice", b"1"), ("twice", None), ("bytes", b"\xff\xfe")])
    place.send([note()], headers=[("ce_id", None), ("penstock.retry.topic", None), ("content-type", b"\xff")])
    place.send([note(), b"no json"], timestamp=now_ms + 10 * YEAR_MS, headers=[("nothing", None)])
    place.send([note()], timestamp=1)
    place.said("run", "own:task", "--until-idle")
    assert len(place.results) == 4
    (letter,) = place.letters
    assert letter.reason == "undecodable"
    assert ("nothing", None) in letter.record.headers
    page = json.loads(place.said("status", "--json", "--group", place.name))
    assert all(row["lag_events"] == 0 and row["lag_seconds"] >= 0 for row in page["groups"])
    assert "no json" in place.said("tail", place.topic, "--from", "earliest")
    assert "undecodable" in place.said("tail", f"{place.name}-dlq")


def test_wrong_ways_to_make_topics_are_told(place):
    """More copies than brokers, settings that Kafka does not know, a property that protects the laws."""
    assert "replication factor of 3" in place.said("topics", "create", place.topic, "--replication", "3", code=2)
    said = place.said("topics", "create", place.topic, "--topic-config", "retention.mss=4", code=2)
    assert "retention.mss" in said
    said = place.said("topics", "create", place.topic, "-X", "kafka.message.max.bytes=9", code=2)
    assert "set kafka_log.max_record_bytes" in said
    assert place.topic not in place.said("topics", "list")


def test_a_static_member_needs_a_name(place):
    """Told before anything is joined, with the setting that gives it."""
    place.said("topics", "create", "--task", "own:task", "--partitions", "2")
    said = place.said("run", "own:task", "--until-idle", "-X", "kafka_log.static_membership=true", code=2)
    assert "PENSTOCK_SLOT" in said
    place.send([note()])
    given = ("-X", "kafka_log.static_membership=true", "-X", "kafka_log.group_protocol=classic", "-X", "slot=a")
    place.said("run", "own:task", "--until-idle", *given)
    assert len(place.results) == 1
