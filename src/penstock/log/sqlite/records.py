"""Records in and out of the table, many in one step each way.

log, group → [records] → the file
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import orjson

from penstock.errors import LogDamaged, RecordTooLarge
from penstock.log.sqlite.schema import OFFSET_BITS, OFFSET_MASK
from penstock.record import Headers, NewRecord, Partition, Position, Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from penstock.log.sqlite.catalogue import Catalogue

_ROWS_PER_STATEMENT = (128, 32, 8, 1)  # few shapes, so that their statements stay prepared
_COLUMNS = 5
_SPANS_PER_STATEMENT = 64


class Span(NamedTuple):
    """Records of one partition to be read: from `start` on, below `stop`, at most `limit`."""

    row: int
    partition: Partition
    start: int
    stop: int
    limit: int


def check_sizes(records: Sequence[NewRecord], max_record_bytes: int) -> None:
    """Refuse what can never be written, before anything is."""
    for record in records:
        if record.size > max_record_bytes:
            raise RecordTooLarge(
                f"a record for topic {record.topic!r} has {record.size:,} bytes, the log takes {max_record_bytes:,} "
                "(option max_record_bytes)"
            )


def append(
    connection: sqlite3.Connection, catalogue: Catalogue, records: Sequence[NewRecord], now_ms: int
) -> list[Position]:
    """Write records at the ends of their partitions; runs inside a transaction, after a refresh of the catalogue."""
    placed = [catalogue.place(record) for record in records]
    rows = [topic.rows[number] for topic, number in placed]
    ends = _ends(connection, set(rows))
    starts = dict(ends)
    cells: list[object] = []
    sizes = dict.fromkeys(ends, 0)
    largest = dict.fromkeys(ends, 0)
    positions = []
    for record, row, (_, number) in zip(records, rows, placed, strict=True):
        offset = ends[row]
        ends[row] = offset + 1
        size = record.size
        sizes[row] += size
        largest[row] = max(largest[row], size)
        at_ms = now_ms if record.timestamp_ms is None else record.timestamp_ms
        cells += (row << OFFSET_BITS | offset, at_ms, record.key, record.value, packed(record.headers))
        positions.append(Position(record.topic, number, offset))
    _insert(connection, cells)
    _move_ends(connection, [(row, ends[row], sizes[row], largest[row]) for row in starts])
    catalogue.next_turn({record.topic for record in records if record.key is None})
    return positions


def _ends(connection: sqlite3.Connection, rows: set[int]) -> dict[int, int]:
    (text,) = connection.execute(
        f"SELECT json_group_array(json_array(partition, high)) FROM partitions WHERE partition IN ({','.join(map(str, sorted(rows)))})"
    ).fetchone()
    return dict(orjson.loads(text))


def _move_ends(connection: sqlite3.Connection, moved: list[tuple[int, int, int, int]]) -> None:
    values = ",".join(f"({row},0,0,{high},{size},{largest})" for row, high, size, largest in moved)
    connection.execute(
        f"INSERT INTO partitions (partition, topic, number, high, bytes, largest_bytes) VALUES {values}"
        " ON CONFLICT (partition) DO UPDATE SET high = excluded.high, bytes = bytes + excluded.bytes,"
        " largest_bytes = max(largest_bytes, excluded.largest_bytes)"
    )


@lru_cache
def _insert_sql(rows: int) -> str:
    return f"INSERT INTO records VALUES {','.join(['(?,?,?,?,?)'] * rows)}"


def _insert(connection: sqlite3.Connection, cells: list[object]) -> None:
    at = 0
    for rows in _ROWS_PER_STATEMENT:
        step = rows * _COLUMNS
        while len(cells) - at >= step:
            connection.execute(_insert_sql(rows), cells[at : at + step])
            at += step


_LINE = (
    "group_concat(id || ',' || timestamp_ms || ',' || ifnull(length(key), -1) || ',' || ifnull(length(value), -1)"
    " || ',' || length(headers)), group_concat(hex(key) || hex(value) || hex(headers), '')"
)
_SPAN = "SELECT * FROM (SELECT * FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)"


@lru_cache
def _read_sql(spans: int) -> str:
    return f"SELECT {_LINE} FROM ({' UNION ALL '.join([_SPAN] * spans)})"


def read(connection: sqlite3.Connection, spans: Sequence[Span]) -> list[Record]:
    """The records of the spans, each partition's in order. Hex is SQLite's one way to hand over many blobs in one step."""
    records: list[Record] = []
    for first in range(0, len(spans), _SPANS_PER_STATEMENT):
        part = spans[first : first + _SPANS_PER_STATEMENT]
        cells: list[int] = []
        for row, _, start, stop, limit in part:
            cells += (row << OFFSET_BITS | start, row << OFFSET_BITS | stop, limit)
        numbers, content = connection.execute(_read_sql(len(part)), cells).fetchone()
        if numbers is not None:
            partitions = {span.row: span.partition for span in part}
            _parse(orjson.loads(f"[{numbers}]"), bytes.fromhex(content), partitions, records)
    return records


def _parse(numbers: list[int], content: bytes, partitions: dict[int, Partition], records: list[Record]) -> None:
    at = 0
    cells = iter(numbers)
    for id_, timestamp_ms, key_bytes, value_bytes, header_bytes in zip(cells, cells, cells, cells, cells, strict=True):
        key = value = None
        if key_bytes >= 0:
            key = content[at : at + key_bytes]
            at += key_bytes
        if value_bytes >= 0:
            value = content[at : at + value_bytes]
            at += value_bytes
        headers = unpacked(content[at : at + header_bytes]) if header_bytes else ()
        at += header_bytes
        topic, number = partitions[id_ >> OFFSET_BITS]
        records.append(Record(topic, number, id_ & OFFSET_MASK, key, value, headers, timestamp_ms))


def trimmed(connection: sqlite3.Connection, span: Span, max_bytes: int) -> Span:
    """The span cut where its records pass so many bytes, but never to less than one record."""
    (text,) = connection.execute(
        "SELECT json_group_array(size) FROM (SELECT ifnull(length(key), 0) + ifnull(length(value), 0) + length(headers)"
        " AS size FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
        (span.row << OFFSET_BITS | span.start, span.row << OFFSET_BITS | span.stop, span.limit),
    ).fetchone()
    total = count = 0
    for size in orjson.loads(text):
        total += size
        if total > max_bytes:
            break
        count += 1
    return span._replace(limit=max(1, count))


def packed(headers: Headers) -> bytes:
    """Headers as one blob: the length of a JSON list of names and sizes (null is -1), the list, the values."""
    if not headers:
        return b""
    shape: list[object] = []
    values = []
    for name, value in headers:
        shape.append(name)
        if value is None:
            shape.append(-1)
        else:
            shape.append(len(value))
            values.append(value)
    text = orjson.dumps(shape)
    return b"".join((len(text).to_bytes(4, "little"), text, *values))


def unpacked(content: bytes) -> Headers:
    """The reverse of `packed`."""
    at = 4 + int.from_bytes(content[:4], "little")
    try:
        cells = iter(orjson.loads(content[4:at]))
    except orjson.JSONDecodeError as error:
        raise LogDamaged(f"headers of a record cannot be read ({error}): bring back a copy of the log") from error
    headers: list[tuple[str, bytes | None]] = []
    for name, size in zip(cells, cells, strict=True):
        if size < 0:
            headers.append((name, None))
        else:
            headers.append((name, content[at : at + size]))
            at += size
    return tuple(headers)
