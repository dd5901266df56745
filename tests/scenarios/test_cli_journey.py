"""A new user's first quarter of an hour, through the installed command and real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bounded import LINE_SECONDS, killed_after, line_of

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
PENSTOCK = str(BIN / "penstock")


@pytest.fixture
def environment():
    """Nothing of the developer's own settings; the installed command first in the path."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}


@pytest.fixture
def project(tmp_path, environment):
    """What `penstock init` makes."""
    subprocess.run([PENSTOCK, "init", "shop", "-q"], cwd=tmp_path, env=environment, check=True)
    return tmp_path / "shop"


def _call(project, environment, *arguments, **options):
    return subprocess.run(
        [PENSTOCK, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False, **options
    )


def _values(project, environment, topic):
    done = _call(project, environment, "tail", topic, "--from", "earliest", "--json")
    return [json.loads(line)["value"] for line in done.stdout.splitlines()]


def test_every_command_of_the_projects_readme_works(project, environment):
    """The README of a new project is followed line by line; at its end every event is a result or a dead letter."""
    (block,) = re.findall(r"```sh\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    commands = [line for line in block.splitlines() if line.strip()]
    assert len(commands) >= 7
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
    results = _values(project, environment, "feedback-sorted")
    buried = _values(project, environment, "feedback-dlq")
    assert sorted(r["event_id"] for r in results) == [f"f-{n:03}" for n in (*range(1, 11), 12)]
    assert all(r["simulated"] for r in results)
    assert [letter["id"] for letter in buried] == ["f-011"]
    status = json.loads(_call(project, environment, "status", "--json").stdout)
    assert {row["lag_events"] for row in status["groups"]} == {0}


def test_worker_told_to_stop_drains_and_ends_well(project, environment):
    """SIGTERM ends `run` with exit code 0 after the results are committed; a second worker pays for nothing again."""
    _call(project, environment, "topics", "create", "--task", "feedback:sorter")
    _call(project, environment, "produce", "events.jsonl", "-t", "feedback")
    worker = subprocess.Popen(
        [PENSTOCK, "run", "feedback:sorter", "--simulated"],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with (
        subprocess.Popen(
            [PENSTOCK, "tail", "feedback-sorted", "--follow", "--from", "earliest", "--limit", "11", "--json"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as tail,
        killed_after(LINE_SECONDS, tail),
    ):
        followed = tail.stdout.read().splitlines()
    worker.send_signal(signal.SIGTERM)
    with killed_after(LINE_SECONDS, worker):
        _, said = worker.communicate()
    assert tail.returncode == 0, f"11 results did not come within {LINE_SECONDS:.0f} s: {followed}\n{said}"
    assert worker.returncode == 0, said
    assert "Traceback" not in said
    assert len(followed) == 11
    again = _call(project, environment, "run", "feedback:sorter", "--simulated", "--until-idle")
    assert again.returncode == 0, again.stderr
    assert "0 results, 0 dead letters" in again.stderr
    assert len(_values(project, environment, "feedback-sorted")) == 11


def test_pipe_that_ends_early_ends_quietly(project, environment):
    """`| head` closes our stdout: exit code 0, not a word on stderr."""
    _call(project, environment, "topics", "create", "feedback")
    lines = "".join(json.dumps({"id": str(n), "text": "x" * 200}) + "\n" for n in range(5_000))
    assert _call(project, environment, "produce", "-", "-t", "feedback", input=lines).returncode == 0
    for options in ("--json", ""):
        command = f"{PENSTOCK} tail feedback --from earliest {options} | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout.splitlines()[-1] == "0"
        assert done.stderr == ""


def test_interrupt_ends_a_follower_with_130(project, environment):
    """Ctrl-C on `tail --follow` says so in one word."""
    _call(project, environment, "topics", "create", "feedback")
    _call(project, environment, "produce", "events.jsonl", "-t", "feedback")
    with subprocess.Popen(
        [PENSTOCK, "tail", "feedback", "--follow", "--json"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a job in the background ignores it
    ) as follower:
        try:
            assert line_of(follower).startswith("{")
            follower.send_signal(signal.SIGINT)
            _, said = follower.communicate(timeout=30)
        finally:
            follower.kill()
    assert (follower.returncode, said) == (130, "interrupted\n")


def test_read_only_place_is_told(project, environment):
    """A place that cannot be written is named, without a traceback."""
    done = _call(project, environment, "topics", "create", "a", "--log", "sqlite:/proc/penstock.db")
    assert done.returncode in (1, 2)
    assert "/proc/penstock.db" in done.stderr
    assert "Traceback" not in done.stderr
    done = _call(project, environment, "init", "/proc/shop")
    assert done.returncode == 1
    assert "/proc/shop" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_key_stops_the_worker_with_what_to_do(project, environment):
    """The API that refuses the key ends `run` with exit code 1; no event becomes a dead letter."""
    _call(project, environment, "topics", "create", "--task", "feedback:sorter")
    _call(project, environment, "produce", "events.jsonl", "-t", "feedback", "--limit", "10")
    with subprocess.Popen(
        [PENSTOCK, "simulate", "--port", "0", "--api-key", "the-right-one", "--latency-ms", "0"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as simulator:
        try:
            url = json.loads(line_of(simulator))["url"]
            live = {**environment, "PENSTOCK_CLAUDE__BASE_URL": url, "PENSTOCK_CLAUDE__API_KEY": "sk-not-right"}
            done = _call(project, live, "run", "feedback:sorter", timeout=60)
            simulator.send_signal(signal.SIGINT)
            simulator.wait(30)
        finally:
            simulator.kill()  # else the end of this block waits for it, for ever
    assert simulator.returncode in (0, 130)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "key" in done.stderr
    assert "sk-not-right" not in done.stderr
    assert _values(project, environment, "feedback-dlq") == []


@pytest.mark.kafka
def test_the_same_commands_work_on_kafka(project, environment):
    """On a cluster only the log's name changes: topics, events, answers, lag."""
    from kafka_broker import session_broker

    bootstrap = session_broker().bootstrap
    on_kafka = {**environment, "PENSTOCK_LOG": f"kafka:{bootstrap}"}
    for command in (
        ("topics", "create", "--task", "feedback:sorter", "--partitions", "3"),
        ("produce", "events.jsonl", "--topic", "feedback", "--key-field", "customer"),
        ("run", "feedback:sorter", "--simulated", "--until-idle"),
    ):
        done = _call(project, on_kafka, *command)
        assert done.returncode == 0, (command, done.stderr)
    assert len(_values(project, on_kafka, "feedback-sorted")) == 11
    assert [letter["id"] for letter in _values(project, on_kafka, "feedback-dlq")] == ["f-011"]
    rows = json.loads(_call(project, on_kafka, "status", "--group", "feedback-sorter", "--json").stdout)["groups"]
    assert sum(row["lag_events"] for row in rows) == 0
    missing = _call(project, on_kafka, "tail", "nowhere")
    assert (missing.returncode, "penstock topics create nowhere" in missing.stderr) == (2, True)
    assert not (project / "penstock.db").exists()
