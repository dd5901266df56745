"""`penstock status`: how far each group is behind, and who works.

log → [status] → terminal
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from penstock.cli.budget import Budget, budgets
from penstock.cli.command import Invocation, command, run_async
from penstock.cli.console import emit_page, out, table, tell
from penstock.errors import LogDamaged
from penstock.log.guarantee import label
from penstock.log.unresolved import unresolved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.cli.waiting import Asked, Waiting
    from penstock.log.base import EventLog, GroupMember, Guarantee


@dataclass(frozen=True)
class GroupTopic:
    """One group on one topic."""

    group: str
    topic: str
    lag_events: int
    """Offsets that are not resolved; 0 where only markers of transactions are left."""
    lag_seconds: float
    """Age of the oldest record that is not resolved."""
    done_above: int
    """Offsets resolved above the watermark: their results are visible, a slower neighbour holds the watermark."""
    unresolved_below: int
    """Offsets not resolved below the highest one that is: in flight, or held back for their key's order."""
    lost: int
    """Offsets that retention deleted unread."""
    partitions: int
    partitions_owned: int
    members: list[str]
    """Members that are alive."""


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
    unreadable: dict[str, str]
    """Groups whose progress another version or another program wrote, and what is said of it: they hide nobody else's."""
    spend: list[Budget]
    workers: list[Asked]
    partitions: list[Waiting]


async def _status(invocation: Invocation, only: str, workers: Sequence[str]) -> _Seen:
    from penstock.cli.waiting import ask_workers, unasked

    async with invocation.log() as log:
        topics = sorted(await log.topics())
        groups = await log.groups()
        rows: list[GroupTopic] = []
        unreadable: dict[str, str] = {}
        for group in sorted(groups):
            if only and group != only:
                continue
            try:
                found = [await _row(log, group, topic, groups[group]) for topic in topics]
            except LogDamaged as error:
                if only:
                    raise
                unreadable[group] = str(error)
            else:
                rows += [row for row in found if row]
        spent = await budgets(invocation.settings, log)
        asked, waits = await ask_workers(workers, invocation.settings.log_place)
        waits = [wait for wait in waits if wait.group == only or not only]
        behind: dict[str, set[str]] = {}
        for row in rows:
            if row.lag_events:
                behind.setdefault(row.group, set()).add(row.topic)
        return _Seen(log.delivery, rows, unreadable, spent, asked, [*waits, *await unasked(log, waits, behind)])


async def _row(log: EventLog, group: str, topic: str, members: list[GroupMember]) -> GroupTopic | None:
    done = await log.committed(group, topic)
    owned = {p: m.member for m in members if m.is_alive for p in m.partitions if p.topic == topic}
    if not done and not owned:
        return None
    bounds = await log.bounds(topic)
    waiting = [await unresolved(log, p, done[p], kept) for p, kept in bounds.items() if p in done]
    oldest_ms = min((first.timestamp_ms for _, first in waiting if first), default=None)
    return GroupTopic(
        group,
        topic,
        lag_events=sum(count for count, _ in waiting),
        lag_seconds=0.0 if oldest_ms is None else round(max(0.0, time.time() - oldest_ms / 1000), 1),
        done_above=sum(offsets.count_above() for offsets in done.values()),
        unresolved_below=sum(o.end - o.base - o.count_above() for o in done.values()),
        lost=sum(max(0, kept.low - done[p].base) for p, kept in bounds.items() if p in done),
        partitions=len(bounds),
        partitions_owned=len(owned),
        members=sorted(set(owned.values())),
    )


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


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"
