"""The documentation is true: what it shows is run, what it names exists.

In README, tutorials and how-tos a page is one session from top to bottom, in an empty directory, without a key:
  * a `console` block is run: `$ ` before a command, `> ` before its further lines, below it the output that is promised
    (`…` stands for anything, a line with only `…` for any lines), `# exit code N` behind a command that must fail;
  * a `python` or `toml` block that begins with a file's name in a comment is written there, other Python is run;
  * what cannot be run here stands in `NOT_RUN`, with its reason.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from documents import (
    NOT_RUN,
    PAGES,
    ROOT,
    Block,
    Session,
    anchors,
    blocks,
    calls,
    commands,
    links,
    named,
    spans,
)
from penstock.cli import app
from penstock.settings import load_settings
from penstock.telemetry.metrics import ALL

CLI = typer.main.get_command(app)
SESSIONS = [page for page in PAGES if page.parent.name not in {"reference", "decisions"}]
ON_A_CLUSTER = {"connect-to-your-cluster.md"}
"""Run by tests/scenarios/test_secure_cluster.py, against a broker."""

LANGUAGES = {"console", "python", "java", "toml", "json", "text", "mermaid", "sql"}
PLACEHOLDERS = re.compile(r"[…<]")


# --- what is shown is run ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in SESSIONS if page.name not in ON_A_CLUSTER], ids=named)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    """Top to bottom in an empty directory: every command ends as the page says, and prints what it promises."""
    session = Session(tmp_path)
    for block in blocks(page):
        session.run(block)


@pytest.mark.slow
def test_a_page_that_promises_too_much_fails(tmp_path: Path) -> None:
    """The reader of these tests sees a wrong command, a wrong exit code and output that does not come."""
    page = ROOT / "wrong.md"
    for text in (
        "$ penstock no-such-command",
        "$ penstock version  # exit code 2",
        "$ echo one\ntwo",
        "$ echo one; echo two\ntwo",
        "$ echo one; echo two\none",
    ):
        with pytest.raises(AssertionError):
            Session(tmp_path).run(Block(page, 1, "console", text))
    Session(tmp_path).run(Block(page, 1, "console", "$ echo one; echo two 7 ms; echo; echo three\n…\ntwo … ms\n…"))


# --- what is named exists -----------------------------------------------------------------------------------------


def shown_calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Every call of `penstock` that a page shows, in blocks and in running text."""
    for block in blocks(page):
        if block.language == "console":
            for command in commands(block):
                for words in calls(command.text):
                    yield f"{named(page)}:{command.line}", words
    for line, span in spans(page):
        if span.startswith("penstock "):
            yield f"{named(page)}:{line}", span.replace("[", " ").replace("]", " ").replace("|", " ").split()


def wrong_with(words: list[str]) -> str:
    """What is wrong with a call of `penstock`; empty where commands and options exist."""
    command: Any = CLI
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if PLACEHOLDERS.search(name):
            return ""
        if name not in command.commands:
            return f"there is no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--install-completion", "--show-completion"}
    for word in rest:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-zA-Z][\w-]*", option) and option not in known:
            return f"{command.name} has no option {option}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_shown_commands_and_options_exist(page: Path) -> None:
    """`penstock something --option`, in a block or in running text, is a command and an option of today."""
    wrong = [
        f"{at}: {text}" for at, words in shown_calls(page) if words[0] == "penstock" and (text := wrong_with(words))
    ]
    assert not wrong


def test_commands_and_options_that_are_gone_are_seen() -> None:
    """The rule above can fail."""
    assert not wrong_with(["penstock", "topics", "create", "feedback", "--partitions", "3"])
    assert not wrong_with(["penstock", "run", "…", "--simulated"])
    assert "no command" in wrong_with(["penstock", "swallow"])
    assert "no command" in wrong_with(["penstock", "topics", "destroy"])
    assert "no option --forever" in wrong_with(["penstock", "tail", "topic", "--forever"])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_in_running_text_exist(page: Path) -> None:
    """An option named by itself belongs to some command."""
    known = {"--help"}
    waiting: list[Any] = [CLI]
    while waiting:
        command = waiting.pop()
        known |= {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        waiting += getattr(command, "commands", {}).values()
    unknown = [
        f"{named(page)}:{line}: {span}"
        for line, span in spans(page)
        if (option := re.match(r"--[a-z][\w-]*", span)) and option[0] not in known
    ]
    assert not unknown


def known_settings() -> set[str]:
    return {
        re.sub(r"^limits\.\w+\.", "limits.*.", entry.name) for entry in load_settings(assignments=ALL_LIMITS).entries()
    }


ALL_LIMITS = ["limits.default.requests_per_minute=1"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_settings_exist(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting or its variable that a page names is one; files of settings that it shows are accepted."""
    monkeypatch.chdir(tmp_path)
    settings = known_settings()
    tables = {name.partition(".")[0] for name in settings if "." in name}
    unknown = []
    for line, span in spans(page):
        name = re.sub(r"^limits\.[\w<>-]+\.", "limits.*.", re.split(r"[ =]", span)[0])
        name = name.removesuffix(".default")
        is_setting = re.fullmatch(r"[a-z]+(\.[a-z_*]+)+", name) and name.partition(".")[0] in tables - {"kafka"}
        if (
            is_setting
            and not {name, name.removesuffix("_file")} & settings
            and not name.endswith((".py", ".toml", ".md"))
        ):
            unknown.append(f"{named(page)}:{line}: {span}")
    for variable in set(re.findall(r"PENSTOCK_[A-Z_]+[A-Z]", page.read_text())):
        name = variable.removeprefix("PENSTOCK_").removesuffix("_FILE").lower().replace("__", ".")
        name = re.sub(r"^limits\.\w+\.", "limits.*.", name)
        if name not in settings | {"config", "test_kafka", "test_chromium"} and not name.startswith("kafka."):
            unknown.append(f"{named(page)}: {variable}")
    assert not unknown
    for block in blocks(page):
        if block.language == "toml" and block.file == "penstock.toml":
            file = tmp_path / "penstock.toml"
            file.write_text(block.text)
            for secret in re.findall(r'_file = "([\w.-]+)"', block.text):
                (tmp_path / secret).write_text("secret")
            load_settings(file)
        elif block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_metrics_exist(page: Path) -> None:
    """A metric that a page names is served under that name."""
    served = {metric.name for metric in ALL}
    unknown = [
        f"{named(page)}:{line}: {span}"
        for line, span in spans(page)
        if (name := re.match(r"penstock_[a-z_]+", span)) and re.sub("_(bucket|sum|count)$", "", name[0]) not in served
    ]
    assert not unknown


@pytest.mark.parametrize("page", [*PAGES, ROOT / "DESIGN.md", ROOT / "CHANGELOG.md"], ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link inside the repository has its file, and its heading where it names one."""
    broken = []
    for line, target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (fragment and fragment not in anchors(file)):
            broken.append(f"{named(page)}:{line}: {target}")
    assert not broken


def test_every_page_is_reached_from_the_index() -> None:
    """A page that nothing leads to is not read."""
    index = ROOT / "docs" / "index.md"
    reached = {(index.parent / target.partition("#")[0]).resolve() for _, target in links(index)}
    pages = {page for page in PAGES if page.is_relative_to(index.parent) and page.parent.name != "decisions"}
    assert sorted(map(named, pages - reached - {index})) == []


def test_the_readme_is_read_in_one_go() -> None:
    """At most 120 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", [*PAGES, ROOT / "DESIGN.md"], ids=named)
def test_named_files_exist(page: Path) -> None:
    """A path of the repository in code type is there."""
    gone = [
        f"{named(page)}:{line}: {span}"
        for line, span in spans(page)
        if re.fullmatch(r"(src|tests|docs|examples|benchmarks)/[\w./*-]+", span)
        and not any(ROOT.glob(span.rstrip("/")))
    ]
    assert not gone


@pytest.mark.parametrize("page", SESSIONS, ids=named)
def test_nothing_that_could_be_run_hides(page: Path) -> None:
    """Blocks have a known language, and commands stand in `console` blocks, where they are run."""
    hidden = []
    for block in blocks(page):
        if block.language not in LANGUAGES:
            hidden.append(f"{block}: language {block.language!r}")
        if block.language in {"text", "json", "mermaid"} and re.search(
            r"^(\$ |penstock |make )", block.text, re.MULTILINE
        ):
            hidden.append(f"{block}: a command in a block that is not run")
    assert not hidden


def test_what_is_not_run_is_still_needed() -> None:
    """Every exception stands for something that a page shows, and every `make` target that is shown exists."""
    shown = [
        command.text
        for page in SESSIONS
        for block in blocks(page)
        if block.language == "console"
        for command in commands(block)
    ]
    unused = [pattern for pattern in NOT_RUN if not any(re.match(pattern, text) for text in shown)]
    assert not unused
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {text.split()[1] for text in shown if text.startswith("make ")}
    made |= {span.split()[1] for page in PAGES for _, span in spans(page) if re.match(r"make \w", span)}
    assert made <= targets
