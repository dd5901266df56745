"""`penstock status`: how far each group is behind, and who works.

log → [status] → terminal
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from penstock.cli.budget import Budget, budgets
from penstock.cli.command import Invocation, command, run_async
from penstock.cli.console import emit_page, out, table, tell
from penstock.log.guarantee import label
from penstock.ops.groups import GroupTopic, duration, look_at_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.log.base import Guarantee
    from penstock.ops.asking import Asked, Waiting


@command
def status(
    invocation: Invocation,
    *,
    group: Annotated[str, typer.Option(help="This group only.")] = "",
    workers: Annotated[
        list[str] | None,
        typer.Option(
            "--worker",
            metavar="HOST:PORT",
            help="Ops port of a worker. Repeatable; those of this machine unless given.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show every group: lag in events and seconds, its members, what is spent, and for every partition why it waits."""
    from penstock.cli.waiting import show

    seen = run_async(_status(invocation, group, workers or []))
    for name, why in seen.unreadable.items():
        tell(f"group {name} is left out: {why}")
    if as_json:
        page = {"log": invocation.settings.log} | {
            name: [asdict(row) for row in getattr(seen, name)] for name in ("groups", "spend", "workers", "partitions")
        }
        emit_page(page | {"delivery": seen.delivery, "unreadable": seen.unreadable})
        return
    if warning := label(seen.delivery):
        tell(warning)
    for budget in seen.spend:
        tell(budget.told)
    if not seen.groups and not seen.unreadable:
        tell(
            f"no group {group or 'has read anything'} in {invocation.settings.log}: start one with `penstock run MODULE:TASK`"
        )
        return
    if seen.groups:
        _print(seen.groups)
    show(seen.partitions, seen.workers)


class _Seen(NamedTuple):
    """What one look shows."""

    delivery: Guarantee
    groups: list[GroupTopic]
    unreadable: Mapping[str, str]
    """Groups whose progress another version or another program wrote, and what is said of it: they hide nobody else's."""
    spend: list[Budget]
    workers: list[Asked]
    partitions: list[Waiting]


async def _status(invocation: Invocation, only: str, workers: Sequence[str]) -> _Seen:
    from penstock.ops.asking import ask_workers, unasked

    async with invocation.log() as log:
        groups = await look_at_groups(log, only)
        spent = await budgets(invocation.settings, log)
        asked, waits = await ask_workers(workers, invocation.settings.log_place)
        waits = [wait for wait in waits if wait.group == only or not only]
        others = await unasked(log, waits, groups.behind())
        return _Seen(log.delivery, groups.rows, groups.unreadable, spent, asked, [*waits, *others])


def _print(found: list[GroupTopic]) -> None:
    columns = ("lag", "oldest", "done above", "open below", "workers")
    shown = table("group", "topic", *columns, "partitions", right=columns)
    for row in found:
        shown.add_row(
            row.group,
            row.topic,
            f"{row.lag_events:,}",
            duration(row.lag_seconds),
            f"{row.done_above:,}",
            f"{row.unresolved_below:,}",
            str(len(row.members)),
            f"{row.partitions_owned} of {row.partitions} owned",
        )
    out().print(shown)
    for row in found:
        if row.lost:
            tell(f"{row.group}: retention deleted {row.lost:,} unread records of {row.topic}")
        if row.lag_events and not row.members:
            wait, them = ("event waits", "it") if row.lag_events == 1 else ("events wait", "them")
            tell(f"{row.group}: {row.lag_events:,} {wait} in {row.topic} and nobody works on {them}")
