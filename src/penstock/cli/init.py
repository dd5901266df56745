"""`penstock init`: a small project with a task that works.

terminal → [init] → files
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import Invocation, command
from penstock.cli.console import tell
from penstock.errors import SettingsError

FILES = {
    "feedback.py": "feedback.py",
    "penstock.toml": "penstock.toml",
    "events.jsonl": "events.jsonl",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}


@command
def init(
    invocation: Invocation,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Made if missing.")] = Path(),
    *,
    overwrites: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Make a project with a working task: task file, settings, sample events, README."""
    if directory.exists() and not directory.is_dir():
        raise SettingsError(f"{directory} is a file: name a directory")
    there = [name for name in FILES.values() if (directory / name).exists()]
    if there and not overwrites:
        raise SettingsError(
            f"{directory.resolve()} has {', '.join(there)} already: name another directory, or add --force"
        )
    directory.mkdir(parents=True, exist_ok=True)
    source = resources.files("penstock.cli") / "skeleton"
    for name, target in FILES.items():
        (directory / target).write_bytes((source / name).read_bytes())
    if invocation.is_quiet:
        return
    tell(f"made {', '.join(FILES.values())} in {directory.resolve()}")
    if directory != Path():
        tell(f"  cd {directory}")
    tell('  penstock try feedback:sorter "The app closes when I open a photo"')
    tell("README.md has the next steps")
