"""Headers of the account's limits: what cannot be true is not believed, and no clock of ours is needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.claude.errors import retry_after_seconds
from penstock.flow.headers import Seen, read_limits
from penstock.simulator.clock import VirtualClock
from penstock.simulator.limiter import Pool, Rates

DATE = "Mon, 23 Nov 2026 09:20:00 GMT"


def headers(limit="1000", remaining="900", reset="2026-11-23T09:20:06Z", date: str | None = DATE) -> dict[str, str]:
    found = {
        "anthropic-ratelimit-requests-limit": limit,
        "anthropic-ratelimit-requests-remaining": remaining,
        "anthropic-ratelimit-requests-reset": reset,
    }
    return found | ({"date": date} if date else {})


def test_what_the_simulator_sends_is_read():
    """All three limits, with the time until full by the API's own clock."""
    clock = VirtualClock(1_795_000_000.0)
    pool = Pool("haiku", Rates(60, 600_000, 60_000), 60.0, None, clock)
    pool.admit(100_000)
    lines = dict(line.split(": ", 1) for line in pool.headers().decode().split("\r\n") if line)
    seen = read_limits(lines | {"date": "Wed, 18 Nov 2026 11:06:40 GMT"})
    assert seen["requests"] == Seen(60, 59, 1.0)
    assert seen["input_tokens"] == Seen(600_000, 500_000, 10.0)
    assert seen["output_tokens"] == Seen(60_000, 60_000, 0.0)


@pytest.mark.parametrize("minutes", [-7, 0, 45])
def test_a_clock_that_is_minutes_off_changes_nothing(minutes: int):
    """The API's moments are compared with the API's own date."""
    date = f"Mon, 23 Nov 2026 {9 + (20 + minutes) // 60:02}:{(20 + minutes) % 60:02}:00 GMT"
    reset = f"2026-11-23T{9 + (20 + minutes) // 60:02}:{(20 + minutes) % 60:02}:30+00:00"
    assert read_limits(headers(reset=reset, date=date))["requests"] == Seen(1000, 900, 30.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (headers(reset="2026-11-23T09:19:58Z"), Seen(1000, 900, 0.0)),
        (headers(reset="2019-01-01T00:00:00Z"), Seen(1000, 900, None)),
        (headers(reset="2026-11-23T11:00:00Z"), Seen(1000, 900, None)),
        (headers(reset="soon"), Seen(1000, 900, None)),
        (headers(reset="2026-11-23T09:20:06"), Seen(1000, 900, None)),
        (headers(date=None), Seen(1000, 900, None)),
        (headers(date="yesterday"), Seen(1000, 900, None)),
        (headers(remaining="many"), Seen(1000, None, 6.0)),
        (headers(remaining="-5"), Seen(1000, None, 6.0)),
        (headers(remaining="1001"), None),
        (headers(limit="0"), None),
        (headers(limit="1000, 1000"), None),
        (headers(limit="1e3"), None),
        (headers(limit="9" * 40), None),
        ({}, None),
    ],
)
def test_what_cannot_be_true_is_not_believed(given: dict[str, str], expected: Seen | None):
    """Missing, malformed, past and proxy-made values are left out, one by one; nothing raises."""
    assert read_limits(given).get("requests") == expected


@given(st.dictionaries(st.sampled_from(sorted(headers())), st.text(max_size=40)))
def test_nothing_in_a_header_raises(found: dict[str, str]):
    """Whatever stands there, a limit that is read is a possible one."""
    for seen in read_limits(found).values():
        assert seen.limit > 0
        assert seen.remaining is None or 0 <= seen.remaining <= seen.limit


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3600"}, 900.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:20:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:19:30 GMT", "date": DATE}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(said: dict[str, str], seconds: float | None):
    """Seconds, parts of them, an hour (cut, and asked again then), a date by the API's clock, and nonsense."""
    assert retry_after_seconds(said) == seconds
