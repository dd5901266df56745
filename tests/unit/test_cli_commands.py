"""The command line as a whole, and its commands that need no log: init, try, config, version, help, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from cli_calls import cli_in
from penstock.cli.loading import load_task
from penstock.cli.one_event import from_words, one_event
from penstock.cli.reference import settings_page
from penstock.cli.run import patiently
from penstock.cli.simulate import SCRIPT_EXAMPLE
from penstock.errors import LogUnavailable, SettingsError
from penstock.settings import Settings, load_settings
from penstock.simulator import SimulatorOptions

DOCS = Path(__file__).parents[2] / "docs" / "reference"
COMMANDS = (
    "demo",
    "doctor",
    "init",
    "try",
    "up",
    "run",
    "deliver",
    "redeliver",
    "db",
    "serve",
    "gateway",
    "produce",
    "topics",
    "simulate",
    "schema",
    "status",
    "tail",
    "config",
    "version",
)


@pytest.fixture
def cli(tmp_path):
    with cli_in(tmp_path) as cli:
        yield cli


# --- the whole


def test_command_line_is_cheap_to_import():
    """Help and completion load none of the heavy parts."""
    code = (
        "import sys, penstock.cli; from typer.testing import CliRunner; "
        "r = CliRunner().invoke(penstock.cli.app, ['--help']); assert r.exit_code == 0, r.output; "
        "heavy = {'anthropic', 'confluent_kafka', 'aiohttp', 'sqlalchemy', 'sqlite3', 'httpx2', 'pydantic_settings'}; "
        "found = heavy & set(sys.modules); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command_and_the_exit_codes(cli):
    """The first page a user sees is complete."""
    shown = cli.done("--help")
    for name in COMMANDS:
        assert f" {name} " in shown
    assert "2 wrong usage or settings" in shown
    assert "4 a ceiling stopped it" in shown


@pytest.mark.parametrize("name", [*COMMANDS, "topics create", "topics list", "config show", "db upgrade", "db status"])
def test_every_command_explains_itself_and_stands_in_the_docs(cli, name):
    """--help works everywhere, and docs/reference/cli.md has a section on it."""
    assert "Usage: " in cli.done(*name.split(), "--help")
    assert f"`penstock {name}" in (DOCS / "cli.md").read_text()


def test_settings_page_is_what_the_option_classes_say():
    """docs/reference/settings.md is made by `penstock config reference`; make it again when options change."""
    assert (DOCS / "settings.md").read_text() == settings_page()


def test_misspelt_command_names_the_likely_one(cli):
    """A wrong command is a usage error with a suggestion."""
    assert "status" in cli.refused("statsu")


@pytest.mark.parametrize(
    ("words", "found"),
    [("penstock st", {"status"}), ("penstock topics cr", {"create"}), ("penstock run feed", {"feedback:sorter"})],
)
def test_shell_completion_knows_commands_and_tasks(cli, words, found):
    """<Tab> offers commands, and the tasks that files here declare."""
    cli.done("init", ".")
    environment = {
        **os.environ,
        "_PENSTOCK_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "from penstock.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=cli.directory
    )
    assert set(done.stdout.split()) == found, done.stderr


def test_unforeseen_errors_show_no_traceback_unless_asked(cli):
    """A bug of ours ends in one text that asks for --debug, and there the whole traceback stands."""
    cli.write("boom.py", "def __getattr__(name): raise RuntimeError('boom')\n")
    assert "RuntimeError: boom" in cli.refused("try", "boom:task", "x", code=1)
    with pytest.raises(RuntimeError, match="boom"):
        cli("try", "boom:task", "x", "--debug")


def test_the_faults_in_the_help_of_simulate_are_ones_it_knows():
    """An example that is refused is worse than none."""
    assert len(SimulatorOptions(fault_script=tuple(json.loads(SCRIPT_EXAMPLE))).fault_script) == 2


def test_version_says_what_is_installed(cli):
    """The line for bug reports, also as JSON."""
    assert cli.done("--version") == cli.done("version").splitlines()[0] + "\n"
    assert {"penstock", "python", "anthropic", "confluent-kafka"} <= set(cli.page("version", "--json"))


# --- config


def test_config_shows_every_setting_and_masks_secrets(cli):
    """Each setting with value, origin and variable; a key never in clear."""
    cli.write("penstock.toml", '[claude]\napi_key = "sk-very-secret"\n')
    shown = cli.page("config", "show", "--json")
    assert shown["claude.api_key"] == {
        "value": "**********",
        "origin": "penstock.toml:2",
        "env": "PENSTOCK_CLAUDE__API_KEY",
    }
    assert set(shown) >= {entry.name for entry in load_settings().entries()}
    for output in (cli.done("config", "show"), cli.done("config", "show", "--changed")):
        assert "sk-very-secret" not in output
        assert "claude.api_key" in output
    assert "drain_seconds" not in cli.done("config", "show", "--changed")


def test_config_errors_are_usage_errors(cli):
    """Wrong settings end any command that needs them with exit code 2."""
    cli.write("penstock.toml", "drain_second = 3\n")
    assert "did you mean 'drain_seconds'?" in cli.refused("config", "show")
    assert "did you mean 'drain_seconds'?" in cli.refused("status")


# --- init


def test_init_makes_a_project_that_loads(cli):
    """The task can be declared, the settings are valid, the sample events are JSON with one that must fail."""
    cli.done("init", "shop")
    task = load_task("feedback:sorter", cli.directory / "shop")
    assert load_settings(cli.directory / "shop/penstock.toml").settings.spend.day_usd == 1.0
    events = [json.loads(line) for line in (cli.directory / "shop/events.jsonl").read_text().splitlines()]
    good = [event for event in events if event["text"]]
    assert len(events) - len(good) == 1
    assert [task.input(**event) for event in good]
    assert (cli.directory / "shop/.gitignore").exists()


def test_init_overwrites_nothing_unasked(cli):
    """Files that are there stay, unless --force."""
    cli.write("feedback.py", "mine = 1\n")
    assert "feedback.py" in cli.refused("init", ".")
    assert (cli.directory / "feedback.py").read_text() == "mine = 1\n"
    assert not (cli.directory / "penstock.toml").exists()
    cli.done("init", ".", "--force")
    assert "sorter = Task" in (cli.directory / "feedback.py").read_text()
    assert "is a file" in cli.refused("init", "feedback.py")


# --- one event


class Ticket(BaseModel):
    id: str
    customer: str = ""
    body: str


class Pair(BaseModel):
    left: str
    right: str
    size: int


@pytest.mark.parametrize("words", ["I was charged twice", "42", '["a"]', '"quoted"', "{broken", "x" * 5_000])
def test_plain_words_become_the_text_of_an_event(words):
    """Anything that is no JSON object and no file is what the event says; required ids get a stand-in."""
    event = json.loads(one_event(words, Ticket).value)
    assert event == {"id": "try-1", "body": words}
    assert Ticket(**event)


def test_json_is_taken_as_it_is():
    """A JSON object is the event, byte for byte."""
    assert one_event(' {"id": "7", "body":"x"}', Ticket).value == b' {"id": "7", "body":"x"}'


def test_input_that_needs_more_than_words_shows_an_example():
    """Where words cannot be enough, the error shows what to write."""
    with pytest.raises(SettingsError, match='"size": 1'):
        from_words("hello", Pair)


def test_file_gives_one_of_its_events(cli):
    """The first line unless --line says otherwise; prose is one event; a wrong number is told."""
    cli.write("e.jsonl", '{"id":"1","body":"a"}\n{"id":"2","body":"b"}\n')
    cli.write("prose.txt", "Dear all,\nit broke.\n")
    assert json.loads(one_event("e.jsonl", Ticket).value)["id"] == "1"
    assert json.loads(one_event("e.jsonl", Ticket, line=2).value)["id"] == "2"
    assert json.loads(one_event("prose.txt", Ticket).value)["body"] == "Dear all,\nit broke."
    with pytest.raises(SettingsError, match="has 2 events"):
        one_event("e.jsonl", Ticket, line=3)


# --- try


def test_try_shows_prompt_reply_outcome_and_cost(cli):
    """Without a key the simulator answers over real HTTP, and every place says that it is simulated."""
    cli.done("init", ".")
    result = cli("try", "feedback:sorter", "The app closes when I open a photo")
    assert result.exit_code == 0, result.stderr
    assert "SIMULATED" in result.stderr
    for part in (
        "You sort what customers",
        "The app closes",
        '"r": [',
        "answer, ",
        "input, ",
        "$0.",
        "simulated: what",
    ):
        assert part in result.stdout
    shown = cli.page("try", "feedback:sorter", "events.jsonl", "--line", "3", "--json")
    assert (shown["simulated"], shown["event_id"]) == (True, "f-003")
    assert shown["outcome"]["kind"] == "answer"
    assert shown["usd"] == pytest.approx(sum(asked["charge"]["nanousd"] for asked in shown["asked"]) / 1e9)
    assert shown["usd"] > 0


def test_try_of_an_event_that_cannot_be_answered_fails_the_check(cli):
    """What would become a dead letter ends with exit code 3, and nothing is asked."""
    cli.done("init", ".")
    result = cli("try", "feedback:sorter", '{"id": "x", "text": ""}')
    assert result.exit_code == 3
    assert "undecodable" in result.stdout
    assert "$" not in result.stdout


def test_try_puts_the_answer_through_the_hooks(cli):
    """What a worker would refuse or change is shown so, by `validate` and by `finish`."""
    cli.done("init", ".")
    for hook, code, said in (
        (
            "def validate(f, out): raise ValueError('too short for a summary')",
            1,
            "no answer this time, invalid_output: too short",
        ),
        ("def validate(f, out): raise KeyError('x')", 3, "failure, hook_failed"),
        ("def finish(f, out): return out.model_copy(update={'summary': 'CHANGED'})", 0, "CHANGED"),
    ):
        name = hook.split("(")[0].removeprefix("def ")
        module = f"hooked_{code}"
        cli.write(
            f"{module}.py",
            f"from dataclasses import replace\nfrom feedback import sorter\n{hook}\nhooked = replace(sorter, {name}={name})\n",
        )
        result = cli("try", f"{module}:hooked", "The app closes when I open a photo")
        assert (result.exit_code, said in " ".join(result.stdout.split())) == (code, True), result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("feedback:sorter", "x", "--live"), "ANTHROPIC_API_KEY"),
        (("feedback:sorter", "x", "--live", "--simulated"), "exclude"),
        (("feedback:sorted", "x"), "did you mean feedback:sorter?"),
        (("feedback:sorter", "empty.txt"), "is empty"),
    ],
)
def test_try_refuses_mistakes(cli, arguments, said):
    """Wrong use of `try` is told before anything is asked."""
    cli.done("init", ".")
    cli.write("empty.txt", "\n")
    assert said in cli.refused("try", *arguments)


# --- run


def test_run_needs_a_key_or_the_word_simulated(cli):
    """Without a way to answer, nothing is read."""
    cli.done("init", ".")
    cli.done("topics", "create", "--task", "feedback:sorter")
    assert "--simulated" in cli.refused("run", "feedback:sorter")


def test_run_names_a_missing_topic_and_its_command(cli):
    """The topic that the task reads must exist."""
    cli.done("init", ".")
    cli.done("topics", "create", "other")
    said = cli.refused("run", "feedback:sorter", "--simulated")
    assert "'feedback'" in said
    assert "penstock topics create" in said


def test_long_backlog_needs_a_yes(cli):
    """More than 10,000 events before a group: cost and time are told, and without a terminal --yes is needed."""
    cli.done("init", ".")
    cli.done("topics", "create", "--task", "feedback:sorter")
    cli.write(
        "many.jsonl",
        "".join(json.dumps({"id": f"e{n}", "text": "It does not start. " * 5}) + "\n" for n in range(10_001)),
    )
    cli.done("produce", "many.jsonl", "-t", "feedback", "-X", "sqlite.synchronous=normal")
    said = cli.refused("run", "feedback:sorter", "-X", "claude.api_key=not-asked")
    assert "10,001 events wait" in said
    assert "if haiku answers all" in said
    assert "$1.00" in said
    assert "--yes" in said
    assert cli.page("status", "--json")["groups"] == []


async def test_weather_at_the_start_is_waited_for():
    """A log that cannot be reached is tried again, for a while; a user's mistake is not."""
    tries = []

    async def act(error, times):
        tries.append(error)
        if len(tries) <= times:
            raise error
        return "done"

    assert await patiently(lambda: act(LogUnavailable("loading"), 3), pause_seconds=0) == "done"
    assert len(tries) == 4
    with pytest.raises(LogUnavailable):
        await patiently(lambda: act(LogUnavailable("gone"), 10**9), patience_seconds=0.01, pause_seconds=0)
    tries.clear()
    with pytest.raises(SettingsError):
        await patiently(lambda: act(SettingsError("wrong"), 10**9), pause_seconds=0)
    assert len(tries) == 1


def test_settings_have_no_secret_in_their_text():
    """A log line with the settings in it gives nothing away."""
    settings = Settings(claude={"api_key": "sk-very-secret"}, kafka={"sasl.password": "hidden"})
    assert "sk-very-secret" not in f"{settings!r} {settings}"
    assert "hidden" not in f"{settings!r} {settings}"
