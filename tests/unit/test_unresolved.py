"""How much a group has before it: offsets that are resolved, gone or only markers are none of it."""

from __future__ import annotations

import pytest

from fakes import note
from penstock import Partition
from penstock.log.base import Bounds, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog
from penstock.log.unresolved import unresolved

P = Partition("notes", 0)


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    await log.create_topics([TopicSpec("notes", 1)])
    await log.append([note(n) for n in range(6)])
    yield log
    await log.close()


@pytest.mark.parametrize(
    ("done", "kept", "count", "first"),
    [
        (OffsetMap(0), Bounds(0, 6), 6, 0),
        (OffsetMap(2, 0b0110), Bounds(0, 6), 2, 2),
        (OffsetMap(6), Bounds(0, 6), 0, None),
        (OffsetMap(6), Bounds(0, 8), 0, None),  # two markers behind the last record
        (OffsetMap(5), Bounds(0, 8), 3, 5),
        (OffsetMap(1, 0b1000), Bounds(3, 6), 2, 3),  # retention took what was before
    ],
)
async def test_only_what_can_be_read_waits(log, done, kept, count, first):
    """Markers at the end are nothing; those between records are counted, as nobody can tell them from outside."""
    found, record = await unresolved(log, P, done, kept)
    assert (found, record and record.offset) == (count, first)
