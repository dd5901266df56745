"""Whether a group leaves anything for one more worker: asked by who says it in the log, and by who says it at the ops port.

log → [crowd] → standby, lag
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.log.base import EventLog, GroupMember


class Crowd(NamedTuple):
    """Living members of a group that own every partition between them."""

    members: list[GroupMember]
    busy: list[GroupMember]
    """Those who own some."""
    partitions: int


async def crowd(log: EventLog, group: str, topics: Iterable[str]) -> Crowd | None:
    """Who owns all of these topics; None while a partition is free, on its way, or a dead member's."""
    wanted = {partition for topic in topics for partition in await log.bounds(topic)}
    members = [member for member in (await log.groups()).get(group, []) if member.is_alive]
    busy = [member for member in members if wanted.intersection(member.partitions)]
    is_taken = wanted.issubset(partition for member in busy for partition in member.partitions)
    return Crowd(members, busy, len(wanted)) if is_taken else None
