"""The doctor: says what is wrong and what to do, hides nothing behind something else, never hangs and never pays."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import subprocess
import sys
import threading

import pytest
from pydantic import BaseModel

from cli_calls import cli_in
from fakes import Label, Note, ScriptedTier, make_task
from penstock import Route, Task
from penstock.doctor.api import api, clock, model_finding, skew
from penstock.doctor.file_log import disk, file_log, size
from penstock.doctor.finding import Check, Finding, apart, examine
from penstock.doctor.installation import fault_of, installation
from penstock.doctor.money import budget, limits, prices
from penstock.doctor.tasks import outputs
from penstock.doctor.topics import topic_findings
from penstock.errors import SettingsError
from penstock.log.base import TopicSpec
from penstock.log.kafka.probe import TopicFacts
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from penstock.log.topics import Home, uses_of
from penstock.record import NewRecord
from penstock.settings import load_settings
from penstock.simulator import SimulatorOptions, serve

NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
DAY_MS = 24 * 3600 * 1000
MODULE = """
from pydantic import BaseModel
from penstock import Answer, Capacity, Responder, Route, Step, Task

class Note(BaseModel):
    text: str

class Label(BaseModel):
    label: str

class Rules:
    name = "rules"
    async def answer(self, task, items):
        return [Answer(Label(label="x"), "sure", Responder("rules")) for _ in items]
    def capacity(self, task):
        return Capacity(100)
    async def close(self):
        pass

by_rules = Task("by-rules", reads="notes", input=Note, output=Label, instructions="Label it.", route=Route(Step(Rules())))
"""


def settings(*assignments):
    return load_settings(assignments=assignments).settings


def status(findings):
    return {finding.check: finding.status for finding in findings}


@pytest.fixture
async def simulator():
    made = []

    async def start(**options):
        made.append(await serve(SimulatorOptions(**options)))
        return made[-1]

    yield start
    for server in made:
        await server.close()


@pytest.fixture
def cli(tmp_path):
    with cli_in(tmp_path) as cli:
        yield cli


@pytest.fixture
def stored(tmp_path):
    """A log with some hundred records, closed."""

    async def fill():
        log = SqliteLog(tmp_path / "events.db")
        await log.create_topics([TopicSpec("notes", partitions=2)])
        await log.append([NewRecord("notes", b"k%d" % n, b"x" * 500) for n in range(400)])
        await log.close()

    asyncio.run(fill())
    return tmp_path / "events.db"


def asking(*names, output=Label):
    return Task("labeler", reads="notes", input=Note, output=output, instructions="Label it.", route=Route(*names))


# --- how checks are run


async def test_a_check_that_hangs_or_breaks_hides_no_other():
    """Each has its own time; what it raises is told under its name, in the order of the checks."""

    async def hang():
        await asyncio.sleep(3600)
        return []

    async def block():
        await apart(threading.Event().wait, 3600.0)
        return []

    async def mistake():
        raise SettingsError("kafka.sasl.password is wrong")

    async def bug():
        raise ZeroDivisionError("by zero")

    async def fine():
        return [Finding("fine", "ok", "seen")]

    looks = {"hang": hang, "block": block, "mistake": mistake, "bug": bug, "fine": fine}
    found = await examine(
        [Check(name, look, 0.05 if name in {"hang", "block"} else 5.0) for name, look in looks.items()]
    )
    assert [finding.check for finding in found] == list(looks)
    assert [finding.status for finding in found] == ["fail", "fail", "fail", "fail", "ok"]
    assert "no answer within" in found[0].seen
    assert found[2].seen == "kafka.sasl.password is wrong"
    assert "ZeroDivisionError: by zero" in found[3].seen


def test_nobody_waits_for_a_thread_that_hangs():
    """The process ends although a check still blocks: the doctor never hangs."""
    code = (
        "import asyncio, threading; from penstock.doctor.finding import *\n"
        "async def block(): return await apart(threading.Event().wait, 3600.0)\n"
        "print(asyncio.run(examine([Check('blocked', block, 0.1)]))[0].status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == "fail"


async def test_what_a_thread_raises_arrives():
    """`apart` is a call, not a black hole."""
    assert await apart(sum, [1, 2]) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        await apart(int, "x")


# --- the API


async def test_an_api_that_answers_is_well_and_nothing_is_spent(simulator):
    """Key, clock and every model of the route are told; the ledger of the API stays empty."""
    server = await simulator()
    given = settings(f"claude.base_url={server.url}", "claude.api_key=offline")
    found = await api(given, [asking("haiku", "opus")])
    assert status(found) == {"api key": "ok", "clock": "ok", "model haiku": "ok", "model opus": "ok"}
    assert "the offline simulator" in found[0].seen
    assert server.api.accounts.totals()["calls"] == 0


async def test_a_key_that_is_refused_is_told_without_the_key(simulator):
    """What to set, never what was set."""
    server = await simulator(api_keys=("sk-good",))
    given = settings(f"claude.base_url={server.url}", "claude.api_key=sk-wrong-and-secret")
    (found,) = await api(given, [])
    assert found.status == "fail"
    assert "401" in found.seen
    assert "PENSTOCK_CLAUDE__API_KEY" in found.fix
    assert "sk-wrong" not in " ".join(found)


async def test_an_api_that_is_not_there_is_named():
    """The address that was tried stands in the finding."""
    given = settings("claude.base_url=http://127.0.0.1:9", "claude.api_key=offline")
    (found,) = await api(given, [])
    assert (found.check, found.status) == ("api key", "fail")
    assert "http://127.0.0.1:9 cannot be reached" in found.seen


async def test_an_address_that_is_no_api_is_told(simulator):
    """A proxy's page or a wrong path answers too."""
    server = await simulator()
    (found,) = await api(settings(f"claude.base_url={server.url}/v1/nothing/here", "claude.api_key=offline"), [])
    assert found.status == "fail"


@pytest.mark.parametrize(
    ("row", "expected", "says"),
    [
        (None, "fail", "knows no"),
        ({"lifecycle": "retired"}, "fail", "is retired"),
        ({"lifecycle": "active", "retires_at": "2026-12-01T00:00:00Z"}, "warn", "retires on 2026-12-01, in 8 days"),
        ({"lifecycle": "deprecated", "retires_at": "2027-12-01T00:00:00Z"}, "warn", "is deprecated"),
        ({"lifecycle": "deprecated", "retires_at": None}, "warn", "is deprecated"),
        ({"lifecycle": "active", "retires_at": "2027-12-01T00:00:00Z"}, "ok", "active"),
        ({}, "ok", "active"),
    ],
)
def test_models_on_their_way_out_are_told_in_time(row, expected, says):
    """Unknown and retired stop the work; two months before is the time to choose another."""
    found = model_finding("haiku", "claude-haiku-5-5", row, NOW)
    assert found.status == expected
    assert says in found.seen
    assert bool(found.fix) == (expected != "ok")


@pytest.mark.parametrize(("ahead", "expected"), [(0.4, "ok"), (-4, "ok"), (30, "warn"), (-30, "warn"), (900, "fail")])
def test_a_clock_that_is_off_is_told_with_its_direction(ahead, expected):
    """Seconds do not matter, minutes do, and the error of the measurement is not the clock's."""
    found = skew("clock", ahead, abs(ahead), "the API's")
    assert found.status == expected
    if expected != "ok":
        assert ("ahead of" if ahead > 0 else "behind") in found.seen


def test_the_date_header_counts_whole_seconds():
    """A slow answer widens what is believed; no header is told."""
    header = "Mon, 23 Nov 2026 00:00:00 GMT"
    assert clock(header, NOW.timestamp() + 0.9, 0.1).status == "ok"
    assert clock(header, NOW.timestamp() + 9, 0.1).status == "warn"
    assert clock(header, NOW.timestamp() + 9, 20.0).status == "ok"
    assert clock(None, NOW.timestamp(), 0.1).status == "warn"


# --- money and machine


def test_no_ceiling_and_no_limits_are_worth_a_thought():
    """Both work, and both should be chosen."""
    free, bound = settings(), settings("spend.day_usd=20", "limits.default.requests_per_minute=50")
    assert (budget(free).status, limits(free).status) == ("warn", "warn")
    assert (budget(bound).status, limits(bound).status) == ("ok", "ok")
    assert "spend.day_usd" in budget(free).fix
    assert "all workers" in budget(bound).seen


def test_a_ceiling_that_can_never_be_met_is_worth_a_thought():
    """A day's below an hour's is a slip more often than a wish."""
    found = budget(settings("spend.hour_usd=20", "spend.day_usd=10"))
    assert found.status == "warn"
    assert "spend.hour_usd=20" in found.seen


def test_prices_grow_old():
    """After 90 days the table is likely to be wrong."""
    dated = dt.date.fromisoformat(prices(settings()).seen.partition("dated ")[2][:10])
    assert prices(settings(), dated + dt.timedelta(days=90)).status == "ok"
    found = prices(settings(), dated + dt.timedelta(days=91))
    assert found.status == "warn"
    assert "91 days old" in found.seen


@pytest.mark.parametrize(
    ("requirement", "fault"),
    [
        ("pydantic>=2.10", ""),
        ("pydantic>=99.1", "pydantic is "),
        ("pydantic<2,>=1", "pydantic is "),
        ("no-such-package>=1", "no-such-package is missing"),
        ("no-such-package>=1; extra == 'avro'", ""),
        ("anthropic[aiohttp]<3,>=2.12", ""),
    ],
)
def test_packages_are_compared_with_what_is_wanted(requirement, fault):
    """Both bounds, extras left out."""
    found = fault_of(requirement)
    assert found.startswith(fault) if fault else not found


async def test_this_installation_is_well():
    """The one that runs the tests."""
    assert status(await installation()) == {"python": "ok", "packages": "ok"}


@pytest.mark.parametrize(("free", "expected"), [(10**12, "ok"), (10**9, "warn"), (10**6, "fail")])
def test_a_disk_that_fills_is_told_before_it_is_full(tmp_path, free, expected):
    """A warning first."""
    assert disk(tmp_path / "x", free).status == expected
    assert size(1_500_000) == "1.5 MB"


# --- tasks


def test_outputs_that_no_model_can_give_are_told():
    """As `run` would refuse them, with the field's name."""

    class Anything(BaseModel):
        scores: dict[str, float]

    (good,) = outputs(settings(), [asking("haiku")])
    (bad,) = outputs(settings(), [asking("haiku", output=Anything)])
    (stranger,) = outputs(settings(), [asking("gpt-99")])
    (own,) = outputs(settings(), [make_task(ScriptedTier())])
    assert [f.status for f in (good, bad, stranger, own)] == ["ok", "fail", "fail", "ok"]
    assert "scores" in bad.seen
    assert "gpt-99" in stranger.seen


# --- the embedded log


async def test_a_whole_log_is_well(stored):
    """File, content, write-ahead log and disk."""
    found = await file_log(settings(), stored)
    assert status(found).keys() == {"log file", "log content", "log wal", "disk"}
    assert {s for name, s in status(found).items() if name != "disk"} == {"ok"}


async def test_a_log_is_looked_at_while_it_is_written(stored):
    """The doctor may come at any time; it takes nothing from a worker."""
    log = SqliteLog(stored)
    await log.append([NewRecord("notes", None, b"x")])
    found = await file_log(settings(), stored)
    await log.append([NewRecord("notes", None, b"y")])
    await log.close()
    assert status(found)["log content"] == "ok"


async def test_damage_in_the_middle_of_a_log_is_found(stored):
    """Not only a broken head: pages that nobody has read for weeks."""
    content = bytearray(stored.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(reversed(content[middle : middle + 4096]))
    stored.write_bytes(content)
    found = {finding.check: finding for finding in await file_log(settings(), stored)}
    named = found.get("log content") or found["log file"]
    assert named.status == "fail"
    assert named.fix


@pytest.mark.parametrize("content", [b"no database at all" * 300, b""])
async def test_a_file_that_is_no_log_is_told_and_left_alone(tmp_path, content):
    """Nothing is repaired and nothing is made."""
    file = tmp_path / "other.db"
    file.write_bytes(content)
    (found,) = await file_log(settings(), file)
    assert found.status == "fail"
    assert str(file) in found.seen
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


async def test_a_log_that_is_not_there_yet_is_no_failure_and_is_not_made(tmp_path):
    """A new user's first call; a missing folder is one."""
    found = await file_log(settings(), tmp_path / "new.db")
    assert status(found)["log file"] == "warn"
    assert not list(tmp_path.iterdir())
    (lost,) = await file_log(settings(), tmp_path / "no" / "folder.db")
    assert (lost.check, lost.status) == ("log file", "fail")


# --- topics of a cluster


def facts(name, partitions=12, replicas=3, operations=(), **given):
    wanted = {"cleanup.policy": "delete", "retention.ms": str(14 * DAY_MS), "min.insync.replicas": "2"}
    return TopicFacts(name, partitions, replicas, wanted | given, frozenset(operations))


@pytest.mark.parametrize(
    ("found", "expected", "says"),
    [
        (None, "fail", "does not exist"),
        (facts("notes"), "ok", "12 partitions, 3 replicas, kept 14 days"),
        (facts("notes", partitions=1), "warn", "has one partition"),
        (facts("notes", replicas=1), "warn", "has 1 replica on 3 brokers"),
        (facts("notes", **{"min.insync.replicas": "1"}), "warn", "has min.insync.replicas=1"),
        (facts("notes", **{"min.insync.replicas": "3"}), "warn", "has min.insync.replicas=3 of 3"),
        (facts("notes", **{"retention.ms": str(DAY_MS // 4)}), "warn", "keeps events 6 hours"),
        (facts("notes", **{"retention.ms": "90000"}), "warn", "keeps events 90 seconds"),
        (facts("notes", **{"retention.bytes": "1000000"}), "warn", "keeps 1,000,000 bytes a partition"),
        (facts("labeler.retry", **{"retention.ms": str(DAY_MS // 48)}), "warn", "keeps events 30 minutes"),
        (facts("labeler.retry", partitions=1), "ok", "1 partitions"),
        (facts("labeler.retry", partitions=12), "ok", "12 partitions"),
        (facts("notes", **{"retention.ms": "-1"}), "ok", "kept for ever"),
        (facts("labeler-dlq", **{"retention.ms": str(3 * DAY_MS)}), "warn", "keeps letters 3 days"),
        (facts("labeler-results", **{"cleanup.policy": "compact"}), "warn", "has cleanup.policy=compact"),
        (facts("labeler-results", **{"max.message.bytes": "1000"}), "warn", "has max.message.bytes=1,000"),
        (facts(STATE_TOPIC, partitions=1), "fail", "has cleanup.policy=delete"),
        (facts(STATE_TOPIC, partitions=1, **{"cleanup.policy": "compact"}), "ok", "the last of each key kept"),
    ],
)
def test_topics_are_compared_with_what_is_done_with_them(found, expected, says):
    """What loses events or results is told, with the command that mends it."""
    name = found.name if found else "notes"
    use = uses_of([make_task(ScriptedTier())])[name]
    known = {"notes": facts("notes")} | ({name: found} if found else {})
    if found is None:
        del known[name]
    (told,) = topic_findings(name, use, known, Home("broker:9092", brokers=3))
    assert (told.check, told.status) == (f"topic {name}", expected)
    assert says in told.seen
    assert bool(told.fix) == (expected != "ok")


@pytest.mark.parametrize(
    ("inputs", "retry", "fix"),
    [
        (12, 12, "--partitions 3"),
        (12, 7, "--partitions 3"),
        (2, 2, "--partitions 1"),
        (12, 6, ""),
        (12, 3, ""),
        (1, 1, ""),
    ],
)
def test_a_wide_retry_topic_is_told_where_groups_are_classic(inputs, retry, fix):
    """It may take the place of the input's partitions, and a fresh one of fewer mends that; with brokers' own groups it is harmless."""
    use = uses_of([make_task(ScriptedTier())])["labeler.retry"]
    known = {"notes": facts("notes", inputs), "labeler.retry": facts("labeler.retry", retry)}
    home = Home("broker:9092", brokers=3, has_classic_groups=True)
    (told,) = topic_findings("labeler.retry", use, known, home)
    assert told.status == ("warn" if fix else "ok")
    if fix:
        assert told.seen == f"has {retry} partitions, the events come from {inputs}"
        assert told.fix.endswith(f"penstock topics create labeler.retry {fix}")
    (well,) = topic_findings("labeler.retry", use, known, home._replace(has_classic_groups=False))
    assert well.status == "ok"


def test_one_broker_needs_no_second_replica():
    """A developer's cluster is not nagged."""
    use = uses_of([make_task(ScriptedTier())])["notes"]
    found = facts("notes", replicas=1, **{"min.insync.replicas": "1"})
    (told,) = topic_findings("notes", use, {"notes": found}, Home("broker:9092", brokers=1))
    assert told.status == "ok"


def test_rights_follow_from_what_is_done():
    """What is read must be readable, what is written writable, and no more is asked for."""
    uses = uses_of([make_task(ScriptedTier())])
    assert uses["notes"].operations == {"DESCRIBE", "READ"}
    assert uses["labeler-results"].operations == {"DESCRIBE", "WRITE"}
    assert uses["labeler.retry"].operations == {"DESCRIBE", "READ", "WRITE"}


# --- the command


def test_a_project_without_claude_is_looked_at_without_an_api(cli):
    """Exit code 0 where nothing failed; the JSON's fields are a promise."""
    cli.write("rules.py", MODULE)
    cli.done("topics", "create", "notes")
    page = cli.page("doctor", "rules:by_rules", "--json")
    assert page.keys() == {"format", "ok", "findings"}
    assert (page["format"], page["ok"]) == (1, True)
    assert all(row.keys() == {"check", "status", "seen", "why", "fix"} for row in page["findings"])
    found = {row["check"]: row["status"] for row in page["findings"]}
    assert found["settings"] == found["task rules:by_rules"] == found["topic notes"] == "ok"
    assert "api key" not in found
    assert "budget" not in found


def test_one_wrong_thing_is_exit_code_3_and_the_rest_is_told(cli):
    """A task that cannot be imported does not hide the log, and a fix is never missing where one is known."""
    result = cli(
        "doctor", "nothing:here", "--json", "-X", "claude.base_url=http://127.0.0.1:9", "-X", "claude.api_key=k"
    )
    assert result.exit_code == 3
    found = {row["check"]: row for row in json.loads(result.stdout)["findings"]}
    assert found["task nothing:here"]["status"] == "fail"
    assert found["api key"]["status"] == "fail"
    assert found["log file"]["status"] == "warn"
    assert "topics create" in found["log file"]["fix"]


def test_settings_that_are_wrong_are_a_finding(cli):
    """The doctor explains what other commands refuse."""
    result = cli("doctor", "-X", "drain_secnds=5")
    assert result.exit_code == 3
    assert "drain_seconds" in result.stdout
    assert "Traceback" not in result.output


def test_a_task_on_a_topic_that_nobody_made_is_told_with_the_command(cli):
    """As `run` would refuse it."""
    cli.write("rules.py", MODULE)
    cli.done("topics", "create", "other")
    result = cli("doctor", "rules:by_rules")
    assert result.exit_code == 3
    assert "penstock topics create notes" in result.stdout
    assert "nothing was spent" in result.stderr


def test_a_narrow_terminal_is_enough(cli, monkeypatch):
    """80 columns: nothing is cut off, every line fits."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli("doctor", "nothing:here", "-X", "claude.base_url=http://127.0.0.1:9", "-X", "claude.api_key=k").stdout
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    assert "check network, proxy (HTTPS_PROXY) and claude.base_url" in " ".join(shown.split())
