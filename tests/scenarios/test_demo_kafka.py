"""The demo and the shipped tasks on a cluster: judged by reading its topics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter

import pytest

import kafka_broker
from penstock import NewRecord
from penstock.deadletters.letter import read_letter
from penstock.erasure import read_erasure
from penstock.log.kafka import KafkaLog
from penstock.log.state import STATE_TOPIC
from review_events import erasable
from review_moderation.samples import day

pytestmark = [pytest.mark.slow, pytest.mark.kafka]
TASKS = ("review-moderator", "review-analyzer")
OWN = """\
from dataclasses import replace
from review_moderation import moderator as shipped

def named(topic):
    return "{name}-" + topic

moderator = replace(
    shipped, name=named(shipped.name), reads=named(shipped.reads), writes=named(shipped.writes),
    dead_letters=named(shipped.dead_letters), start_from="earliest",
)
"""


@pytest.fixture
def bootstrap():
    return kafka_broker.session_broker().bootstrap


def penstock(directory, *arguments, code=0):
    """What a command says; nothing of the machine's own settings is seen."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", *arguments],
        cwd=directory,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def on(bootstrap, question):
    """The answer to a question that is asked of the log."""

    async def ask():
        log = KafkaLog(bootstrap)
        try:
            return await question(log)
        finally:
            await log.close()

    return asyncio.run(ask())


async def everything(log, topic):
    found = []
    for partition, bounds in (await log.bounds(topic)).items():
        at = bounds.low
        while at < bounds.high and (records := await log.read(partition, at, 1_000)):
            found += records
            at = records[-1].offset + 1
    return found


def assert_ended_once(bootstrap, prefix, events, tasks, skipped):
    """Law 1, without any help of the demo's own judge."""

    async def read(log):
        return [await everything(log, prefix + t) for t in ("review-events", "review-ai-results", "review-dlq")]

    sent, results, letters = on(bootstrap, read)
    assert len(sent) == events
    endings = Counter()
    for result in (json.loads(record.value) for record in results if record.value is not None):
        assert result["simulated"] is True
        endings[result["task"], result["source"]["partition"], result["source"]["offset"]] += 1
    for letter in (read_letter(record) for record in letters if not read_erasure(record)):
        endings[letter.task, letter.source.partition, letter.source.offset] += 1
    assert set(endings.values()) == {1}
    assert {task for task, _, _ in endings} == {prefix + task for task in tasks}
    ended = len(tasks) * (events - skipped)
    assert ended - len(tasks) * erasable(sent) <= len(endings) <= ended


def skipped_of(day_number, events):
    return sum(event.ending == "skip" for event in day(day_number, events))


def test_a_day_on_a_cluster_ends_every_event_once_and_touches_nothing_else(tmp_path, bootstrap):
    """Own topics, an independent count of endings, and the next run goes on with the next day in the same topics."""
    before = set(on(bootstrap, KafkaLog.topics))
    said = penstock(tmp_path, "demo", "--kafka", bootstrap, "--events", "120", "--seconds", "3")
    assert "120 events for 2 groups: 240 of 240 ended" in said
    assert "0 lost, 0 doubled, 0 paid again" in said
    prefix = json.loads((tmp_path / "penstock-demo-kafka" / "demo.json").read_text())["prefix"]
    assert prefix.startswith("penstock-demo-")
    assert f"--delete --topic '{prefix}.*'" in said
    with contextlib.closing(sqlite3.connect(tmp_path / "penstock-demo-kafka" / "store.db")) as store:
        rows = store.execute("SELECT count(*), min(task), max(task) FROM verdicts").fetchone()
    assert rows == (int(re.search(r"([\d,]+) rows of verdicts", said)[1]), f"{prefix}{TASKS[1]}", f"{prefix}{TASKS[0]}")
    assert re.search(r"[1-9]\d* webhooks verified: ([1-9]\d*) verdicts \(\1 simulated\)", said)
    assert "still waiting" not in said
    assert f"tail {prefix}review-ai-results" in said
    made = set(on(bootstrap, KafkaLog.topics)) - before
    assert {name for name in made if not name.startswith(prefix)} <= {STATE_TOPIC}
    assert len({name for name in made if name.startswith(prefix)}) == 5
    assert_ended_once(bootstrap, prefix, 120, TASKS, skipped_of(1, 120))
    said = penstock(tmp_path, "demo", "--kafka", bootstrap, "--events", "60", "--seconds", "2", "--kill")
    assert "Day 2 of a shop's reviews: every event has its ending" in said
    assert_ended_once(bootstrap, prefix, 180, TASKS, skipped_of(1, 120) + skipped_of(2, 60))


def test_a_demo_elsewhere_leaves_the_topics_and_begins_anew(tmp_path, bootstrap):
    """The same directory on the embedded log: a first day again, and where the other topics are is told."""
    penstock(tmp_path, "demo", "--kafka", bootstrap, "--events", "20", "--seconds", "1", "--dir", "here")
    prefix = json.loads((tmp_path / "here" / "demo.json").read_text())["prefix"]
    said = penstock(tmp_path, "demo", "--events", "20", "--seconds", "1", "--dir", "here")
    assert "Day 1 of a shop's reviews: every event has its ending" in said
    assert f"{prefix}* at kafka:{bootstrap}" in said
    assert_ended_once(bootstrap, prefix, 20, TASKS, skipped_of(1, 20))


def test_an_address_where_nobody_is_is_told_by_name(tmp_path):
    """Within seconds, with the cause, and no process is left; mistyped addresses at once."""
    said = penstock(tmp_path, "demo", "--kafka", "127.0.0.1:1", code=2)
    assert "no Kafka broker answers at 127.0.0.1:1" in said
    assert "refused" in said
    assert "write HOST:PORT" in penstock(tmp_path, "demo", "--kafka", "somewhere", code=2)
    assert "--kafka HOST:PORT" in penstock(tmp_path, "demo", "--log", "kafka:127.0.0.1:1", code=2)


def test_a_shipped_task_runs_on_a_cluster_as_on_the_embedded_log(tmp_path, bootstrap):
    """Topics, events, a worker until nothing waits: the commands are the same, and so is what comes out."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    (tmp_path / "own.py").write_text(OWN.format(name=name))
    log = ("--log", f"kafka:{bootstrap}")
    penstock(tmp_path, "topics", "create", "--task", "own:moderator", "--partitions", "3", *log)
    events = [event for event in day(1, 80) if event.value is not None]
    (tmp_path / "day.jsonl").write_bytes(b"\n".join(event.value.replace(b"\n", b" ") for event in events) + b"\n")
    penstock(tmp_path, "produce", "day.jsonl", "-t", f"{name}-review-events", "-k", "product_id", "--raw", *log)
    said = penstock(tmp_path, "run", "own:moderator", "--simulated", "--until-idle", *log)
    assert f"{name}-review-moderator: " in said
    skipped = sum(event.ending == "skip" for event in events)
    assert_ended_once(bootstrap, f"{name}-", len(events), ["review-moderator"], skipped)


def test_what_was_deleted_leaves_nothing_waiting(tmp_path, bootstrap):
    """Erasures pass through the retry topic; the marker behind the last of them is no event that waits for anybody."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    (tmp_path / "own.py").write_text(OWN.format(name=name))
    log = ("--log", f"kafka:{bootstrap}")
    penstock(tmp_path, "topics", "create", "--task", "own:moderator", "--partitions", "1", *log)
    event = next(event for event in day(1, 80) if event.ending == "result")
    deletion = NewRecord(f"{name}-review-events", event.key, None)
    on(bootstrap, lambda log: log.append([NewRecord(f"{name}-review-events", event.key, event.value), deletion]))
    penstock(tmp_path, "run", "own:moderator", "--simulated", "--until-idle", *log)
    said = penstock(tmp_path, "status", "--group", f"{name}-review-moderator", *log)
    assert "nobody works" not in said
    page = json.loads(penstock(tmp_path, "status", "--group", f"{name}-review-moderator", "--json", *log))
    assert {row["topic"]: row["lag_events"] for row in page["groups"]} == {
        f"{name}-review-events": 0,
        f"{name}-review-moderator.retry": 0,
    }
    assert {kept.high for kept in on(bootstrap, lambda log: log.bounds(f"{name}-review-moderator.retry")).values()} == {
        2
    }
