"""How far each group of a log is behind, and who works: one look.

log → [groups] → status, console
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.errors import TopicMissing, UserError
from penstock.log.unresolved import unresolved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from penstock.log.base import EventLog, GroupMember

AT_ONCE = 8
"""Groups asked about side by side: a cluster may have thousands, and each takes some questions."""


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


@dataclass(frozen=True, slots=True)
class Groups:
    """What one look finds."""

    rows: list[GroupTopic]
    unreadable: dict[str, str] = field(default_factory=dict)
    """Groups whose progress another version or another program wrote, or may not be read by us, and what is said of it: they
    hide nobody else's."""

    def behind(self) -> dict[str, set[str]]:
        """The topics in which a group has something before it."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            if row.lag_events:
                found.setdefault(row.group, set()).add(row.topic)
        return found


async def look_at_groups(
    log: EventLog, only: str = "", *, of: Callable[[str], bool] = lambda _: True, on: Collection[str] | None = None
) -> Groups:
    """All groups, or one; what is wrong with that one is raised. `of` and `on` name the groups and topics that matter:
    a cluster that is shared may have hundreds."""
    known = {name for name in await log.topics() if on is None or name in on}
    groups = await log.groups()
    asking = asyncio.Semaphore(AT_ONCE)

    async def ask(group: str) -> list[GroupTopic]:
        async with asking:
            owned = {p.topic for m in groups[group] if m.is_alive for p in m.partitions}
            topics = sorted((await log.topics_of(group) | owned) & known)
            return [row for topic in topics if (row := await _row_if_there(log, group, topic, groups[group]))]

    names = [group for group in sorted(groups) if of(group) and (not only or group == only)]
    told = await asyncio.gather(*map(ask, names), return_exceptions=True)
    found = Groups([])
    for group, answer in zip(names, told, strict=True):
        if isinstance(answer, UserError) and not only:
            found.unreadable[group] = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found.rows.extend(answer)
    return found


async def _row_if_there(log: EventLog, group: str, topic: str, members: list[GroupMember]) -> GroupTopic | None:
    try:
        return await _row(log, group, topic, members)
    except TopicMissing:  # deleted since it was listed
        return None


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


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"
