"""Takes out of flight what a deletion covers, so that no answer comes behind its tombstone.

reader → [erasing] → checkpoint

The law: in the results topic and among the dead letters, no ending of an event stands behind the last tombstone of an erasure
that covers it. So what is covered and in flight here is resolved in the same act as the erasure. What was handed over to the
retry topic before is met there by the erasure's copy: it stands behind it under the same key, and writes tombstones again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.engine.cascade import Ending, Erased, Skipped
from penstock.erasure import Reach
from penstock.tier import ERASED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.engine.cascade import Cascade
    from penstock.engine.checkpoint import Checkpoint
    from penstock.engine.commit import Committer
    from penstock.tier import Item

IN_FLIGHT = Skipped("erased in flight")


def erased_by(endings: Iterable[Ending]) -> Reach:
    """What the deletions among them cover in the partitions that they were read from."""
    reach = Reach()
    for item, outcome in endings:
        if type(outcome) is Erased:
            reach.add(item.partition, item.offset, item.record.key, outcome.subject)
    return reach


def take_out(
    reach: Reach, cascade: Cascade, asked: Iterable[Item], checkpoint: Checkpoint[Ending], committer: Committer
) -> list[Ending]:
    """End what is covered; the endings of what is not being asked are returned.

    What is answered already and waits for its key's turn is not published. What is being asked ends too, but keeps its text until the call is over: its answer is waste. What both have cost before
    is written with their endings.
    """

    def is_covered(item: Item) -> bool:
        return reach.covers(item.partition, item.offset, item.record.key, item.subject)

    def erased(ending: Ending) -> Ending:
        is_gone = type(ending.outcome) is not Erased and is_covered(ending.item)
        return Ending(ending.item, IN_FLIGHT) if is_gone else ending

    checkpoint.change_held(erased)
    waiting = cascade.discard(is_covered)
    asked = [item for item in asked if is_covered(item) and item.epoch == checkpoint.epoch(item.partition)]
    checkpoint.changes += 1
    for item in asked:
        committer.resolve(Ending(item, IN_FLIGHT))
        item.epoch = ERASED
    return [Ending(item, IN_FLIGHT) for item in waiting]
