"""What the endings say: verdicts by kind, what was planted and found, how long it took, what it would have cost.

judge → [tally] → terminal
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

from penstock.deadletters.letter import Letter
from penstock.demo.comparison import Comparison

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.claude.models import Models
    from penstock.record import Record
    from penstock.task import Task


class Tally:
    """Counts each ending once, as the judge reads it."""

    def __init__(
        self, tasks: Sequence[Task[Any, Any]], models: Models, planted: Mapping[str, str], *, since_ms: int
    ) -> None:
        self.decisions: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        """By kind of clause: spam, abuse, fake, manipulation."""
        self.sentiments: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()
        """Moderated events by what was planted in them."""
        self.flagged: Counter[tuple[str, str]] = Counter()
        """Held back or rejected, by what was planted and by decision."""
        self.last_ms = since_ms
        self._planted = planted
        self._since_ms = since_ms
        self._comparisons = {task.name: Comparison(task, models) for task in tasks}
        self._latencies_ms = {task.name: array("L") for task in tasks}

    def see(self, task: str, record: Record, ending: dict[str, Any] | Letter) -> None:
        """One result or dead letter (the judge's `on_ending`)."""
        self._comparisons[task].add(ending)
        self.last_ms = max(self.last_ms, record.timestamp_ms)
        if isinstance(ending, Letter):
            return
        # An answer to an event that waited from one run to the next says nothing about speed.
        if ending["times"]["produced"] >= self._since_ms:
            self._latencies_ms[task].append(max(0, ending["times"]["committed"] - ending["times"]["produced"]))
        output = ending["output"]
        if "decision" in output:
            self._see_decision(ending["event_id"], output)
        elif "sentiment" in output:
            self.sentiments[output["sentiment"]] += 1

    def _see_decision(self, event_id: str, output: dict[str, Any]) -> None:
        decision = output["decision"]
        self.decisions[decision] += 1
        self.violations.update({clause.partition(".")[0] for clause in output["violations"]})
        planted = self._planted.get(event_id, "")
        self.judged[planted] += 1
        if decision != "publish":
            self.flagged[planted, decision] += 1

    @property
    def single_nanousd(self) -> int:
        """What one call per event would have cost, at least, with its prompt in the cache."""
        return sum(comparison.cached_nanousd() for comparison in self._comparisons.values())

    @property
    def uncached_nanousd(self) -> int:
        """The same without the prompt cache."""
        return sum(comparison.uncached_nanousd() for comparison in self._comparisons.values())

    def latency_ms(self, task: str) -> tuple[int, int] | None:
        """Median and 99th percentile from produced to committed, of what this run produced."""
        found = sorted(self._latencies_ms[task])
        return (found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)]) if found else None
