"""A real Apache Kafka for the tests: one broker, brought by Maven, on free ports of the loopback.

Maven → [kafka broker] → contract suite

`PENSTOCK_TEST_KAFKA=host:port` takes a running broker instead. Where there is neither, the tests fail with one line that
says what to install: a contract that nobody ran is not proven.
"""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from confluent_kafka.admin import AclOperation, AclPermissionType, ResourceType

    from penstock.log.kafka import KafkaLog

Kind = TypeVar("Kind", bound="KafkaBroker")
ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "tests" / "kafka" / "pom.xml"
CACHE = ROOT / ".cache" / "kafka"
ADDRESS_SETTING = "PENSTOCK_TEST_KAFKA"
NEEDED = (
    "the Kafka tests need Java 17 or newer and Maven (Debian: `apt-get install openjdk-17-jdk-headless maven`), "
    f"or a running broker in {ADDRESS_SETTING}=host:port, "
    "for example of `docker compose -f examples/compose.yaml up` (localhost:9092)"
)
START_SECONDS = 90.0
STOP_SECONDS = 30.0
JAVA_FLAGS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class BrokerMissing(Exception):
    """No broker can be had here; the text says what to install."""


class KafkaBroker:
    """One KRaft broker with its own directory; `kill` and `restart` keep what it has stored."""

    def __init__(self, jars: Path, directory: Path) -> None:
        self._jars, self._directory = jars, directory
        self._port, self._controller_port = free_port(), free_port()
        self.behind_proxy_port, self.proxy_port = free_port(), free_port()
        """A second listener says that it is at `proxy_port`, where a test may listen and pass on what it likes."""
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self.bootstrap = f"127.0.0.1:{self._port}"
        self.can_restart = True
        self.cluster_id = uuid.uuid4().hex[:22]
        self._format()
        atexit.register(self.kill)

    def start(self) -> None:
        """Start and wait until it answers a request (not only accepts a connection)."""
        output = (self._directory / "broker.log").open("ab")
        with output:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", self._properties), stdout=output, stderr=output, start_new_session=True
            )
        self._watch = _watch(self._process.pid)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                tail = (self._directory / "broker.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"Kafka did not start in {self._directory}:\n{tail}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Shut down in order; killed where that takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut of the process: kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """kill -9 and start again on the same ports with the same data."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()
            watch.communicate(timeout=STOP_SECONDS)
        if process is None or process.poll() is not None:
            return
        os.kill(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}, logger=_quiet())
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def _java(self, *command: str | Path) -> list[str]:
        return [java(), *JAVA_FLAGS, "-cp", f"{self._jars}/*", *map(str, command)]

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    def _settings(self) -> str:
        """The text of its `server.properties`; other kinds of brokers have others."""
        return SETTINGS.format(
            port=self._port,
            controller=self._controller_port,
            behind=self.behind_proxy_port,
            proxy=self.proxy_port,
            data=self._directory / "data",
        )

    def _format(self) -> None:
        self._properties.write_text(self._settings(), encoding="utf-8")
        # A random id may begin with "-": hence the equals sign.
        cluster = f"--cluster-id={self.cluster_id}"
        made = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", cluster, "-c", self._properties),
            capture_output=True,
            check=False,
            timeout=START_SECONDS,
        )
        if made.returncode:
            raise RuntimeError(f"Kafka's storage tool failed: {made.stdout.decode()}{made.stderr.decode()}")


class GuardedBroker(KafkaBroker):
    """Asks for rights: whatever no rule denies is allowed."""

    def _settings(self) -> str:
        return super()._settings() + GUARDED

    def deny(self, kind: ResourceType, name: str, operation: AclOperation, *, is_prefix: bool = False) -> None:
        """A rule against everybody."""
        from confluent_kafka.admin import AclPermissionType

        self._rule(kind, name, operation, AclPermissionType.DENY, is_prefix=is_prefix)

    def allow_only(self, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """A rule for everybody: where there is one, nothing else is allowed."""
        from confluent_kafka.admin import AclPermissionType

        self._rule(kind, name, operation, AclPermissionType.ALLOW)

    def _rule(
        self,
        kind: ResourceType,
        name: str,
        operation: AclOperation,
        effect: AclPermissionType,
        *,
        is_prefix: bool = False,
    ) -> None:
        from confluent_kafka.admin import AclBinding, AdminClient, ResourcePatternType

        pattern = ResourcePatternType.PREFIXED if is_prefix else ResourcePatternType.LITERAL
        rule = AclBinding(kind, name, pattern, "User:ANONYMOUS", "*", operation, effect)
        admin = AdminClient({"bootstrap.servers": self.bootstrap})  # lives until its answer is there
        for future in admin.create_acls([rule]).values():
            future.result(10)


class ClassicBroker(KafkaBroker):
    """As before Kafka 4: it coordinates no groups itself."""

    def _settings(self) -> str:
        return super()._settings() + "group.coordinator.rebalance.protocols=classic\n"


class ForeignBroker:
    """A running broker that is not ours to stop."""

    can_restart = False

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def stop(self) -> None:
        """Nothing: it is not ours."""

    def restart(self) -> None:
        pytest.skip(f"the broker in {ADDRESS_SETTING} is not ours to restart")

    kill = restart


SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.max.session.timeout.ms=8000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=500
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=5000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=500
"""
GUARDED = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


def kafka_log_factory(**settings: Any) -> Callable[[], KafkaLog]:
    """Opens handles on the session's broker, as different processes would."""
    from penstock.log.kafka import KafkaLog

    bootstrap = session_broker().bootstrap
    return lambda: KafkaLog(bootstrap, **settings)


@cache
def session_broker() -> KafkaBroker | ForeignBroker:
    """The one broker of a test session; fails the test with one line where none can be had."""
    return _or_failed(start_broker)


@cache
def guarded_broker() -> GuardedBroker:
    """One that asks for rights, for all tests of a session; skips where the broker is a given one."""
    return _own(GuardedBroker)


@cache
def classic_broker() -> ClassicBroker:
    """One without the groups of Kafka 4, likewise."""
    return _own(ClassicBroker)


def _own(kind: type[Kind]) -> Kind:
    """One beside the session's, with settings of its own."""
    if os.environ.get(ADDRESS_SETTING):
        pytest.skip(f"the broker in {ADDRESS_SETTING} is not ours to set up")
    return _or_failed(lambda: _started(kind))


def _or_failed(start: Callable[[], Any]) -> Any:
    try:
        return start()
    except BrokerMissing as missing:
        reason = str(missing)
    pytest.fail(reason, pytrace=False)


def start_broker() -> KafkaBroker | ForeignBroker:
    """A broker that answers. Raises `BrokerMissing` where none can be had."""
    if address := os.environ.get(ADDRESS_SETTING):
        return ForeignBroker(address)
    return _started(KafkaBroker)


def _started(kind: type[Kind]) -> Kind:
    jars = fetched_jars()
    directory = Path(tempfile.mkdtemp(prefix="penstock-kafka-"))
    broker = kind(jars, directory)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    broker.start()
    return broker


def fetched_jars() -> Path:
    """Kafka's jars, fetched once per version of the pom; a half-finished fetch is never mistaken for a whole one."""
    java()
    version = re.search(r"kafka_2\.13</artifactId>\s*<version>([^<]+)", POM.read_text(encoding="utf-8"))
    assert version, f"{POM} names no version of kafka_2.13"
    jars = CACHE / version[1]
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerMissing(NEEDED)
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="fetch-", dir=CACHE))
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={unfinished}"]
    fetched = subprocess.run(command, capture_output=True, check=False, timeout=900)
    if fetched.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise BrokerMissing(f"Maven could not fetch Kafka: {fetched.stdout.decode()[-800:].strip()} ({NEEDED})")
    try:
        unfinished.rename(jars)
    except OSError:  # another run was faster
        shutil.rmtree(unfinished, ignore_errors=True)
    return jars


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Kills the broker when this process is gone, however it went: then the pipe ends."""
    script = f"cat > /dev/null; kill -9 {pid}"
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def java() -> str:
    """The program. Raises `BrokerMissing` where there is none that is new enough."""
    home = os.environ.get("JAVA_HOME", "")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise BrokerMissing(NEEDED)
    told = subprocess.run([found, "-version"], capture_output=True, check=False, timeout=START_SECONDS).stderr.decode()
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < 17:
        raise BrokerMissing(f"{found} is too old ({told.splitlines()[0] if told else 'no version'}): {NEEDED}")
    return found


def tool(main: str, *arguments: str) -> str:
    """What one of Kafka's own command-line tools prints."""
    command = [java(), *JAVA_FLAGS, "-cp", f"{fetched_jars()}/*", main, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    told = done.stdout.decode()
    assert done.returncode == 0, told + done.stderr.decode()
    assert "Error" not in told, told
    return told


def free_port() -> int:
    """Below the range that the kernel takes for outgoing connections.

    A client that tries again and again to reach a stopped broker on a port of that range in the end connects to itself, and
    the broker cannot have its port back.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _quiet():
    """A logger for attempts that are expected to fail."""
    import logging

    logger = logging.getLogger("penstock.tests.kafka_broker")
    logger.setLevel(logging.CRITICAL + 1)
    return logger
