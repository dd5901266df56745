"""What the judge found: counts per task, and the money.

judge → [findings] → watch, summary, tests
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class TaskFindings:
    """One task, as the log shows it."""

    ended: int = 0
    """Events with exactly one or more endings (result or dead letter)."""
    results: int = 0
    dead_letters: int = 0
    skipped: int = 0
    """Events that want no answer: deletions, what they erased before it was answered, what the task passes over."""
    erased: int = 0
    """Of them, the deletions; one whose tombstones are missing is lost."""
    doubled: int = 0
    """Endings beyond the first of an event."""
    unproduced: int = 0
    """Endings of events that are not in the input topic: nobody produced them."""
    lost: int = 0
    """Events that the group's progress says are done, without an ending."""
    open: int = 0
    """Events without an ending yet."""
    nanousd: int = 0
    """On results and dead letters."""
    simulated: int = 0
    """Results that say so."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""


@dataclass(slots=True)
class Findings:
    """All tasks, and the money."""

    events: int = 0
    """Offsets of the input topics so far."""
    tasks: dict[str, TaskFindings] = field(default_factory=dict)
    waste_nanousd: int = 0
    billed_nanousd: int = 0
    billed_calls: int = 0
    unconfirmed_nanousd: int = 0
    """Billed and on no record; while calls are in flight this holds them too."""
    unaccounted_items: int = 0
    """Items of billed calls that stand on no record; likewise."""
    paid_again: int = 0
    """Those of them whose call ended long ago: their worker died, and another call will answer (or has answered) them."""

    @property
    def recorded_nanousd(self) -> int:
        """On results, dead letters and waste."""
        return self.waste_nanousd + sum(task.nanousd for task in self.tasks.values())
