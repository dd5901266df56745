"""Commands that look at the log or write to it: topics, produce, tail, status."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sqlite3
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_calls import cli_in
from penstock import NewRecord, Partition
from penstock.cli.tail import printable
from penstock.log.base import PartProgress, Progress
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog


@pytest.fixture
def cli(tmp_path):
    with cli_in(tmp_path) as cli:
        yield cli


@pytest.fixture
def topic(cli):
    cli.done("topics", "create", "events", "--partitions", "4")
    return "events"


def _values(cli, topic, *options):
    return [record["value"] for record in cli.lines("tail", topic, "--json", "--from", "earliest", *options)]


# --- topics


def test_topics_are_made_once_and_listed(cli):
    """What exists is left as it is, and both runs succeed."""
    assert cli.lines("topics", "create", "a", "b", "--json") == [
        {"topic": "a", "created": True},
        {"topic": "b", "created": True},
    ]
    assert cli.lines("topics", "create", "b", "c", "--json") == [
        {"topic": "b", "created": False},
        {"topic": "c", "created": True},
    ]
    listed = {
        row["topic"]: (row["partitions"], row["offsets"], row["compacted"])
        for row in cli.lines("topics", "list", "--json")
    }
    assert listed == {"a": (12, 0, False), "b": (12, 0, False), "c": (12, 0, False)}


def test_task_gets_every_topic_it_needs(cli):
    """Input, results, dead letters, retry and state: one command."""
    cli.done("init", ".")
    cli.done("topics", "create", "--task", "feedback:sorter", "--partitions", "3")
    listed = {row["topic"]: row["partitions"] for row in cli.lines("topics", "list", "--json")}
    assert listed == {
        "feedback": 3,
        "feedback-sorted": 3,
        "feedback-dlq": 3,
        "feedback-sorter.retry": 1,
        "penstock-state": 1,
    }


def test_a_retry_topic_made_by_name_is_narrow_too(cli):
    """Who is told to make one by name makes it as `--task` does, unless a number is given."""
    cli.done("topics", "create", "a", "a.retry")
    cli.done("topics", "create", "b.retry", "--partitions", "5")
    listed = {row["topic"]: row["partitions"] for row in cli.lines("topics", "list", "--json")}
    assert listed == {"a": 12, "a.retry": 3, "b.retry": 5}


@pytest.mark.parametrize("name", ["a b", "a/b", "", "..", "x" * 250])
def test_name_that_no_log_takes_is_refused(cli, name):
    """Names are those of Kafka, also on the embedded log, so that a task can move."""
    assert "no topic name" in cli.refused("topics", "create", name)


def test_nothing_to_make_is_told(cli):
    """Without names and tasks there is nothing to do, and that is a mistake."""
    assert "--task" in cli.refused("topics", "create")


# --- produce


def test_lines_become_events_with_their_keys(cli, topic):
    """Values stay byte for byte; the key is the field's plain value."""
    cli.write("e.jsonl", '{"user": {"id": 7}, "t": "é"}\r\n{"user": {"id": "seven"}}\n')
    cli.done("produce", "e.jsonl", "--topic", topic, "--key-field", "user.id", "-H", "source=shop")
    records = cli.lines("tail", topic, "--json", "--from", "earliest")
    assert {r["key"]: r["value"] for r in records} == {
        "7": {"user": {"id": 7}, "t": "é"},
        "seven": {"user": {"id": "seven"}},
    }
    assert all(r["headers"] == [["source", "shop"]] for r in records)


def test_bad_lines_are_named_and_left_out(cli, topic):
    """Good lines go, bad ones are counted with number and reason, and the exit code is 3."""
    cli.write("e.jsonl", b'\xef\xbb\xbf{"n":1}\nno json\n\n{"n":2}\n\xff\xfe\n{"n":3')
    result = cli("produce", "e.jsonl", "-t", topic, "--json")
    assert result.exit_code == 3
    said = json.loads(result.stdout)
    assert (said["sent"], [line["line"] for line in said["bad"]]) == (2, [2, 5, 6])
    assert "line 2: no JSON" in result.stderr
    assert sorted(v["n"] for v in _values(cli, topic)) == [1, 2]


def test_raw_sends_what_is_no_json(cli, topic):
    """With --raw malformed events get in, so that they can become dead letters."""
    cli.write("e.jsonl", b'no json\n\xff\xfe\n{"n":1}\n')
    cli.done("produce", "e.jsonl", "-t", topic, "--raw")
    records = cli.lines("tail", topic, "--json", "--from", "earliest")
    assert sorted(str(r.get("value", r.get("value_base64"))) for r in records) == ["//4=", "no json", "{'n': 1}"]


def test_packed_files_are_known_by_their_content(cli, topic):
    """Gzip is unpacked whatever the file is called."""
    cli.write("events", gzip.compress(b'{"n":1}\n{"n":2}\n'))
    cli.done("produce", "events", "-t", topic)
    assert sorted(v["n"] for v in _values(cli, topic)) == [1, 2]


def test_damaged_gzip_sends_what_stands_before_the_damage(cli, topic):
    """What could be read was sent, and the place of the damage is told."""
    whole = gzip.compress("".join(f'{{"n":{n}}}\n' for n in range(50_000)).encode())
    cli.write("e.jsonl.gz", whole[: len(whole) // 2])
    result = cli("produce", "e.jsonl.gz", "-t", topic, "--json")
    assert result.exit_code == 3
    said = json.loads(result.stdout)
    assert said["sent"] > 1_000
    assert said["bad"][-1]["why"].startswith("the gzip file is damaged")
    assert len(_values(cli, topic)) == said["sent"]


def test_stdin_is_read(cli, topic):
    """- is stdin, packed or not."""
    cli.done("produce", "-", "-t", topic, stdin='{"n":1}\n')
    cli.done("produce", "-", "-t", topic, stdin=gzip.compress(b'{"n":2}\n'))
    assert sorted(v["n"] for v in _values(cli, topic)) == [1, 2]


def test_limit_stops_and_rate_loses_nothing(cli, topic):
    """--limit sends exactly so many; --rate changes the pace and nothing else."""
    cli.write("e.jsonl", "".join(f'{{"n":{n}}}\n' for n in range(40)))
    cli.done("produce", "e.jsonl", "-t", topic, "--limit", "7")
    assert sorted(v["n"] for v in _values(cli, topic)) == [*range(7)]
    cli.done("produce", "e.jsonl", "-t", topic, "--rate", "2000")
    assert len(_values(cli, topic)) == 47


def test_record_too_large_stops_no_other(cli, topic):
    """One huge line is named; its neighbours of the same batch are sent once each."""
    lines = [json.dumps({"n": n, "text": "x" * (3_000 if n == 5 else 1)}) for n in range(9)]
    cli.write("e.jsonl", "\n".join(lines))
    result = cli("produce", "e.jsonl", "-t", topic, "--json", "-X", "sqlite.max_record_bytes=2000")
    assert result.exit_code == 3
    assert [line["line"] for line in json.loads(result.stdout)["bad"]] == [6]
    assert sorted(v["n"] for v in _values(cli, topic)) == [0, 1, 2, 3, 4, 6, 7, 8]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("produce", "nowhere.jsonl", "-t", "events"), "nowhere.jsonl cannot be read"),
        (("produce", ".", "-t", "events"), "cannot be read"),
        (("produce", "e.jsonl", "-t", "nowhere"), "penstock topics create nowhere"),
        (("produce", "e.jsonl", "-t", "events", "-H", "no-value"), "NAME=VALUE"),
        (("tail", "nowhere"), "penstock topics create nowhere"),
        (("tail", "events", "--from", "yesterday"), "earliest, latest or a number"),
        (("tail", "events", "--from", "latest"), "--follow"),
        (("tail", "events", "--partition", "4"), "it has 0 to 3"),
        (("status", "--log", "kafka:nowhere"), "kafka:HOST:PORT"),
        (("status", "--config", "nowhere.toml"), "nowhere.toml"),
        (("status", "--log", "sqlite:nowhere.db"), "penstock topics create"),
        (("topics", "create", "a", "--log", "sqlite:nowhere/a.db"), "nowhere does not exist"),
    ],
)
def test_mistakes_say_what_to_do(cli, topic, arguments, said):
    """Exit code 2, the thing by its name, and what to write instead."""
    cli.write("e.jsonl", "{}\n")
    assert said in cli.refused(*arguments)


def test_looking_makes_no_log(cli):
    """`status` in the wrong directory leaves no file behind."""
    cli.refused("status")
    assert [*cli.directory.iterdir()] == []


def test_full_disk_is_told(cli, topic):
    """The log that has no room says so, and the exit code is 1."""
    cli.write("e.jsonl", json.dumps({"text": "x" * 100_000}) + "\n")
    assert "full" in cli.refused("produce", "e.jsonl", "-t", topic, "-X", "sqlite.max_file_bytes=60000", code=1)


@pytest.mark.parametrize(
    "content", [b"this is a text and no database at all", b"SQLite format 3\x00" + b"\xff" * 2_000]
)
def test_damaged_log_is_told_and_left_alone(cli, content):
    """What is no log of ours is never changed."""
    path = cli.write("penstock.db", content)
    for arguments in (("status",), ("topics", "create", "a"), ("tail", "a")):
        assert "penstock.db" in cli.refused(*arguments)
    assert path.read_bytes() == content


def test_database_of_something_else_is_left_alone(cli):
    """An SQLite file of another program is not taken over."""
    with sqlite3.connect(cli.directory / "penstock.db") as other:
        other.execute("CREATE TABLE theirs (n)")
    other.close()
    assert "something else" in cli.refused("topics", "create", "a")


def test_locked_log_is_told(cli, topic):
    """A writer that holds the file makes others give up after their patience, with exit code 1."""
    cli.write("e.jsonl", "{}\n")
    holder = sqlite3.connect(cli.directory / "penstock.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        said = cli.refused("produce", "e.jsonl", "-t", topic, "-X", "sqlite.lock_wait_seconds=0.1", code=1)
    finally:
        holder.close()
    assert "penstock.db" in said
    assert "nothing was written" in said


# --- tail


def _append(cli, *records):
    async def act():
        log = SqliteLog(cli.directory / "penstock.db")
        await log.append(records)
        await log.close()

    asyncio.run(act())


def test_tail_shows_the_last_ones_in_order(cli, topic):
    """Without options the last ten; N counts over all partitions; --limit ends early."""
    _append(cli, *(NewRecord(topic, b"%d" % n, b'{"n":%d}' % n, (), 1_000 + n) for n in range(30)))
    assert [r["value"]["n"] for r in cli.lines("tail", topic, "--json")] == [*range(20, 30)]
    assert [r["value"]["n"] for r in cli.lines("tail", topic, "--json", "--from", "3")] == [27, 28, 29]
    assert [r["value"]["n"] for r in cli.lines("tail", topic, "--json", "--from", "earliest", "-n", "2")] == [0, 1]
    assert cli.lines("tail", topic, "--json", "--from", "0") == []


def test_tail_reads_long_partitions_to_the_end(cli, topic):
    """More than a page of one partition comes whole and in order."""
    _append(cli, *(NewRecord(topic, b"one", b"%d" % n) for n in range(1_300)))
    assert _values(cli, topic) == [*range(1_300)]


def test_tail_of_one_partition(cli, topic):
    """--partition shows that one only."""
    _append(cli, *(NewRecord(topic, None, b"%d" % n, (), None, n % 4) for n in range(8)))
    assert _values(cli, topic, "--partition", "1") == [1, 5]


def test_every_record_is_shown_as_it_is(cli, topic):
    """Tombstones, text, other bytes and repeated headers survive the way to JSON."""
    _append(
        cli,
        NewRecord(topic, b"k", None, (), 1),
        NewRecord(topic, None, b"plain words", (), 2),
        NewRecord(topic, b"\xff", b"\xff\x00", (("h", b"1"), ("h", None)), 3),
        NewRecord(topic, b"d", b"[" * 100_000, (), 4),
    )
    tombstone, words, other, deep = cli.lines("tail", topic, "--json")
    assert (tombstone["key"], tombstone["value"]) == ("k", None)
    assert (words["key"], words["value"]) == (None, "plain words")
    assert (other["key"], other["value_base64"], other["headers"]) == ("\\xff", "/wA=", [["h", "1"], ["h", None]])
    assert deep["value"] == "[" * 100_000


def test_terminal_obeys_no_event(cli, topic):
    """Escape sequences and markup of events are shown, not obeyed."""
    _append(cli, NewRecord(topic, b"[red]k", b"\x1b[2J[bold]x[/bold]\x07\xe2\x80\xae", (), 5))
    shown = cli.done("tail", topic)
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J[bold]x[/bold]\\x07\\u202e" in shown
    assert "[red]k" in shown


@given(st.text())
def test_printable_text_has_no_controls(text):
    """Whatever an event holds, what reaches the terminal can be printed; and printable text is unchanged."""
    shown = printable(text)
    assert shown.isprintable()
    assert not text.isprintable() or shown == text


def test_empty_topic_says_so(cli, topic):
    """Nothing to show is told on stderr, stdout stays clean."""
    result = cli("tail", topic)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "empty" in result.stderr


# --- status


class _Idle:
    async def assigned(self, assignments):
        """Nothing to prepare."""

    async def revoked(self, partitions, deadline):
        """Nothing to finish."""

    async def lost(self, partitions):
        """Nothing to forget."""

    async def passed(self, losses):
        """Nothing to remember."""


def _commit(cli, topic, done):
    """A group reads everything and commits these maps; then it leaves."""

    async def act():
        log = SqliteLog(cli.directory / "penstock.db")
        consumer = await log.join("readers", [topic], _Idle(), start_from="earliest")
        deadline = time.monotonic() + 20
        while not await consumer.poll(100, 0.05):
            assert time.monotonic() < deadline, "no record came"
        await consumer.commit(Progress(tuple(PartProgress(Partition(topic, n), m) for n, m in done.items())))
        await consumer.close()
        await log.close()

    asyncio.run(act())


def test_status_counts_what_is_not_resolved(cli, topic):
    """Lag is what neither watermark nor map covers; what is done above and open below the map's end stands apart."""
    old_ms = int(time.time() * 1000) - 3_600_000
    _append(cli, *(NewRecord(topic, None, b"{}", (), old_ms, n % 2) for n in range(20)))
    _commit(cli, topic, {0: OffsetMap(3, 0b0011010), 1: OffsetMap(10)})
    (row,) = cli.page("status", "--json")["groups"]
    assert (row["group"], row["topic"], row["lag_events"]) == ("readers", "events", 10 - 3 - 3)
    assert (row["done_above"], row["unresolved_below"]) == (3, 2)
    assert 3_590 < row["lag_seconds"] < 7_200
    assert (row["partitions"], row["members"], row["lost"]) == (4, [], 0)
    result = cli("status")
    assert re.search(r"readers\s+events\s+4\s+1\.0 h|readers\s+events\s+4\s+60 min", result.stdout)
    assert "nobody works on them" in result.stderr


def test_status_shows_the_others_where_one_group_cannot_be_read(cli, topic):
    """Progress that a newer version wrote is named and hides nobody; who asks for that group alone is refused."""
    _append(cli, NewRecord(topic, None, b"{}", (), None, 0))
    _commit(cli, topic, {0: OffsetMap(1)})
    with sqlite3.connect(cli.directory / "penstock.db") as database:
        database.execute(
            "INSERT INTO leases (group_name, partition, epoch, base, map) "
            "SELECT 'newer', partition, epoch, base, '9;what;ever' FROM leases WHERE group_name = 'readers' LIMIT 1"
        )
    page = cli.page("status", "--json")
    assert [row["group"] for row in page["groups"]] == ["readers"]
    assert "of version '9'" in page["unreadable"]["newer"]
    result = cli("status")
    assert (result.exit_code, "readers" in result.stdout) == (0, True)
    assert "group newer is left out: offset map of version '9'" in " ".join(result.stderr.split())
    assert "of version '9'" in cli.refused("status", "--group", "newer")


def test_status_without_groups_says_what_to_do(cli, topic):
    """A log that nobody reads is no error."""
    result = cli("status")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "penstock run" in result.stderr
    assert cli.page("status", "--json")["groups"] == []
