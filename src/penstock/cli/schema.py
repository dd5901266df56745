"""`penstock schema`: what stands in the topics, for producers and readers in any language.

terminal → [schema] → contracts
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock import __version__
from penstock.cli.command import Invocation, command
from penstock.cli.completion import complete_tasks
from penstock.cli.console import emit_page, line, tell
from penstock.cli.failures import CHECK_FAILED
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.task import Task

DOCUMENT = "asyncapi.json"


@command
def schema(
    invocation: Invocation,
    references: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:TASK...", help="module:name, file.py:name.", autocompletion=complete_tasks),
    ],
    *,
    directory: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help=f"Write {DOCUMENT} and a JSON Schema per kind of record."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--check", metavar="DIR", help="Say what breaks for readers and producers of the schemas in DIR."),
    ] = None,
) -> None:
    """Print an AsyncAPI 3 document of the tasks' topics, write its JSON Schemas, or check a change against older ones."""
    from penstock.cli.loading import load_tasks
    from penstock.contracts.asyncapi import document, schema_files
    from penstock.settings import KafkaAddress

    if against is not None and directory is not None:
        raise SettingsError("--out and --check exclude each other: check first, write when nothing breaks")
    tasks = load_tasks(references, policy=invocation.settings.policy)
    if against is not None:
        _check(tasks, against)
        return
    address = invocation.settings.log_address
    brokers = address.brokers.split(",") if isinstance(address, KafkaAddress) else ()
    whole = document(tasks, version=__version__, brokers=brokers)
    if directory is None:
        emit_page(whole)
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {directory}: no directory can be made there: {error.strerror}") from error
    for name, content in {DOCUMENT: whole, **schema_files(tasks)}.items():
        (directory / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not invocation.is_quiet:
            tell(f"wrote {directory / name}")


def _check(tasks: Sequence[Task[Any, Any]], against: Path) -> None:
    from penstock.contracts.asyncapi import schema_files

    found: list[str] = []
    now = schema_files(tasks)
    there = [name for name in now if (against / name).exists()]
    if not there:
        raise SettingsError(
            f"--check {against}: no schemas of these tasks there; write today's with `penstock schema … --out {against}`"
        )
    for name, new in now.items():
        if name not in there:
            tell(f"new: {name}")
            continue
        old = _read(against / name)
        try:
            found += _breaks(name, old, new, {f"{task.name}.result.json": task for task in tasks})
        except (TypeError, KeyError, AttributeError) as error:
            raise SettingsError(
                f"{against / name} is no JSON Schema that `penstock schema --out` wrote ({type(error).__name__}: {error}): write it anew"
            ) from error
    for text in found:
        line(text)
    if found:
        tell(
            "a change that breaks needs a topic of its own for a while: see docs/reference/records.md, 'What may change'"
        )
        raise typer.Exit(CHECK_FAILED)
    tell(f"nothing breaks: {len(there)} schemas against {against}")


def _breaks(name: str, old: dict[str, Any], new: dict[str, Any], results: Mapping[str, Task[Any, Any]]) -> list[str]:
    """What somebody of yesterday would stumble over in one kind of record."""
    from penstock.contracts.evolution import breaks
    from penstock.contracts.records import result_as_read

    if name.endswith(".event.json"):
        return [f"{name}, events of yesterday's producers: {text}" for text in breaks(old, new)]
    found = [f"{name}, readers of yesterday: {text}" for text in breaks(new, old)]
    if name in results:
        read = result_as_read(results[name])
        found += [f"{name}, results of yesterday: {text}" for text in breaks(old, read)]
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is no JSON Schema: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path} is no JSON Schema: an object is wanted")
    return found
