"""`MODULE:TASK`: what is found, and what is said where nothing is."""

from __future__ import annotations

import pytest

from cli_calls import cli_in
from penstock.cli.loading import declared_tasks, load_task, load_tasks, split_reference
from penstock.errors import SettingsError

TASK = """
from pydantic import BaseModel
from penstock import Task

class Text(BaseModel):
    text: str

{name} = Task("{name}", reads="events", input=Text, output=Text, instructions="Read it.")
"""


@pytest.fixture
def cli(tmp_path):
    with cli_in(tmp_path) as cli:
        yield cli


@pytest.mark.parametrize(
    "reference",
    ["loading_one:alpha", "loading_one", "loading_one.py:alpha", "loading_one.py", "./loading_one.py:alpha"],
)
def test_every_way_of_writing_finds_the_task(cli, reference):
    """Module or file, with the name or (where there is one task) without."""
    cli.write("loading_one.py", TASK.format(name="alpha"))
    assert load_task(reference).name == "alpha"


def test_package_in_the_directory_is_found(cli):
    """Dotted names work from the current directory."""
    cli.write("loading_package/__init__.py", "")
    cli.write("loading_package/tasks.py", TASK.format(name="beta"))
    assert load_task("loading_package.tasks:beta").name == "beta"


def test_file_may_import_its_neighbours(cli):
    """A file elsewhere sees the modules beside it."""
    cli.write("deep/loading_words.py", "NAME = 'gamma'\n")
    cli.write(
        "deep/loading_task.py", "from loading_words import NAME\n" + TASK.replace('"{name}"', "NAME").format(name="t")
    )
    assert load_task("deep/loading_task.py:t").name == "gamma"


def test_file_with_the_name_of_a_library_is_loaded_all_the_same(cli):
    """A file called json.py is the user's file, and the library stays what it was."""
    import json

    cli.write("json.py", TASK.format(name="delta"))
    assert load_task("json.py:delta").name == "delta"
    assert json.loads("1") == 1


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a:b", ("a", "b")),
        ("a.b:c", ("a.b", "c")),
        ("x/y.py:z", ("x/y.py", "z")),
        ("x/y.py", ("x/y.py", "")),
        (r"C:\x\y.py", (r"C:\x\y.py", "")),
        ("a", ("a", "")),
    ],
)
def test_reference_falls_into_source_and_name(reference, parts):
    """The last colon divides, unless it is a drive's."""
    assert split_reference(reference) == parts


def test_misspelt_task_lists_those_that_exist(cli):
    """The likely one is named, and all others of the module too."""
    cli.write("loading_two.py", TASK.format(name="moderator") + TASK.format(name="analyzer"))
    with pytest.raises(SettingsError) as caught:
        load_task("loading_two:moderater")
    assert "did you mean loading_two:moderator?" in str(caught.value)
    assert "loading_two:analyzer" in str(caught.value)


def test_module_with_several_tasks_needs_a_name(cli):
    """Which of two is meant is not guessed."""
    cli.write("loading_three.py", TASK.format(name="one") + TASK.format(name="two"))
    with pytest.raises(SettingsError, match="2 tasks; name one: loading_three:one, loading_three:two"):
        load_task("loading_three")


def test_misspelt_module_names_the_likely_one(cli):
    """A module that is not there: the near one, and the tasks of the directory."""
    cli.write("loading_four.py", TASK.format(name="epsilon"))
    with pytest.raises(SettingsError) as caught:
        load_task("loading_fuor:epsilon")
    assert "did you mean 'loading_four'?" in str(caught.value)
    assert "loading_four:epsilon" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("\n\nimport surely_missing_module\n", 3, "No module named 'surely_missing_module'"),
        ("def broken(:\n    pass\n", 1, "SyntaxError"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        (TASK.replace('"{name}"', "'no good name!'").format(name="t"), 8, "the name is also the consumer group"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".py"])
def test_module_that_fails_names_its_line_and_words(cli, text, line, said, suffix):
    """The user's own line is named, never one of ours or of a library."""
    cli.write("loading_bad.py", text)
    with pytest.raises(SettingsError) as caught:
        load_task(f"loading_bad{suffix}:t")
    assert f"loading_bad.py:{line}" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "reference", ["", ":", "loading_none:Text", "loading_none:nothing", "nowhere.py:t", "loading_none"]
)
def test_what_is_no_task_is_refused(cli, reference):
    """Empty, a class, a missing name, a missing file, a module without tasks: each is told."""
    cli.write("loading_none.py", "class Text: ...\n")
    with pytest.raises(SettingsError):
        load_task(reference)


def test_two_tasks_of_one_name_are_refused(cli):
    """They would be one consumer group and share each other's events."""
    cli.write("loading_five.py", TASK.format(name="zeta"))
    with pytest.raises(SettingsError, match="consumer group"):
        load_tasks(["loading_five:zeta", "loading_five:zeta"])


def test_declared_tasks_are_found_without_importing(cli):
    """Completion reads files; it never runs what a user wrote."""
    cli.write("loading_six.py", "raise SystemExit\n" + TASK.format(name="eta"))
    cli.write("loading_seven.py", b"\xff\xfe broken")
    assert declared_tasks(cli.directory) == ["loading_six:eta"]


def test_policy_file_makes_the_task_anew(cli):
    """A module that offers `<task>_under` and `load_policy` gets the file of the setting `policy`."""
    text = TASK.format(name="judge") + (
        "\nfrom dataclasses import replace\n"
        "def load_policy(path): return path.read_text().strip()\n"
        "def judge_under(policy): return replace(judge, policy_version=policy)\n"
    )
    cli.write("loading_policy.py", text)
    policy = cli.write("policy.txt", "v7\n")
    (task,) = load_tasks(["loading_policy:judge"], policy=policy)
    assert task.policy_version == "v7"


def test_policy_that_no_task_takes_is_refused(cli):
    """A setting that would do nothing is a mistake."""
    cli.write("loading_eight.py", TASK.format(name="theta"))
    with pytest.raises(SettingsError, match="policy"):
        load_tasks(["loading_eight:theta"], policy=cli.directory / "policy.txt")
