"""Avro, Protobuf and JSON events through the whole engine to results, with a registry that fails and comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
import subprocess
import sys
import textwrap
import uuid

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

import kafka_broker
import registry_events as events
from fakes import Label, ScriptedTier, running, until
from penstock import NewRecord, Route, Step, Task
from penstock.codecs import from_registry
from penstock.codecs.registry import RegistryOptions
from penstock.deadletters.letter import read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.errors import SettingsError
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.topics import state_spec
from penstock.testing import run
from registry_events import MESSAGES, Review, a_message, a_review, written
from schema_registry import LocalRegistry

QUICK = PipelineOptions(commit_interval_seconds=0.01, drain_seconds=5.0, batch=BatchLimits(max_wait_seconds=0.01))
UNKNOWN = struct.pack(">bI", 0, 4_711) + b"\x02a"


@pytest.fixture
def registry():
    registry = LocalRegistry()
    yield registry
    registry.go_on.set()
    registry.stop()


@pytest.fixture
def producer(registry):
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


class Place:
    """A task's topics on one log. Brokers are shared by tests: the names are this test's own."""

    def __init__(self, log, name: str) -> None:
        self.log, self.name = log, name
        self.reads = f"{name}-events"

    def judge(self, decode, tier) -> Task:
        options = {"writes": f"{self.name}-results", "dead_letters": f"{self.name}-dlq"}
        return judge(decode, tier, name=self.name, reads=self.reads, **options)

    async def append(self, *found) -> None:
        await self.log.append([new(event)._replace(topic=self.reads) for event in found])

    async def letters(self):
        return await everything(self.log, f"{self.name}-dlq")

    async def result_ids(self) -> list[str]:
        found = await everything(self.log, f"{self.name}-results")
        return sorted(json.loads(record.value)["event_id"] for record in found)


def _opened(kind: str, directory):
    if kind == "kafka":
        return kafka_broker.kafka_log_factory()()
    return SqliteLog(directory / "events.db")


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.slow])])
async def place(request, tmp_path):
    log = _opened(request.param, tmp_path)
    place = Place(log, f"judge-{uuid.uuid4().hex[:8]}")
    names = (place.reads, f"{place.name}-results", f"{place.name}-dlq", f"{place.name}.retry")
    await log.create_topics([*(TopicSpec(name, 2) for name in names), state_spec()])
    yield place
    await log.close()


def judge(decode, tier=None, *, name="judge", reads=events.TOPIC, **options) -> Task:
    route = Route(Step(tier)) if tier else Route("haiku")
    return Task(
        name, reads=reads, input=Review, output=Label, instructions="Judge the review.",
        route=route, decode=decode, start_from="earliest", **options,
    )  # fmt: skip


def new(event, key: bytes | None = b"k") -> NewRecord:
    return NewRecord(events.TOPIC, key, event.value, event.headers)


async def everything(log, topic):
    found = []
    for partition, bounds in (await log.bounds(topic)).items():
        at = bounds.low
        # On Kafka the markers of transactions stand behind the last record: there is an end without one.
        while at < bounds.high and (records := await log.read(partition, at, 1_000)):
            found += records
            at = records[-1].offset + 1
    return found


def test_a_topic_with_every_format_ends_in_results():
    """Law 1: Avro, Protobuf and JSON side by side become results; an unknown id and garbage become dead letters that say why."""
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    task = judge(from_registry(client=client))
    outcome = run(
        task,
        [
            new(written(events.avro(client), a_review(1))),
            new(written(events.protobuf(client, MESSAGES["shop.Review"]), a_message(2))),
            new(written(events.json_schema(client), {"id": "r3", "text": "ok"})),
            new(written(events.avro(client, **events.IN_HEADER), a_review(4))),
            UNKNOWN,
            b"{}",
        ],
        answers=lambda review: {"label": "good", "echo": f"{review.id} {review.rating}"},
    )
    assert {key: output.echo for key, output in outcome.outputs.items()} == {
        "r1": "r1 4", "r2": "r2 4", "r3": "r3 0", "r4": "r4 4",
    }  # fmt: skip
    assert {letter.reason for letter in outcome.dead_letters} == {"undecodable"}
    details = sorted(letter.detail for letter in outcome.dead_letters)
    assert "schema id 4711" in details[0]
    assert "byte 0 is 0x7b" in details[1]
    assert UNKNOWN in {letter.record.value for letter in outcome.dead_letters}


def test_logical_types_reach_the_model_as_json():
    """What Claude is shown of an Avro event is plain JSON: times in ISO 8601, decimals as they are."""
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    seen = []
    tier = ScriptedTier(script=lambda tier, items: [seen.append(i.text) or tier.answer_of(i, echo="") for i in items])
    task = judge(from_registry(client=client), tier)
    asyncio.run(_one_result(task, tier, new(written(events.avro(client), a_review()))))
    shown = json.loads(seen[0])
    assert shown["at"] == "2026-05-04T03:02:01.500000Z"
    assert shown["price"] == "19.90"
    assert shown["author"] == {"name": "Jo", "is_verified": True}


async def _one_result(task, tier, event):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        log = SqliteLog(Path(directory) / "events.db")
        names = (task.reads, task.writes, task.dead_letters, task.retry_topic)
        await log.create_topics([*(TopicSpec(name, 1) for name in names), state_spec()])
        await log.append([event])

        async def is_there():
            return len(await everything(log, task.writes)) == 1

        async with running(Pipeline(task, [tier], log, QUICK)):
            await until(is_there)
        await log.close()


async def test_every_format_on_every_log_ends_in_results(registry, producer, place):
    """Law 1 on the embedded log and on Kafka: three formats become results, an unknown schema id becomes a dead letter."""
    tier = ScriptedTier(script=lambda tier, items: [tier.answer_of(item, echo=item.text) for item in items])
    codec = from_registry().connected(RegistryOptions(url=registry.url))
    await place.append(
        written(events.avro(producer), a_review(1)),
        written(events.protobuf(producer, MESSAGES["shop.Review"]), a_message(2)),
        written(events.json_schema(producer), {"id": "r3", "text": "ok"}),
        events.record(UNKNOWN),
        written(events.avro(producer, **events.IN_HEADER), a_review(4)),
    )
    async with running(Pipeline(place.judge(codec, tier), [tier], place.log, QUICK)):
        await until(lambda: _is(place.result_ids(), ["r1", "r2", "r3", "r4"]))
        await until(lambda: _is(_flag_of(place.letters()), True))
    (letter,) = map(read_letter, await place.letters())
    assert (letter.reason, letter.record.value) == ("undecodable", UNKNOWN)
    assert "schema id 4711" in letter.detail.lower()
    await codec.close()


async def test_an_outage_of_the_registry_holds_intake_and_loses_nothing(registry, producer, place, caplog):
    """Laws 1, 4 and 5: events of a new schema wait while the registry is down; none is dead-lettered or passed by."""
    caplog.set_level(logging.WARNING, "penstock.engine")
    tier = ScriptedTier()
    codec = from_registry().connected(RegistryOptions(url=registry.url, timeout_seconds=1.0))
    pipeline = Pipeline(place.judge(codec, tier), [tier], place.log, QUICK)
    small = events.avro(producer, events.AVRO_SMALL)
    late = [written(small, {"id": f"n{n}", "text": "new schema", "rating": n}) for n in range(3)]
    await place.append(*(written(events.avro(producer), a_review(n)) for n in range(3)))
    async with running(pipeline):
        await until(lambda: _is(place.result_ids(), ["r0", "r1", "r2"]))
        registry.stop()
        await place.append(*late, written(events.avro(producer), a_review(9)))

        async def is_told():
            return "holds its intake" in caplog.text

        await until(is_told)
        assert await place.result_ids() == ["r0", "r1", "r2"]
        registry.start()
        await until(lambda: _is(place.result_ids(), ["n0", "n1", "n2", "r0", "r1", "r2", "r9"]))
    assert await place.letters() == []
    assert registry.url in caplog.text
    await codec.close()


async def _is(found, wanted) -> bool:
    return await found == wanted


async def test_a_slow_registry_holds_up_nothing_but_its_own_events(registry, producer, place):
    """While a schema is being fetched, what was read before is answered and committed."""
    release = asyncio.Event()

    class Slow(ScriptedTier):
        async def answer(self, task, items):
            await release.wait()
            return await super().answer(task, items)

    tier = Slow()
    codec = from_registry().connected(RegistryOptions(url=registry.url))
    first = written(events.avro(producer), a_review())
    small = written(events.avro(producer, events.AVRO_SMALL), {"id": "n1", "text": "t", "rating": 1})
    await place.append(first)
    async with running(Pipeline(place.judge(codec, tier), [tier], place.log, QUICK)) as work:

        async def is_asked():
            return registry.asked("/schemas/ids/102") == 1

        await until(lambda: _is(_flag(registry.asked("/schemas/ids/101")), True))
        registry.go_on.clear()
        await place.append(small)
        await until(is_asked)
        release.set()
        await until(lambda: _is(place.result_ids(), ["r1"]))
        assert not work.done()
        registry.go_on.set()
        await until(lambda: _is(place.result_ids(), ["n1", "r1"]))
    await codec.close()


async def _flag(value) -> bool:
    return bool(value)


async def test_stopping_while_held_commits_nothing_of_what_was_held(registry, producer, place):
    """Law 4: a worker that stops during an outage leaves the held events to the next one, which ends them all."""
    await place.append(written(events.avro(producer), a_review()))
    registry.stop()
    tier = ScriptedTier()
    codec = from_registry().connected(RegistryOptions(url=registry.url, timeout_seconds=1.0))
    pipeline = Pipeline(place.judge(codec, tier), [tier], place.log, QUICK)
    async with running(pipeline):

        async def is_holding():
            return pipeline._fetches.is_holding

        await until(is_holding)
    assert (await place.result_ids(), await place.letters()) == ([], [])
    registry.start()
    async with running(Pipeline(place.judge(codec, tier), [tier], place.log, QUICK)):
        await until(lambda: _is(place.result_ids(), ["r1"]))
    await codec.close()


async def test_refused_credentials_stop_the_worker(registry, producer, place):
    """They are the user's to mend: nothing is dead-lettered, nothing committed, the error names the setting."""
    await place.append(written(events.avro(producer), a_review()))
    registry.credentials = "me:right"
    tier = ScriptedTier()
    codec = from_registry().connected(RegistryOptions(url=registry.url, basic_auth="me:wrong"))
    with pytest.raises(SettingsError, match=r"registry\.basic_auth"):
        async with asyncio.timeout(15):
            await Pipeline(place.judge(codec, tier), [tier], place.log, QUICK).run(asyncio.Event())
    assert tier.calls == []
    assert await place.letters() == []
    assert all(done.base == 0 for done in (await place.log.committed(place.name, place.reads)).values())


async def test_a_dead_letter_keeps_the_bytes_for_a_redrive(registry, place):
    """Law 1: what nobody can read is kept byte for byte, header and all, with the registry's own words."""
    tier = ScriptedTier()
    codec = from_registry().connected(RegistryOptions(url=registry.url))
    await place.append(events.record(UNKNOWN, (("h", b"1"),)))
    async with running(Pipeline(place.judge(codec, tier), [tier], place.log, QUICK)):
        await until(lambda: _is(_flag_of(place.letters()), True))
    letter = read_letter((await place.letters())[0])
    assert (letter.reason, letter.record.value) == ("undecodable", UNKNOWN)
    assert "Schema 4711 not found" in letter.detail
    await codec.close()


async def _flag_of(found) -> bool:
    return bool(await found)


TASK = """
from pydantic import BaseModel
from penstock import Task
from penstock.codecs import from_registry

class Review(BaseModel):
    id: str
    text: str

class Verdict(BaseModel):
    is_fine: bool

judge = Task("judge", reads="reviews", input=Review, output=Verdict, instructions="Judge.", decode=from_registry(),
             start_from="earliest")
"""


def _penstock(directory, *words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli", *words], cwd=directory, capture_output=True, text=True, timeout=60,
        env={**os.environ, "NO_COLOR": "1", **environment}, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_line_reads_the_registry_of_the_settings(registry, producer, tmp_path):
    """`penstock run` with `PENSTOCK_REGISTRY__URL`: Avro in, results out; wrong credentials and no address are told in a line."""
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASK))
    (tmp_path / "penstock.toml").write_text('log = "sqlite:events.db"\n')
    assert _penstock(tmp_path, "topics", "create", "reviews").returncode == 0
    asyncio.run(_append(tmp_path / "events.db", new(written(events.avro(producer), a_review()))))

    none = _penstock(tmp_path, "run", "tasks:judge", "--simulated")
    assert (none.returncode, "registry.url is not set" in none.stderr) == (2, True)
    registry.credentials = "me:right"
    given = {"PENSTOCK_REGISTRY__URL": registry.url, "PENSTOCK_REGISTRY__BASIC_AUTH": "me:wrong"}
    wrong = _penstock(tmp_path, "run", "tasks:judge", "--simulated", **given)
    assert (wrong.returncode, "registry.basic_auth" in wrong.stderr) == (2, True)
    assert "Traceback" not in wrong.stderr + none.stderr
    given["PENSTOCK_REGISTRY__BASIC_AUTH"] = "me:right"
    done = _penstock(tmp_path, "run", "tasks:judge", "--simulated", "--until-idle", **given)
    assert done.returncode == 0, done.stderr
    assert "1 results" in done.stderr
    tried = _penstock(tmp_path, "try", "tasks:judge", '{"id": "x", "text": "typed by a person"}', "--simulated")
    assert tried.returncode == 0, tried.stderr


async def _append(path, event):
    log = SqliteLog(path)
    await log.append([event])
    await log.close()
