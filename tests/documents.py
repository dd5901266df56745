"""Reads the documentation as a reader would, and does what it says: blocks, commands with their output, words in code type."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN = {
    r"make (demo|test|check|bench|soak|setup)\b": "builds an environment or runs long; `.ci/run` and people do",
    r"\. \.venv/bin/activate": "the test has the commands in its path already",
    r".*--live\b": "needs a key and costs money",
    r".*(\bkafka:|--kafka\b)": "needs a cluster; tests/contract runs the log against a real one",
    r"kcat\b": "needs a cluster and a program that few have; tests/scenarios reads one with the page's other readers",
}
OPTIONAL = {"curl", "jq"}
"""Programs that a reader may lack: where this machine does, their commands are passed over."""
SECONDS = 120.0

_FENCE = re.compile(r"^ {0,3}```")
_SPAN = re.compile(r"``(.+?)``|`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))")
_CODE = re.compile(r"# exit code (\d+)$")
_SPLIT = frozenset({"|", "||", "&&", ";", "&", "do", "done", "then", "("})


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name that the first line gives, as in `# feedback.py`; empty where the block is no file."""
        named = _FILE.fullmatch(self.text.partition("\n")[0].strip())
        return named[1] if named else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Command(NamedTuple):
    """A command behind `$ `, the exit code it must have (`# exit code 3` at its end), and the output promised below."""

    text: str
    line: int
    code: int
    promised: list[str]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, from the top."""
    found: list[Block] = []
    language, first = "", 0
    text: list[str] | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not _FENCE.match(line):
            if text is not None:
                text.append(line)
        elif text is None:
            language, first, text = line.strip().removeprefix("```"), number, []
        else:
            found.append(Block(page, first, language, "\n".join(text)))
            text = None
    assert text is None, f"{page}: the block of line {first} has no end"
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a console block; `> ` goes on with the line above."""
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            coded = _CODE.search(line)
            found.append(Command(line.removeprefix("$ "), number, int(coded[1]) if coded else 0, []))
        elif line.startswith("> ") and found and not found[-1].promised:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}\n{line.removeprefix('> ')}")
        elif line.strip():
            assert found, f"{block}: output before any command"
            found[-1].promised.append(line)
    return found


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """Line and content of every word in code type outside of blocks."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield from ((number, double or single) for double, single in _SPAN.findall(line))


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every link outside of blocks."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield from ((number, target) for target in _LINK.findall(_SPAN.sub("", line)))


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as the usual renderers make them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def calls(text: str) -> Iterator[list[str]]:
    """The single programs of a shell line, each with its arguments: pipes and assignments before a name are taken off."""
    lexer = shlex.shlex(text.partition("\n")[0], posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in _SPLIT:
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def differs(promised: list[str], said: list[str]) -> str:
    """Where the output is not as promised: line by line, `…` stands for anything in a line, alone for any lines."""
    lines = [" ".join(line.split()) for line in said if line.strip()]
    at, may_skip = 0, False
    for promise in promised:
        if promise.strip() == "…":
            may_skip = True
            continue
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in promise.split("…"))
        ahead = lines[at:] if may_skip else lines[at : at + 1]
        found = next((n for n, line in enumerate(ahead) if re.fullmatch(pattern, line)), None)
        if found is None:
            return promise
        at, may_skip = at + found + 1, False
    return "" if may_skip or at == len(lines) else f"nothing more after: {promised[-1]}"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def reason_not_to_run(command: str) -> str:
    lacking = [words[0] for words in calls(command) if words[0] in OPTIONAL and not shutil.which(words[0])]
    if lacking:
        return f"needs {lacking[0]}, which is not on this machine"
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), "")


class Session:
    """A reader at a terminal: one directory, which `cd` changes, and nothing of the developer's own settings."""

    def __init__(self, directory: Path, tools: Path | None = None) -> None:
        self.directory = self._start = directory
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
        places = [Path(sys.executable).parent, *([tools] if tools else []), os.environ["PATH"]]
        path = os.pathsep.join(map(str, places))
        nowhere = "http://127.0.0.1:9"
        self._environment = {
            **kept, "PATH": path, "COLUMNS": "200", "HOME": str(directory), "NO_COLOR": "1", "PYTHONPATH": "",
            "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "NO_PROXY": "127.0.0.1,localhost",
        }  # fmt: skip

    def run(self, block: Block) -> None:
        """Do with the block what its language says."""
        if block.language == "console":
            for command in commands(block):
                if not reason_not_to_run(command.text):
                    self._check(block, command)
        elif block.language in {"python", "toml"} and block.file:
            target = self.directory / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text + "\n")
        elif block.language == "python":
            done = self._shell(f"python - <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK")
            assert done.returncode == 0, f"{block}\n{done.stdout}"

    def _check(self, block: Block, command: Command) -> None:
        done = self._shell(command.text)
        place = f"{block.page.relative_to(ROOT)}:{command.line}: {command.text}"
        assert done.returncode == command.code, f"{place}\nexit code {done.returncode}\n{done.stdout}"
        assert "Traceback" not in done.stdout, f"{place}\n{done.stdout}"
        wrong = differs(command.promised, done.stdout.splitlines()) if command.promised else ""
        assert not wrong, f"{place}\npromises: {wrong}\nbut says:\n{done.stdout}"

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        place = self._start / ".directory"
        script = f"{text}\ncode=$?\npwd > '{place}'\nexit $code"
        with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open as long as anything in the background lives
            shell = subprocess.Popen(
                ["bash", "-c", script], cwd=self.directory, env=self._environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                code = shell.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)  # what it started goes too
                shell.wait()
                said.seek(0)
                raise AssertionError(f"no end within {SECONDS:.0f} s: {text}\n{said.read()}") from None
            said.seek(0)
            done = subprocess.CompletedProcess(text, code, said.read())
        self.directory = Path(place.read_text().strip())
        return done
