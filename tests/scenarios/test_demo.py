"""The demo as a user runs it: its end, its kills, its interruptions, its inputs, its way in and out; judged by reading its log."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from penstock.deadletters.letter import read_letter
from penstock.erasure import read_erasure
from penstock.log.sqlite import SqliteLog
from penstock.record import NewRecord
from penstock.simulator import SimulatorOptions, spawn
from review_events import erasable
from review_moderation.samples import day

pytestmark = pytest.mark.slow
MARK = "DEMO_TEST_MARK"
TASKS = ("review-moderator", "review-analyzer")
REVIEW = {"review_id": "r1", "product_id": "p1", "text": "Works as it should, arrived on time.", "shelf": 7}


class Demo:
    """Starts `penstock demo` in a directory of its own, without any settings of the machine's user."""

    def __init__(self, directory):
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.started = []

    def start(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", "demo", *arguments],
            cwd=self.directory,
            env=clean | {MARK: self.mark} | environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments, code=0, **options):
        process = self.start(*arguments, **options)
        said, _ = process.communicate(timeout=180)
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert self.left() == []
        return said

    def left(self):
        """Processes that this demo started and that still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process.cmdline())
        return found


@pytest.fixture
def demo(tmp_path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_log(directory, name="penstock-demo"):
    """Input records, and how many endings each (task, partition, offset) has; whether all results say `simulated`."""

    async def everything(log, topic):
        found = []
        for partition, bounds in (await log.bounds(topic)).items():
            at = bounds.low
            while records := await log.read(partition, at, 1_000):
                found += records
                at = records[-1].offset + 1
        return found

    async def read():
        log = SqliteLog(directory / name / "events.db")
        try:
            return [await everything(log, t) for t in ("review-events", "review-ai-results", "review-dlq")]
        finally:
            await log.close()

    events, results, letters = asyncio.run(read())
    endings = Counter()
    for record in results:
        if read_erasure(record):
            continue
        result = json.loads(record.value)
        assert result["simulated"] is True
        endings[result["task"], result["source"]["partition"], result["source"]["offset"]] += 1
    for letter in (read_letter(record) for record in letters if not read_erasure(record)):
        endings[letter.task, letter.source.partition, letter.source.offset] += 1
    return events, endings


def assert_ended_once(directory, expected_events, skipped):
    """Law 1, without any help of the demo's own judge."""
    events, endings = read_log(directory)
    assert len(events) == expected_events
    assert set(endings.values()) == {1}
    ended = len(TASKS) * (expected_events - skipped)
    assert ended - len(TASKS) * erasable(events) <= len(endings) <= ended


def assert_rows_are_there(directory):
    """Every verdict of the log has its row, but for what was erased."""
    events, _ = read_log(directory)
    results = {(r["task"], r["event_id"]) for r in read_results(directory)}
    with contextlib.closing(sqlite3.connect(directory / "penstock-demo" / "store.db")) as store:
        rows = set(store.execute("SELECT task, event_id FROM verdicts"))
    assert rows <= results
    assert len(results - rows) <= len(TASKS) * erasable(events)


def read_results(directory):
    async def read():
        log = SqliteLog(directory / "penstock-demo" / "events.db")
        try:
            found = []
            for partition, bounds in (await log.bounds("review-ai-results")).items():
                found += await log.read(partition, bounds.low, bounds.high - bounds.low)
            return found
        finally:
            await log.close()

    return [json.loads(record.value) for record in asyncio.run(read()) if not read_erasure(record)]


def wait_until_ready(url):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{url}/readyz", timeout=30):
            return
        time.sleep(0.1)
    pytest.fail(f"nobody listens at {url}")


def send(url, review):
    """Post it, as soon as somebody listens; what became of it within half a minute."""
    request = urllib.request.Request(
        f"{url}/v1/events", json.dumps(review).encode(), {"content-type": "application/json"}
    )
    wait_until_ready(url)
    with urllib.request.urlopen(request, timeout=30) as reply:
        event_id = json.load(reply)["id"]
    with urllib.request.urlopen(f"{url}/v1/events/{event_id}?wait=30s", timeout=60) as reply:
        return json.load(reply)


def skipped_of(day_number, events):
    return sum(event.ending == "skip" for event in day(day_number, events))


def wait_for(process, pattern):
    """Read what it says until the pattern comes."""
    said = ""
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    pytest.fail(f"it ended before {pattern!r} came:\n{said}")


def test_a_short_demo_ends_every_event_once_and_leaves_nothing_behind(demo, tmp_path):
    """Laws 1 and 9 as the demo tells them, and as the log has them; no process survives it."""
    said = demo.run("--events", "300", "--seconds", "4")
    assert "300 events for 2 groups: 600 of 600 ended" in said
    assert "0 lost, 0 doubled, 0 paid again" in said
    assert "simulated judgement" in said
    assert re.search(r"one call per event \$0\.0\d{3}", said)
    assert_ended_once(tmp_path, 300, skipped_of(1, 300))
    summary = said[said.index("every event has its ending") : said.index("Where to look next")]
    assert max(len(line.rstrip()) for line in summary.splitlines()) <= 80


def test_a_burst_is_absorbed_and_the_limit_that_binds_is_named(demo, tmp_path):
    """Ten times as many events for a moment: they wait in the log, no call is turned away, and each ends once."""
    said = demo.run("--events", "1500", "--seconds", "30")
    assert re.search(r"burst: 5\d\d events in 1\.5 s, \d+ times as many as before", said)
    assert re.search(r"burst absorbed: \d+ waited at most, drained in \d+ s", said)
    assert re.search(r"(requests|input tokens|output tokens) of haiku( bind)?: \d+% used, 0 answered 429;", said)
    told = said[said.index("The burst") : said.index("What it cost")]
    assert int(re.search(r"([\d,]+) waited in the log at most", told)[1].replace(",", "")) > 100
    assert re.search(r"meanwhile output tokens of haiku (bound|were used most): \d+% of the limit used", told)
    assert re.search(r"\b0 of [1-9]\d* calls answered 429", told)
    assert_ended_once(tmp_path, 1500, skipped_of(1, 1500))


def test_killed_workers_lose_and_double_nothing(demo, tmp_path):
    """`--kill`: the counters stay true, whatever dies."""
    said = demo.run("--events", "500", "--seconds", "12", "--kill")
    assert int(re.search(r"kill -9 struck (\d+) times", said)[1]) >= 1
    assert re.search(r"0 lost, 0 doubled, \d+ paid again", said)
    assert "Nothing lost, nothing doubled" in said
    assert_ended_once(tmp_path, 500, skipped_of(1, 500))


def test_an_interrupted_day_goes_on_and_a_finished_one_is_followed_by_the_next(demo, tmp_path):
    """Ctrl-C: exit code 130, nothing left behind; the next run sends the rest of the same day, the one after a new one."""
    process = demo.start("--events", "300", "--seconds", "15")
    wait_for(process, r"[1-9]\d*/300 events.* [1-9]\d* done")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped on the way" in said
    assert "Traceback" not in said
    assert demo.left() == []
    sent = len(read_log(tmp_path)[0])
    assert 0 < sent < 300
    said = demo.run("--seconds", "4")
    assert f"goes on after {sent} events" in said
    assert_ended_once(tmp_path, 300, skipped_of(1, 300))
    said = demo.run("--events", "50", "--seconds", "1")
    assert "Day 2 of a shop's reviews: every event has its ending" in said
    assert "50 events for 2 groups: 100 of 100 ended" in said
    assert_ended_once(tmp_path, 350, skipped_of(1, 300) + skipped_of(2, 50))


def test_whoever_dies_by_itself_is_named_and_started_again(demo, tmp_path):
    """One process of each kind is killed from outside: the demo says so and ends well all the same, with every row."""
    process = demo.start("--events", "300", "--seconds", "14")
    wait_for(process, r"[1-9]\d*/300 events.* [1-9]\d* done")
    named = {child: " ".join(child.cmdline()) for child in psutil.Process(process.pid).children()}
    for name in ("penstock.simulator", "role_process review_moderation", "role_process gateway", "role_process sinks"):
        next(child for child, command in named.items() if name in command).kill()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    for name in ("review-moderator-1|review-analyzer-1", "gateway", "sinks"):
        assert re.search(rf"({name}) ended by itself \(signal 9\) and is started again", said), said
    assert "The offline Claude ended by itself and is started again" in said
    assert_ended_once(tmp_path, 300, skipped_of(1, 300))
    assert_rows_are_there(tmp_path)
    assert demo.left() == []


def test_a_demo_that_is_killed_takes_its_processes_with_it(demo):
    """No orphan, whatever ends it; and while it runs, nobody else works in its directory."""
    process = demo.start("--events", "300", "--seconds", "30")
    wait_for(process, r"[1-9]\d*/300 events")
    assert len(demo.left()) == 6
    assert "another demo" in demo_refused(demo)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while demo.left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert demo.left() == []


def demo_refused(demo):
    said, _ = (process := demo.start()).communicate(timeout=90)
    assert process.returncode == 2, said
    return said


def test_a_review_over_http_gets_its_verdict_its_row_its_webhook_and_its_digest(demo, tmp_path):
    """The whole way of somebody's own event, while the day runs and after it; a taken port is told; Ctrl-C after the day is 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = demo.start("--events", "60", "--seconds", "5", "--stay", "-X", f"gateway.port={port}")
        said = wait_for(process, r"curl 'http://127")
        assert f"Port {port} is taken" in said
        url = re.search(r"(http://127\.0\.0\.1:\d+)/v1/events \\", said)[1]
        found = send(url, {"event_id": "mine", "review_id": "m1", "text": "Earn money fast at www.x.example"})
        assert found["tasks"]["review-moderator"]["result"]["output"]["decision"] == "reject"
        assert found["tasks"]["review-analyzer"]["state"] == "answered"
        said += wait_for(process, "mine: row written, webhook verified, Slack digest caught")
    with urllib.request.urlopen(f"{url}/console/event?task=review-moderator&event_id=mine", timeout=30) as page:
        shown = page.read().decode()
        assert all(part in shown for part in ("simulated: nobody judged it", "spam.advertising"))
    with contextlib.closing(sqlite3.connect(tmp_path / "penstock-demo" / "store.db")) as store:
        query = "SELECT label, simulated FROM verdicts WHERE task = 'review-moderator' AND event_id = 'mine'"
        assert store.execute(query).fetchall() == [("reject", 1)]
        query = "SELECT count(*) FROM webhook_attempts WHERE endpoint = 'demo' AND verdict <> 'delivered'"
        assert store.execute(query).fetchone() == (0,)
    if "The day is over" not in said:
        said += wait_for(process, "The day is over")
    assert "came over HTTP, besides the demo's own events: 1" in said
    found = send(url, {"event_id": "later", "review_id": "m2", "text": "A fine kettle, quiet and quick."})
    assert found["tasks"]["review-moderator"]["result"]["output"]["decision"] == "publish"
    said += wait_for(process, "later: row written, webhook verified")
    process.send_signal(signal.SIGINT)
    ended, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said + ended
    assert "62 events, 2 besides the demo's own: 124 of 124 ended" in ended
    assert demo.left() == []
    assert_rows_are_there(tmp_path)
    assert_what_waits_comes_first(demo, tmp_path)


def assert_what_waits_comes_first(demo, tmp_path):
    """An event that came while nobody worked is ended by the next day's run, and not taken for an answer too many."""

    async def write():
        log = SqliteLog(tmp_path / "penstock-demo" / "events.db")
        try:
            await log.append([NewRecord("review-events", b"p1", json.dumps(REVIEW).encode())])
        finally:
            await log.close()

    asyncio.run(write())
    said = demo.run("--events", "20", "--seconds", "1")
    assert "Day 2 of a shop's reviews: every event has its ending" in said
    assert "0 lost, 0 doubled, 0 paid again" in said
    assert_ended_once(tmp_path, 83, skipped_of(1, 60) + skipped_of(2, 20))


def test_own_events_from_a_packed_file(demo, tmp_path):
    """Every line is an event: unknown fields do no harm, bad lines become dead letters, and each ends once per task."""
    lines = [json.dumps(REVIEW | {"review_id": f"r{n}", "product_id": f"p{n % 7}"}) for n in range(400)]
    lines[10:10] = ["no json at all", "", '{"review_id": "r", "text": 5}', "[]"]
    (tmp_path / "own.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    said = demo.run("--input", "own.jsonl.gz")
    assert "403 events for 2 groups: 806 of 806 ended" in said
    assert "6 undecodable" in said
    assert_ended_once(tmp_path, 403, 0)


def test_own_events_from_stdin(demo, tmp_path):
    """`--input -` takes what comes; a line that comes alone is answered before the next one."""
    process = demo.start("--input", "-", stdin=subprocess.PIPE)
    process.stdin.write(json.dumps(REVIEW) + "\n")
    process.stdin.flush()
    wait_for(process, r"review-moderator 1 done.* review-analyzer 1 done")
    process.stdin.write(json.dumps(REVIEW | {"review_id": "r2"}) + "\n")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "2 events for 2 groups: 4 of 4 ended" in said
    assert_ended_once(tmp_path, 2, 0)


def test_live_asks_the_api_of_the_settings_under_the_ceiling(demo, tmp_path):
    """`--live` shows its ceiling; where the settings name a stand-in, the judgement is still called simulated."""
    with spawn(SimulatorOptions(api_keys=("a-key",))) as api:
        said = demo.run(
            "--live", "--events", "60", "--seconds", "1", ANTHROPIC_API_KEY="a-key", PENSTOCK_CLAUDE__BASE_URL=api.url
        )
        assert api.accounts()["billed_calls"] > 0
    assert "at most $1.00" in said
    assert "simulated judgement" in said
    assert_ended_once(tmp_path, 60, skipped_of(1, 60))


def test_a_wrong_key_stops_the_demo_with_the_workers_words(demo):
    """Nothing can be answered until a person acts: the reason is told, the exit code is not 0, nothing is left behind."""
    with spawn(SimulatorOptions(api_keys=("a-key",))) as api:
        said = demo.run(
            "--live", "--events", "60", "--seconds", "1", code=1, ANTHROPIC_API_KEY="x", PENSTOCK_CLAUDE__BASE_URL=api.url
        )  # fmt: skip
    assert "ended by itself" in said
    assert "key" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dir", "foreign"], "holds something else (notes.txt)"),
        (["--dir", "file"], "file is a file"),
        (["--dir", "/proc/none"], "cannot be written"),
        (["--dir", "damaged"], "cannot be read"),
        (["--dir", "otherlog"], "no log of Penstock"),
        (["--input", "missing.jsonl"], "missing.jsonl cannot be read: No such file"),
        (["--input", "empty"], "holds no events"),
        (["--input", "-"], "stdin holds no events"),
        (["--input", "foreign"], "is a directory"),
        (["--input", "damaged.gz"], "damaged gzip file"),
        (["--input", "-", "--seconds", "5"], "--seconds"),
        (["--live"], "finds no key"),
        (["--live", "--kill"], "--kill with --live"),
        (["--ceiling-usd", "2"], "is for --live"),
    ],
)
def test_mistakes_are_told_in_one_sentence(demo, tmp_path, arguments, told):
    """Exit code 2, no traceback, nothing started, nothing foreign touched."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "damaged.gz").write_bytes(b"\x1f\x8bgarbage")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "demo.json").write_text("{}")
    (tmp_path / "otherlog").mkdir()
    (tmp_path / "otherlog" / "events.db").write_text("something else, and long enough")
    said = demo.run(*arguments, code=2)
    assert said.startswith("error: ")
    assert told in said
    assert [entry.name for entry in (tmp_path / "foreign").iterdir()] == ["notes.txt"]
