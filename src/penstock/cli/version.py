"""`penstock version`: what is installed, for a bug report.

terminal → [version]
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Annotated

import typer

from penstock import __version__
from penstock.cli.command import Invocation, command
from penstock.cli.console import emit, line

PARTS = ("anthropic", "confluent-kafka", "pydantic")


@command
def version(
    _: Invocation, *, as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False
) -> None:
    """Print the version, and those of the parts that matter."""
    parts = {"penstock": __version__, "python": platform.python_version(), **{name: _installed(name) for name in PARTS}}
    if as_json:
        emit(parts)
        return
    print_version()
    line(", ".join(f"{name} {number}" for name, number in parts.items() if name != "penstock"))


def print_version() -> None:
    """The one line of `--version`."""
    line(f"penstock {__version__}")


def _installed(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "not installed"
