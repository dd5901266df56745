"""`penstock doctor`: everything a worker needs, looked at before it is needed. Spends nothing.

terminal → [doctor] → doctor's checks
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import emit_page, out, tell
from penstock.cli.failures import CHECK_FAILED
from penstock.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from penstock.doctor.finding import Finding
    from penstock.task import Task

FORMAT = 1
"""Of `--json`: fields are added to it, never renamed or taken away."""
IMPORT_SECONDS = 30.0
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@command
def doctor(
    invocation: Invocation,
    references: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODULE:TASK]...", help="module:name, file.py:name.", autocompletion=complete_tasks),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Look whether log, API, tasks and this machine are ready, and say what to do where not. Asks nothing that costs money."""
    # What libraries log while we look is told by the findings, if it matters.
    logging.getLogger("penstock").addHandler(logging.NullHandler())
    findings = run_async(_examine(invocation, references or []))
    if as_json:
        has_failed = any(finding.status == "fail" for finding in findings)
        emit_page({"format": FORMAT, "ok": not has_failed, "findings": [finding._asdict() for finding in findings]})
    else:
        _print(out(), findings)
        if not invocation.is_quiet:
            tell(_summary(findings))
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(CHECK_FAILED)


async def _examine(invocation: Invocation, references: Sequence[str]) -> list[Finding]:
    from penstock.doctor.doctor import checks
    from penstock.doctor.finding import Finding, examine

    try:
        loaded = invocation.loaded
    except UserError as error:
        why = "Nothing else could be looked at."
        return [Finding("settings", "fail", str(error), why, "mend it; penstock config show lists all settings")]
    origins = sorted({_source(entry.origin) for entry in loaded.entries()} - {"default"})
    settings = Finding("settings", "ok", f"log {loaded.settings.log}; set by: {', '.join(origins) or 'defaults only'}")
    tasks, told = await _tasks(references, loaded.settings.policy)
    return [settings, *told, *await examine(checks(loaded.settings, tasks))]


def _source(origin: str) -> str:
    """`environment PENSTOCK_LOG` and `penstock.toml:3` without what is after them."""
    return "environment" if origin.startswith("environment") else origin.partition(":")[0]


async def _tasks(references: Sequence[str], policy: Path | None) -> tuple[list[Task[Any, Any]], list[Finding]]:
    from penstock.cli.loading import load_task, load_tasks
    from penstock.doctor.finding import Check, Finding, apart, examine

    if not references:
        fix = "penstock doctor MODULE:TASK"
        return [], [
            Finding("tasks", "warn", "no task was named", "Topics, groups and models are those of a task.", fix)
        ]

    def one(reference: str) -> Check:
        async def load() -> list[Finding]:
            task = await apart(load_task, reference)
            return [Finding(f"task {reference}", "ok", f"{task.name}: {task.reads} → {task.writes}")]

        return Check(f"task {reference}", load, IMPORT_SECONDS)

    told = await examine([one(reference) for reference in references])
    good = [reference for reference, finding in zip(references, told, strict=True) if finding.status == "ok"]
    try:
        return load_tasks(good, policy=policy) if good else [], told
    except UserError as error:
        return [], [*told, Finding("tasks", "fail", str(error), "`penstock run` would refuse them together.")]


def _print(console: Console, findings: Sequence[Finding]) -> None:
    """A line for what is well; for the rest also why and what to do, as wide as the terminal is."""
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for finding in findings:
        head = Text.assemble((finding.check, "bold"), ": ", finding.seen)
        rows.add_row(Text(finding.status, _STYLES[finding.status]), head)
        for label, text in (("why", finding.why), ("do", finding.fix)):
            if text and finding.status != "ok":
                rows.add_row("", Text.assemble((f"{label:<4}", "dim"), text))
    console.print(rows)


def _summary(findings: Sequence[Finding]) -> str:
    count = {status: sum(finding.status == status for finding in findings) for status in _STYLES}
    return f"{count['ok']} ok, {count['warn']} to think about, {count['fail']} to mend; nothing was spent"
