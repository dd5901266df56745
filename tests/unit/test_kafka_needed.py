"""Where nothing serves a broker, the Kafka tests fail with one line that says what to install: never a silent skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kafka_broker
import kafka_own

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("apt-get install openjdk-17-jdk-headless maven", "PENSTOCK_TEST_KAFKA=host:port", "docker compose -f examples")


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    """No Java, no Maven, no address; what is in the session's cache stays."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv(kafka_broker.ADDRESS_SETTING, raising=False)
    return tmp_path


def program(directory: Path, name: str, says: str) -> None:
    """A stand-in on the path."""
    (directory / name).write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\n")
    (directory / name).chmod(0o755)
    for tool in ("cat",):
        if not (directory / tool).exists():
            (directory / tool).symlink_to(f"/bin/{tool}")


def line_of(failed) -> str:
    """The one line that a tester is shown."""
    text = str(failed.value)
    assert "\n" not in text
    assert [way for way in WAYS if way not in text] == []
    return text


def test_without_java_the_session_fails_with_one_line(nothing_installed):
    """All three ways are named; the session's own broker is not asked."""
    with pytest.raises(pytest.fail.Exception) as failed:
        kafka_broker.session_broker.__wrapped__()
    line_of(failed)


def test_an_old_java_is_named(nothing_installed):
    """Which one was found, and how old it is."""
    program(nothing_installed, "java", 'openjdk version "11.0.22" 2024-01-16')
    with pytest.raises(pytest.fail.Exception) as failed:
        kafka_broker.session_broker.__wrapped__()
    assert "too old" in line_of(failed)
    assert "11.0.22" in line_of(failed)


def test_without_maven_a_fetched_kafka_serves_and_another_is_asked_for(nothing_installed, monkeypatch):
    """Maven is only wanted where the jars are not there yet."""
    program(nothing_installed, "java", 'openjdk version "17.0.1" 2021-10-19')
    monkeypatch.setattr(kafka_broker, "CACHE", nothing_installed / "cache")
    with pytest.raises(pytest.fail.Exception) as failed:
        kafka_broker.session_broker.__wrapped__()
    line_of(failed)
    (nothing_installed / "cache" / "4.3.0").mkdir(parents=True)
    assert kafka_broker.fetched_jars() == nothing_installed / "cache" / "4.3.0"


def test_a_given_address_serves_all_but_who_needs_a_broker_of_its_own(nothing_installed, monkeypatch):
    """The address is taken without Java; who restarts brokers says in one line why it is not run."""
    monkeypatch.setenv(kafka_broker.ADDRESS_SETTING, "broker:9092")
    assert kafka_broker.session_broker.__wrapped__().bootstrap == "broker:9092"
    with pytest.raises(pytest.skip.Exception, match="restarts: it needs a broker of its own") as skipped:
        kafka_own.own_broker("this test restarts")
    assert "\n" not in str(skipped.value)
    monkeypatch.delenv(kafka_broker.ADDRESS_SETTING)
    with pytest.raises(pytest.fail.Exception) as failed:
        kafka_own.own_broker("this test restarts")
    line_of(failed)


def test_a_java_that_cannot_compile_fails_with_one_line(nothing_installed):
    """The reader in Java is never left out in silence."""
    program(nothing_installed, "java", 'openjdk version "17.0.1" 2021-10-19')
    with pytest.raises(pytest.fail.Exception, match="openjdk-17-jdk-headless") as failed:
        kafka_own.need_java_compiler()
    assert "\n" not in str(failed.value)


@pytest.mark.slow
def test_pytest_itself_counts_a_failure():
    """A whole run on a machine with nothing: failed, not skipped, and no traceback."""
    clean = {k: v for k, v in os.environ.items() if k not in {"JAVA_HOME", kafka_broker.ADDRESS_SETTING}}
    test = "tests/unit/test_doctor_kafka.py::test_a_cluster_that_has_everything_is_well"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", test], cwd=ROOT,
        env=clean | {"PATH": "/nonexistent"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, "1 failed" in done.stdout) == (1, True), done.stdout
    assert WAYS[0] in done.stdout
    assert "Traceback" not in done.stdout
