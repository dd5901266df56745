"""Laws of an event's own urgency: what it says is believed where it means something, counted where not, never fatal."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import make_task
from penstock import Partition, Record
from penstock.engine.reader import Reader
from penstock.engine.urgency import DEADLINE, PRIORITY, Urgency, urgency_of
from penstock.tier import HIGH, LOW, NORMAL

SOON = 1_900_000_000_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), Urgency()),
        (((PRIORITY, b"high"),), Urgency(HIGH)),
        (((PRIORITY, b" LOW "), ("ce_id", b"1")), Urgency(LOW)),
        (((PRIORITY, b"normal"), (DEADLINE, b"%d" % SOON)), Urgency(NORMAL, SOON)),
        (((PRIORITY, b"urgent"),), Urgency(ignored=(PRIORITY,))),
        (((PRIORITY, b"1"), (DEADLINE, b" %d\n" % SOON)), Urgency(NORMAL, SOON, (PRIORITY,))),
        (((PRIORITY, b"high"), (PRIORITY, b"?")), Urgency(ignored=(PRIORITY,))),
        (((PRIORITY, b"?"), (PRIORITY, b"high")), Urgency(HIGH)),
        (((PRIORITY, None),), Urgency(ignored=(PRIORITY,))),
        (((DEADLINE, b"1900000000"),), Urgency(ignored=(DEADLINE,))),  # seconds
        (((DEADLINE, b"1900000000000000000"),), Urgency(ignored=(DEADLINE,))),  # nanoseconds
        (((DEADLINE, b"-100000000000"),), Urgency(ignored=(DEADLINE,))),
        (((DEADLINE, b"2030-01-01T00:00:00Z"),), Urgency(ignored=(DEADLINE,))),
        (((DEADLINE, b"1e12"),), Urgency(ignored=(DEADLINE,))),
        (((DEADLINE, "١٩٠٠٠٠٠٠٠٠٠٠٠".encode()),), Urgency(ignored=(DEADLINE,))),
        (((DEADLINE, b"\xff\xfe"), ("penstock.deadlines", b"x")), Urgency(ignored=(DEADLINE,))),
        (((DEADLINE, b"9" * 1_000_000),), Urgency(ignored=(DEADLINE,))),
    ],
)
def test_headers_are_taken_at_their_word_or_ignored(headers, expected):
    """Three words and Unix milliseconds; all else means nothing. Of a repeated header the last counts."""
    assert urgency_of(headers) == expected


@given(st.lists(st.tuples(st.sampled_from([PRIORITY, DEADLINE, "penstock.", "x"]), st.none() | st.binary())))
def test_no_header_is_fatal(headers):
    """Whatever bytes come: a priority that exists, and no deadline or one with thirteen digits."""
    priority, deadline_ms, ignored = urgency_of(tuple(headers))
    assert priority in (HIGH, NORMAL, LOW)
    assert deadline_ms == 0 or len(str(deadline_ms)) == 13
    assert set(ignored) <= {PRIORITY, DEADLINE}


def test_what_means_nothing_is_counted_and_told_once(caplog):
    """An event with a broken deadline is an item like any other; the log names the first, the count all of them."""
    counted: Counter[str] = Counter()
    reader = Reader(make_task("haiku"), counted)
    for offset in range(3):
        record = Record("notes", 0, offset, None, b'{"text":"a"}', ((DEADLINE, b"tomorrow"), (PRIORITY, b"high")), 0)
        item, ended = reader.read(record, Partition("notes", 0))
        assert (ended, item.priority, item.deadline_ms) == (None, HIGH, 0)
    assert counted == {DEADLINE: 3}
    assert len([r for r in caplog.records if DEADLINE in r.getMessage()]) == 1
