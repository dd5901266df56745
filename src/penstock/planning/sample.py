"""Records of a sample as the engine would read them: what a model is asked about, what is asked alone, what never.

backlog, file → [sample] → steps
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.claude.prompt import event_tokens
from penstock.engine.cascade import Erased, Skipped
from penstock.engine.reader import Reader
from penstock.outcome import Failure
from penstock.record import Partition, Record

if TYPE_CHECKING:
    from penstock.task import Task
    from penstock.tier import Item


@dataclass(slots=True)
class Sample:
    """What a look at some records tells of all."""

    records: int = 0
    items: list[Item] = field(default_factory=list)
    """Those that a model would be asked about."""
    unasked: Counter[str] = field(default_factory=Counter)
    """The others by reason: they cost nothing."""
    example: str = ""
    """What is wrong with the first one that does not fit the task."""

    @property
    def asked_share(self) -> float:
        """Part of the records that become items."""
        return len(self.items) / self.records if self.records else 0.0

    @property
    def alone_share(self) -> float:
        """Part of the items that address the model, and are asked alone."""
        return sum(item.suspicious for item in self.items) / len(self.items) if self.items else 0.0

    @property
    def line_tokens(self) -> float:
        """Estimated input tokens of an average item's line."""
        return event_tokens(self.items) / len(self.items) if self.items else 0.0

    @property
    def item_tokens(self) -> float:
        """Estimated input tokens of an average item itself, as batches are measured."""
        return sum(item.tokens for item in self.items) / len(self.items) if self.items else 0.0


def sample_of(task: Task[Any, Any], records: Sequence[Record]) -> Sample:
    """Read them as the engine will."""
    reader, sample = Reader(task), Sample()
    for record in records:
        sample.records += 1
        item, ended = reader.read(record, Partition(record.topic, record.partition))
        match ended:
            case None:
                sample.items.append(item)
            case Failure():
                sample.unasked[ended.reason] += 1
                sample.example = sample.example or ended.detail
            case Skipped():
                sample.unasked["skipped"] += 1
            case Erased():
                sample.unasked["erased"] += 1
    return sample
