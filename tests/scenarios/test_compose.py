"""The broker of `examples/compose.yaml`, without Docker: what it says is checked, and a broker starts with its settings."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

import compose_file
import kafka_broker
from kafka_broker import POM, ROOT, KafkaBroker
from penstock.log.kafka.probe import Probe

FILE = ROOT / "examples" / "compose.yaml"
DIRECTORY = "/var/lib/kafka/data"


@pytest.fixture(scope="module")
def compose():
    return compose_file.read(FILE)


@pytest.fixture(scope="module")
def kafka(compose):
    return compose["services"]["kafka"]


def properties(kafka) -> dict[str, str]:
    """As the image makes them of its environment: without the prefix, small, dots for underscores."""
    given = {k: v for k, v in kafka["environment"].items() if k.startswith("KAFKA_")}
    assert not [name for name in given if "__" in name], "the image reads two underscores in another way"
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in given.items()}


def listeners(text: str) -> dict[str, str]:
    """`NAME://host:port` by name."""
    return dict(re.fullmatch(r"(\w+)://(.*)", one).groups() for one in text.split(","))  # type: ignore[union-attr]


def test_versions_are_named_and_new_enough(compose):
    """No `latest`: a release by name, of the generation that the tests run, not newer than they are."""
    image = re.fullmatch(r"apache/kafka:(\d+)\.(\d+)\.\d+", compose["services"]["kafka"]["image"])
    tested = re.search(r"kafka_2\.13</artifactId>\s*<version>(\d+)\.(\d+)", POM.read_text())
    assert image
    assert tested
    assert image[1] == tested[1]
    assert (int(image[1]), int(image[2])) <= (int(tested[1]), int(tested[2]))
    assert re.fullmatch(
        r"confluentinc/cp-schema-registry:\d+\.\d+\.\d+", compose["services"]["schema-registry"]["image"]
    )


def test_ports_are_for_this_machine_only_and_are_those_of_the_listeners(compose, kafka):
    """What is published is what a listener serves, what it advertises is where this machine finds it, and nobody else may."""
    given = properties(kafka)
    heard, told = listeners(given["listeners"]), listeners(given["advertised.listeners"])
    assert kafka["ports"] == [f"127.0.0.1{heard['HOST']}:{heard['HOST'].strip(':')}"]
    assert told["HOST"] == f"localhost{heard['HOST']}"
    assert told["CONTAINERS"] == f"kafka{heard['CONTAINERS']}"
    registry = compose["services"]["schema-registry"]
    stores = registry["environment"]["SCHEMA_REGISTRY_KAFKASTORE_BOOTSTRAP_SERVERS"]
    assert stores == f"PLAINTEXT://{told['CONTAINERS']}"
    port = registry["environment"]["SCHEMA_REGISTRY_LISTENERS"].rpartition(":")[2]
    assert registry["ports"] == [f"127.0.0.1:{port}:{port}"]
    for address in ("localhost:9092", f"http://localhost:{port}"):
        assert address in FILE.read_text().partition("\nname:")[0], "the head of the file tells it"


def test_every_listener_has_a_protocol_and_every_role_its_listener(kafka):
    """A name that is spelt in two ways keeps the broker from starting."""
    given = properties(kafka)
    names = set(listeners(given["listeners"]))
    protocols = dict(one.split(":") for one in given["listener.security.protocol.map"].split(","))
    assert names == set(protocols)
    assert set(protocols.values()) == {"PLAINTEXT"}
    advertised = names - {given["controller.listener.names"]}
    assert set(listeners(given["advertised.listeners"])) == advertised
    assert given["inter.broker.listener.name"] in advertised
    voter, _, address = given["controller.quorum.voters"].partition("@")
    assert voter == given["node.id"]
    assert address == f"kafka{listeners(given['listeners'])[given['controller.listener.names']]}"


def test_it_is_well_only_when_it_answers(compose, kafka):
    """The health check asks the broker at the port that is published; who needs it waits for that."""
    words = kafka["healthcheck"]["test"]
    assert words[0] == "CMD"
    assert words[1].endswith("kafka-broker-api-versions.sh")
    assert words[2:] == ["--bootstrap-server", kafka["ports"][0].replace("127.0.0.1:9092:", "localhost:")]
    registry = compose["services"]["schema-registry"]
    assert registry["depends_on"]["kafka"]["condition"] == "service_healthy"


def test_events_are_kept_where_the_volume_is(compose, kafka):
    """`down` keeps them: the broker's directory is on a volume that the file declares."""
    (volume,) = kafka["volumes"]
    name, _, path = volume.partition(":")
    assert name in compose["volumes"]
    assert path == properties(kafka)["log.dirs"] == DIRECTORY


class ComposedBroker(KafkaBroker):
    """With the file's properties; only addresses, ports and the directory are this test's."""

    given: dict[str, str]

    def _settings(self) -> str:
        text = "".join(f"{name}={value}\n" for name, value in self.given.items())
        for written, real in {
            "://:9092": f"://127.0.0.1:{self._port}",
            "localhost:9092": f"127.0.0.1:{self._port}",
            "://:9093": f"://127.0.0.1:{self._controller_port}",
            "kafka:9093": f"127.0.0.1:{self._controller_port}",
            "://:19092": f"://127.0.0.1:{self.behind_proxy_port}",
            "kafka:19092": f"127.0.0.1:{self.behind_proxy_port}",
            DIRECTORY: str(self._directory / "data"),
        }.items():
            assert written in text, f"{FILE.name} has no {written} any more"
            text = text.replace(written, real)
        return text


@pytest.mark.slow
@pytest.mark.kafka
def test_a_broker_starts_with_its_settings_and_knows_every_one(kafka):
    """Each is a property of Kafka that the broker has taken; transactions work, and a misspelt topic is not made."""
    try:
        jars = kafka_broker.fetched_jars()
    except kafka_broker.BrokerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    directory = Path(tempfile.mkdtemp(prefix="penstock-compose-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    ComposedBroker.given = properties(kafka)
    broker = ComposedBroker(jars, directory)
    broker.start()
    try:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        asked = ConfigResource(ResourceType.BROKER, ComposedBroker.given["node.id"])
        (known,) = (future.result(15) for future in admin.describe_configs([asked]).values())
        unknown = [name for name in ComposedBroker.given if name not in known]
        assert unknown == []
        own = [line.partition("=") for line in broker._settings().splitlines()]
        assert {name: known[name].value for name, _, _ in own} == {name: value for name, _, value in own}
        admin.create_topics([NewTopic("made", 1, 1)])["made"].result(15)
        probe = Probe(broker.bootstrap)
        assert probe.cluster().has_new_protocol
        assert probe.try_transaction("compose/test", "made") > 0
        producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 4_000})
        faults = []
        producer.produce("never-made", b"", on_delivery=lambda error, _: faults.append(error))
        producer.flush(10)
        assert [fault is not None for fault in faults] in ([], [True]), "a topic that nobody made took a record"
        assert "never-made" not in probe.topic_facts(["never-made"])
    finally:
        broker.stop()
