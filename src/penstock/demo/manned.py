"""Whether everybody is at work, as the log sees it.

log → [manned] → run
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.log.base import EventLog
    from penstock.task import Task


async def is_manned(log: EventLog, tasks: Sequence[Task[Any, Any]]) -> bool:
    """Every partition of the events has an owner that lives, in the group of each task."""
    groups = await log.groups()
    bounds = await log.bounds(tasks[0].reads)
    owned = {
        (task.group, partition)
        for task in tasks
        for member in groups.get(task.group, [])
        if member.is_alive
        for partition in member.partitions
        if partition in bounds
    }
    return len(owned) == len(bounds) * len(tasks)
