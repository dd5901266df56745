"""What a group still has before it in a partition: offsets as a watermark and its map leave them, and the first record there.

committed, bounds → [unresolved] → status, run --until-idle
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.log.base import Bounds, EventLog
    from penstock.log.offset_map import OffsetMap
    from penstock.record import Partition, Record


async def unresolved(log: EventLog, partition: Partition, done: OffsetMap, kept: Bounds) -> tuple[int, Record | None]:
    """How many offsets are not resolved, and the oldest record of them; none where only markers of transactions are left.

    Markers that stand between records are counted: from outside nobody can tell them from records without reading all.
    """
    begin = max(kept.low, done.base)
    count = kept.high - begin - done.from_offset(begin).count_above()
    if count <= 0:
        return 0, None
    first = await log.read(partition, begin, 1)
    return (count, first[0]) if first else (0, None)
