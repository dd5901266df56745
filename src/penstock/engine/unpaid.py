"""What may be dropped when its partition goes to another worker: it cost nothing yet.

pipeline → [unpaid] → cascade, checkpoint
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.engine.cascade import Cascade, Ending
    from penstock.engine.checkpoint import Checkpoint
    from penstock.record import Partition
    from penstock.tier import Item


def take_unpaid(leaving: set[Partition], cascade: Cascade, checkpoint: Checkpoint[Ending]) -> list[Item]:
    """Take the waiting items of these partitions that were never asked out of cascade and checkpoint, and return them."""
    unpaid: dict[Partition, set[int]] = {}
    for item in cascade.waiting():
        if item.partition in leaving and not item.charges and not item.attempts:
            unpaid.setdefault(item.partition, set()).add(item.offset)
    gone = {
        (partition, offset) for partition, offsets in unpaid.items() for offset in checkpoint.drop(partition, offsets)
    }
    return cascade.discard(lambda item: (item.partition, item.offset) in gone)
