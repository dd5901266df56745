"""What one poll reads: a fair part of every partition that has something, in order, within a bound of bytes.

consumer → [reading] → records
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from penstock.log.sqlite import records
from penstock.log.sqlite.records import Span
from penstock.record import Partition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from penstock.record import Record


class Wanted(NamedTuple):
    """A partition to read from, and where."""

    row: int
    partition: Partition
    position: int


class Found(NamedTuple):
    """What a poll read, where each partition's next read starts, and which had lost their first records."""

    records: list[Record]
    positions: dict[Partition, int]
    lows: dict[Partition, int]
    """Partitions whose first record stands behind the wanted position: retention was faster."""
    groups_version: int


def poll(
    connection: sqlite3.Connection, wanted: Sequence[Wanted], max_records: int, max_bytes: int, turn: int
) -> Found:
    """Read up to `max_records`; `turn` rotates who is served when there is room for a few partitions only."""
    groups_version, text = connection.execute(
        "SELECT (SELECT groups FROM counters), json_group_array(json_array(partition, low, high, largest_bytes))"
        f" FROM partitions WHERE partition IN ({','.join(str(one.row) for one in wanted)})"
    ).fetchone()
    bounds = {row: (low, high, largest) for row, low, high, largest in orjson.loads(text)}
    present = [one for one in wanted if one.row in bounds]
    lows = {one.partition: bounds[one.row][0] for one in present if bounds[one.row][0] > one.position}
    starts = {one: max(one.position, bounds[one.row][0]) for one in present}
    rooms = fair_rooms({one: bounds[one.row][1] - start for one, start in starts.items()}, max_records, turn)
    spans = [
        Span(one.row, one.partition, starts[one], bounds[one.row][1], room)
        for one, room in rooms.items()
        if one.partition not in lows
    ]
    if any(span.limit * bounds[span.row][2] * len(spans) > max_bytes for span in spans):
        spans = [records.trimmed(connection, span, max_bytes // len(spans)) for span in spans]
    found = records.read(connection, spans) if spans else []
    return Found(found, _next_positions(spans, found), lows, groups_version)


def _next_positions(spans: Sequence[Span], found: Sequence[Record]) -> dict[Partition, int]:
    """Behind the last record read; at the end of a partition that has no more, so that compacted gaps are passed."""
    counts = dict.fromkeys((span.partition for span in spans), 0)
    last = {}
    for record in found:
        partition = Partition(record.topic, record.partition)
        counts[partition] += 1
        last[partition] = record.offset + 1
    return {
        span.partition: span.stop if counts[span.partition] < span.limit else last[span.partition] for span in spans
    }


def fair_rooms(available: Mapping[Wanted, int], max_records: int, turn: int) -> dict[Wanted, int]:
    """Divide `max_records` over the partitions: equal parts, and what one cannot use goes to the others.

    >>> a, b = Wanted(1, ("t", 0), 0), Wanted(2, ("t", 1), 0)
    >>> fair_rooms({a: 2, b: 100}, 10, 0) == {a: 2, b: 8}
    True
    """
    filled = [one for one, count in available.items() if count > 0]
    if len(filled) > max_records:
        first = turn % len(filled)
        filled = (filled[first:] + filled[:first])[:max_records]
    filled.sort(key=lambda one: available[one])
    rooms = {}
    left = max_records
    for place, one in enumerate(filled):
        rooms[one] = min(available[one], left // (len(filled) - place))
        left -= rooms[one]
    return rooms
