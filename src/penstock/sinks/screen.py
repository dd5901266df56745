"""What of a record is offered to a sink, what is passed over, and what becomes a dead letter.

log → [screen] → batch → offering
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from penstock.record import Record
from penstock.sinks.base import Content, Refused, Result
from penstock.sinks.letters import bury_delivery, is_letter
from penstock.sinks.reading import read_delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.sinks.base import Sink
    from penstock.sinks.batch import Batch
    from penstock.sinks.counts import DeliveryCounts
    from penstock.sinks.reading import Feed

logger = logging.getLogger("penstock.deliver")


class Screen:
    """Knows one sink, its tasks, and where their dead letters go."""

    def __init__(
        self, sink: Sink, feeds: Sequence[Feed], group: str, counts: DeliveryCounts, *, simulated: bool
    ) -> None:
        self._name = sink.name
        self._reads_letters = "letters" in sink.reads
        self._group = group
        self._counts = counts
        self._takes_simulated = simulated
        self._letters_of = {feed.task: feed.letters for feed in feeds}
        self._task_of = {feed.results: feed.task for feed in feeds} | {feed.letters: feed.task for feed in feeds}

    def add(self, batch: Batch, record: Record, max_bytes: int) -> None:
        """One more record of a batch."""
        try:
            delivery = read_delivery(record)
        except ValueError as error:
            batch.add(record, None)
            self._bury(batch, record, None, "undecodable", str(error), 0, max_bytes)
            return
        content = delivery.content
        if content.task not in self._letters_of or (delivery.kind == "letter" and not self._reads_letters):
            batch.add(record, None)
        elif isinstance(content, Result) and content.simulated and not self._takes_simulated:
            batch.add(record, None)
            self._count_simulated()
        else:
            batch.add(record, delivery)

    def refuse(self, batch: Batch, refused: Refused, attempts: int, max_bytes: int) -> None:
        """The sink will never take it."""
        delivery = refused.delivery
        self._bury(batch, delivery.record, delivery.content, refused.reason, refused.detail, attempts, max_bytes)

    def _bury(
        self,
        batch: Batch,
        record: Record,
        content: Content | None,
        reason: str,
        detail: str,
        attempts: int,
        max_bytes: int,
    ) -> None:
        self._counts.refused[reason] += 1
        place = f"{record.topic}/{record.partition} offset {record.offset}"
        task = content.task if content is not None else self._task_of[record.topic]
        topic = self._letters_of[task]
        if is_letter(record) or record.topic == topic:
            logger.error("sink %s will never take the dead letter %s (%s): %s", self._name, place, reason, detail)
            batch.bury(record, None)
            return
        logger.error("sink %s will never take %s (%s): %s; it is buried", self._name, place, reason, detail)
        letter = bury_delivery(
            record,
            content,
            group=self._group,
            topic=topic,
            task=task,
            reason=reason,
            detail=detail,
            attempts=attempts,
            max_bytes=max_bytes,
        )
        batch.bury(record, letter)

    def _count_simulated(self) -> None:
        """Nobody judged: it is counted and passed. A letter for each would bury the real ones."""
        if not self._counts.refused["simulated"]:
            logger.error(
                "sink %s refuses results of the offline simulator: nobody judged them. For a demo set "
                "deliver.simulated='deliver'; further ones are only counted",
                self._name,
            )
        self._counts.refused["simulated"] += 1
