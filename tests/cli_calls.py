"""Calls of the command line inside the test's process, in a directory of the test's own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from penstock.cli import app


class Cli:
    """`cli("status", "--json")` in the test's directory; nothing of the developer's own environment is seen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)

    def done(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """Stdout of a call that must succeed."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def page(self, *arguments: str) -> Any:
        """The JSON document of a call that must succeed."""
        return json.loads(self.done(*arguments))

    def lines(self, *arguments: str) -> list[Any]:
        """The JSON lines of a call that must succeed."""
        return [json.loads(line) for line in self.done(*arguments).splitlines()]

    def refused(self, *arguments: str, code: int = 2, stdin: str | bytes | None = None) -> str:
        """What a call says that must fail with this exit code: never a traceback."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        assert "Traceback" not in result.output
        return result.stderr

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@contextmanager
def cli_in(directory: Path) -> Iterator[Cli]:
    """A command line in a clean environment; modules that it loads are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name in [*os.environ]:
            if name.startswith(("PENSTOCK_", "ANTHROPIC_")):
                patch.delenv(name)
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "path", [*sys.path])
        known = {*sys.modules}
        try:
            yield Cli(directory)
        finally:
            for name in {*sys.modules} - known:
                loaded_from = getattr(sys.modules[name], "__file__", None) or ""
                if loaded_from.startswith(str(directory)):
                    del sys.modules[name]
