"""The house keeps its shape: layers, cheap import, public surface, sizes, and nothing of the machine it was written on."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
APPLICATIONS = sorted([*(SOURCE / "review_moderation").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])

MOST_LINES = 400
MOST_FUNCTION_LINES = 60
HEAVY = {"anthropic", "confluent_kafka", "aiohttp", "sqlalchemy", "fastapi", "typer"}

# What makes tools, and what make keeps out of the repository.
GENERATED = {
    ".git", ".venv", ".cache", ".hypothesis", ".import_linter_cache", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    "__pycache__", "build", "dist", "out", "penstock-demo",
}  # fmt: skip
# In halves, so that this file may be in the repository that it looks through.
FORBIDDEN = tuple(
    "".join(halves)
    for halves in (
        ("/wo", "rk/"),
        ("/tmp/br", "ief"),
        ("../sha", "red"),
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("registry.npm", "js"),
        ("repo1.mav", "en.org"),
        ("repo.mav", "en.apache"),
        ("proxy.gol", "ang.org"),
    )
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def repository_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and GENERATED.isdisjoint(path.relative_to(ROOT).parts) and ".db" not in path.name:
            yield path


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def test_imports_point_one_way() -> None:
    """The layers of `.importlinter` hold: nothing calls upstream, the engine knows no Kafka, SQL, HTTP or Anthropic."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_of_the_root_is_cheap() -> None:
    """`import penstock` brings the words only: no client of Claude, Kafka, SQL, HTTP or the terminal comes with it."""
    code = "import sys, penstock; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded  # the probe sees what is loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("file", APPLICATIONS, ids=named)
def test_applications_use_the_public_root_only(file: Path) -> None:
    """`review_moderation` and the examples are written as a user would write them: from `penstock`, nothing below it."""
    below = [
        f"{named(file)}:{line}: {name}"
        for line, name in imported(ast.parse(file.read_text()))
        if name.startswith("penstock.")
    ]
    assert not below


def test_applications_are_found() -> None:
    """The rule above looks at something."""
    assert {"moderator.py", "support_triage.py"} <= {file.name for file in APPLICATIONS}


def test_files_and_functions_stay_readable() -> None:
    """A file of at most 400 lines, functions of at most 60; a signature is a table of options, not code to follow."""
    assert len(MODULES) > 100
    long = []
    for file in MODULES:
        text = file.read_text()
        long += [f"{named(file)}: {len(text.splitlines())} lines"] if len(text.splitlines()) > MOST_LINES else []
        long += [
            f"{named(file)}:{function.lineno}: {function.name} has {lines} lines"
            for function in functions(ast.parse(text))
            if (lines := (function.end_lineno or 0) - function.body[0].lineno + 1) > MOST_FUNCTION_LINES
        ]
    assert not long


def test_modules_say_their_role_and_their_place() -> None:
    """A module's docstring begins with its role in one line; a breadcrumb below it has the module in brackets."""
    silent = []
    for file in MODULES:
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        if not text.partition("\n")[0].strip():
            silent.append(f"{named(file)} does not say its role")
        is_stage = not file.name.startswith("__") and "skeleton" not in file.parts
        has_breadcrumb = ("→" in text or "←" in text) and "[" in text
        if is_stage and not has_breadcrumb:
            silent.append(f"{named(file)} has no breadcrumb")
    assert not silent


def test_public_names_are_sorted_and_there() -> None:
    """`penstock.__all__` is the surface: sorted, without repeats, every name importable."""
    assert penstock.__all__ == sorted(set(penstock.__all__))
    missing = [name for name in penstock.__all__ if not hasattr(penstock, name)]
    assert not missing


def test_every_public_class_says_what_it_is() -> None:
    """Whoever asks `help(penstock.Task)` is told."""
    silent = [
        name for name in penstock.__all__ if isinstance(value := getattr(penstock, name), type) and not value.__doc__
    ]
    assert not silent


def test_nothing_names_the_machine_it_was_written_on() -> None:
    """No path of a workplace and no package registry's host: the repository works wherever it is cloned."""
    found = []
    files = 0
    for path in repository_files():
        files += 1
        content = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{named(path)}:{number}: {word}"
            for number, line in enumerate(content.splitlines(), 1)
            for word in FORBIDDEN
            if word in line
        ]
    assert files > 100
    assert not found
