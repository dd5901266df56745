"""What a command prints: data on stdout, everything else on stderr.

command → [console] → terminal, pipe or file
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_COLUMNS = 200
"""A pipe has no width; tables must not be cut to a screen that isn't there."""


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class QuietConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
    return QuietConsole(stderr=stderr, width=width, highlight=False, emoji=False)


def out() -> Console:
    """The console of data; made when needed, because tests and pipes exchange the stream."""
    return _console(stderr=False)


def err() -> Console:
    """The console of progress, hints and errors."""
    return _console(stderr=True)


def emit(value: Any) -> None:
    """One JSON document on one line of stdout: the same for machines on every run."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")


def emit_page(value: Any) -> None:
    """One JSON document for people and machines: indented."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def line(text: str) -> None:
    """One plain line of data; nothing in it is markup."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """One plain line beside the data."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """An error as people see it; whatever is in `text` is shown as it is."""
    from rich.text import Text

    err().print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; the columns in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made
