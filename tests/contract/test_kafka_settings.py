"""What the brokers themselves say about topics that we make and transactions that we begin: read back, not believed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource

from cli_calls import Cli, cli_in
from contract.log_fixtures import Worker, made_topic, unique
from kafka_broker import session_broker, tool
from kafka_cluster import KafkaCluster, start_cluster
from penstock.log.kafka import KafkaOptions
from penstock.log.state import STATE_TOPIC

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

DAY_MS = 24 * 3600 * 1000
TASK = """
from pydantic import BaseModel

from penstock import Route, Step, Task


class Note(BaseModel):
    text: str


task = Task(
    "{name}", reads="{name}-notes", writes="{name}-results", dead_letters="{name}-dlq", input=Note, output=Note,
    instructions="Repeat it.", route=Route(Step("haiku")),
)
"""


class Made(NamedTuple):
    """A topic as the brokers have it."""

    partitions: int
    replicas: int
    settings: dict[str, str]

    @property
    def kept(self) -> tuple[str, int]:
        """How it is cleaned, and how long its records are kept."""
        return self.settings["cleanup.policy"], int(self.settings["retention.ms"])


def made_as(bootstrap: str, *names: str) -> dict[str, Made]:
    """Asked with a client that is not ours."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    described = admin.describe_topics(TopicCollection(list(names)))
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    settings = {resource.name: future.result(30) for resource, future in admin.describe_configs(resources).items()}
    found = {}
    for name, future in described.items():
        partitions = future.result(30).partitions
        (copies,) = {len(partition.replicas) for partition in partitions}
        found[name] = Made(len(partitions), copies, {key: entry.value for key, entry in settings[name].items()})
    return found


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    with cli_in(tmp_path) as cli:
        yield cli


def own_task(cli: Cli) -> str:
    """A task with names of its own."""
    name = f"made-{uuid.uuid4().hex[:8]}"
    cli.write(f"{name.replace('-', '_')}.py", TASK.replace("{name}", name))
    return name


def create(cli: Cli, bootstrap: str, name: str, *more: str) -> dict[str, Made]:
    """`penstock topics create` for every topic of the task; what the brokers say of them."""
    cli.done(
        "topics", "create", "--task", f"{name.replace('-', '_')}:task", "--log", f"kafka:{bootstrap}", *more
    )  # fmt: skip
    return made_as(bootstrap, *(f"{name}{suffix}" for suffix in ("-notes", "-results", "-dlq", ".retry")), STATE_TOPIC)


def assert_shaped(topics: dict[str, Made], name: str, partitions: int) -> None:
    """What every cluster must have of it."""
    state = topics.pop(STATE_TOPIC)
    assert (state.partitions, state.kept) == (1, ("compact", -1))
    assert state.settings["segment.ms"] == "3600000", "what is never compacted is read by everyone who starts"
    assert topics[f"{name}.retry"].partitions == -(-partitions // 4)
    assert {topic.partitions for full_name, topic in topics.items() if full_name != f"{name}.retry"} == {partitions}
    assert {suffix: topics[f"{name}{suffix}"].kept for suffix in ("-notes", "-results", "-dlq", ".retry")} == {
        "-notes": ("delete", 7 * DAY_MS),
        "-results": ("delete", 7 * DAY_MS),
        "-dlq": ("delete", 14 * DAY_MS),
        ".retry": ("delete", 7 * DAY_MS),
    }
    needed = str(KafkaOptions().max_message_bytes)
    assert {topic.settings["max.message.bytes"] for topic in (state, *topics.values())} == {needed}


def test_topics_of_a_task_as_one_broker_has_them(cli):
    """Partitions, retention, compaction of the state topic, sizes; one copy, and a write waits for that one."""
    bootstrap, name = session_broker().bootstrap, own_task(cli)
    topics = create(cli, bootstrap, name, "--partitions", "5", "--replication", "1")
    assert {(t.replicas, t.settings["min.insync.replicas"]) for t in topics.values()} == {(1, "1")}
    assert_shaped(topics, name, partitions=5)


def test_a_named_topic_as_it_was_asked_for(cli):
    """Retention in days, compaction and settings of Kafka's own reach the broker; what exists is left as it is."""
    bootstrap, name = session_broker().bootstrap, unique("named")
    log = ("--log", f"kafka:{bootstrap}")
    cli.done(
        "topics", "create", name, "--partitions", "2", "--retention-days", "1.5", "--topic-config", "segment.ms=3600000", *log
    )  # fmt: skip
    made = made_as(bootstrap, name)[name]
    assert (made.partitions, made.kept, made.settings["segment.ms"]) == (2, ("delete", 3 * DAY_MS // 2), "3600000")
    (line,) = cli.lines("topics", "create", name, "--partitions", "9", "--compacted", "--json", *log)
    assert line == {"topic": name, "created": False}
    assert made_as(bootstrap, name)[name] == made
    cli.done("topics", "create", f"{name}-c", "--compacted", *log)
    assert made_as(bootstrap, f"{name}-c")[f"{name}-c"].kept == ("compact", -1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    cluster = start_cluster()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("given", [(), ("--replication", "3")], ids=["the brokers' default", "asked for"])
def test_topics_of_a_task_on_three_brokers(cli, cluster, given):
    """Three copies of each partition, and a write waits for two: any one broker may be lost."""
    name = own_task(cli)
    topics = create(cli, cluster.bootstrap, name, *given)
    assert {(t.replicas, t.settings["min.insync.replicas"]) for t in topics.values()} == {(3, "2")}
    assert_shaped(topics, name, partitions=12)


@pytest.mark.parametrize("seconds", [None, 7.0], ids=["default", "by setting"])
async def test_the_time_out_of_a_transaction_as_the_coordinator_has_it(open_kafka, seconds):
    """Ten seconds unless set: so long readers wait for a worker that died inside one."""
    options = KafkaOptions() if seconds is None else KafkaOptions(transaction_timeout_seconds=seconds)
    log, group = open_kafka(options=options), unique("g")
    await Worker.joined(log, group, await made_topic(log, 1), slot="a")
    tools = "org.apache.kafka.tools.TransactionsCommand"
    asked = ("--bootstrap-server", session_broker().bootstrap, "describe", "--transactional-id", f"{group}/a")
    head, row = (await asyncio.to_thread(tool, tools, *asked)).strip().splitlines()[-2:]
    told = dict(zip(head.split(), row.split(), strict=False))
    assert int(told["TransactionTimeoutMs"]) == (10_000 if seconds is None else 7_000)
