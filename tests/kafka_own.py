"""A broker of a test's own, also where `PENSTOCK_TEST_KAFKA` names one for the others; and what else of Java a test needs.

Maven → [kafka own] → crash proof, guarded brokers, readers in Java
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import kafka_broker
from kafka_broker import BrokerMissing, KafkaBroker

JDK_NEEDED = (
    "the reader in Java needs a JDK, and this Java only runs programs: "
    "Debian: `apt-get install openjdk-17-jdk-headless`"
)


def own_broker(why: str, settings: str = "") -> KafkaBroker:
    """Started, and the caller's to stop. Without Java the test fails; where another broker serves the others it says why not.

    The broker that an address names is nobody's to restart, to guard or to fill with topics of fixed names.
    `settings`: further lines of its `server.properties`.
    """
    try:
        jars = kafka_broker.fetched_jars()
    except BrokerMissing as missing:
        reason = str(missing)
    else:
        directory = Path(tempfile.mkdtemp(prefix="penstock-own-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        broker = KafkaBroker(jars, directory)
        with (directory / "server.properties").open("a") as properties:
            properties.write(settings)
        broker.start()
        return broker
    if os.environ.get(kafka_broker.ADDRESS_SETTING):
        pytest.skip(f"{why}: it needs a broker of its own beside {kafka_broker.ADDRESS_SETTING}, hence Java and Maven")
    pytest.fail(reason, pytrace=False)


def need_java_compiler() -> None:
    """Fails the test with one line where Java cannot compile: a reader that nobody ran is not proven."""
    command = [kafka_broker.java(), "--list-modules"]
    told = subprocess.run(command, capture_output=True, check=False, timeout=kafka_broker.START_SECONDS)
    if b"jdk.compiler" not in told.stdout:
        pytest.fail(JDK_NEEDED, pytrace=False)
