"""`penstock status`: how far each group is behind, and who works.

log → [status] → terminal
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
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

MOST_TOLD = 20
"""Groups whose trouble is told one by one: on a cluster that is shared hundreds may be hidden from us."""


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
    for name, why in islice(seen.unreadable.items(), MOST_TOLD):
        tell(f"group {name} is left out: {why}")
    if (more := len(seen.unreadable) - MOST_TOLD) > 0:
        tell(f"{more} more groups are left out: `penstock status --json` says why, under unreadable")
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
    """As in `Groups`."""
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
