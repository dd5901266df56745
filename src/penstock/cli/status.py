"""`penstock status`: how far each group is behind, and who works.

log → [status] → terminal
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.console import emit_page, out, table, tell
from penstock.log.delivery import label
from penstock.log.unresolved import unresolved

if TYPE_CHECKING:
    from penstock.log.base import Delivery, EventLog, GroupMember


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
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show every group: lag in events and seconds, what is done above the watermark, and its members."""
    delivery, found = run_async(_status(invocation, group))
    if as_json:
        groups = [asdict(row) for row in found]
        emit_page({"log": invocation.settings.log, "delivery": delivery, "groups": groups})
        return
    if warning := label(delivery):
        tell(warning)
    if not found:
        tell(
            f"no group {group or 'has read anything'} in {invocation.settings.log}: start one with `penstock run MODULE:TASK`"
        )
        return
    _print(found)


async def _status(invocation: Invocation, only: str) -> tuple[Delivery, list[GroupTopic]]:
    async with invocation.log() as log:
        topics = sorted(await log.topics())
        groups = await log.groups()
        rows = []
        for group in sorted(groups):
            if only and group != only:
                continue
            for topic in topics:
                row = await _row(log, group, topic, groups[group])
                rows += [row] if row else []
        return log.delivery, rows


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
