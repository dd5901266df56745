"""The demo's burst: when its events come, which limit is said to bind, and what is told of it at the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.demo.burst import FIRST_MS, LAST_MS, Burst, account_of, burst_of, rates_of
from penstock.demo.offline import LIKE_THE_API
from penstock.demo.pressure import Pressure
from penstock.simulator.limiter import CLASSES, Rates
from review_moderation.samples import DAY_MS, day

RATES = Rates(600, 60_000, 6_000)
BURST = Burst(60.0, events=1_000, times=10.0)


def call(at, *, status=200, output=0, fresh=0, model="claude-haiku-5-5"):
    return {
        "ended_ms": at * 1000, "status": status, "model": model,
        "input_tokens": fresh, "cache_write_tokens": 0, "output_tokens": output,
    }  # fmt: skip


@given(st.lists(st.integers(0, DAY_MS), min_size=2, max_size=50), st.floats(0.5, 1_000.0))
def test_the_pressed_day_keeps_its_order_and_its_length(moments, seconds):
    """Whoever comes later in the day is never sent earlier, and nothing is sent outside of the stream's time."""
    due = [Burst(seconds).due_seconds(at_ms) for at_ms in sorted(moments)]
    assert due == sorted(due)
    assert 0.0 <= due[0] <= due[-1] <= seconds * 1.000001


@given(st.integers(0, DAY_MS), st.floats(0.5, 1_000.0))
def test_the_clock_shows_the_time_of_day_of_what_is_sent(at_ms, seconds):
    """The board's clock is the inverse of the schedule."""
    burst = Burst(seconds)
    assert burst.day_ms(burst.due_seconds(at_ms)) == pytest.approx(at_ms, abs=60_000)


def test_the_burst_is_about_tenfold():
    """Events a second in the burst, against those at other hours of the same stream, counted in the schedule."""
    planted = list(day(1, 3_000))
    burst = burst_of(planted, 60.0)
    due = [burst.due_seconds(event.at_ms) for event in planted]
    end = burst.first_seconds + burst.seconds
    inside = sum(burst.first_seconds <= at < end for at in due)
    times = inside / burst.seconds / ((len(due) - inside) / (60.0 - burst.seconds))
    assert inside == burst.events == sum(FIRST_MS <= event.at_ms < LAST_MS for event in planted)
    assert times == pytest.approx(burst.times)
    assert 8 < times < 12


def test_the_account_is_of_the_start_class_and_larger_for_a_denser_day():
    """A usual day has the real limits of a small account; a day without a length is not limited."""
    assert rates_of(account_of(3_000, 60.0, LIKE_THE_API)) == CLASSES["start"][0]
    assert rates_of(account_of(300, 15.0, LIKE_THE_API)) == CLASSES["start"][0]
    assert rates_of(account_of(6_000, 60.0, LIKE_THE_API)).output_tokens == 2 * CLASSES["start"][0].output_tokens
    assert account_of(3_000, 0.0, LIKE_THE_API) == LIKE_THE_API


def test_the_limit_that_is_used_most_is_named_and_binds_only_while_events_wait():
    """Of a minute's 6,000 output tokens 291 in three seconds are 97 %; whether that binds is a matter of the backlog."""
    pressure = Pressure(RATES, None)
    pressure.look(100.0, 0.0, 5)
    assert pressure.line == ""
    pressure.see([call(100.5, output=91, fresh=300), call(101.0, output=200), call(101.0, status=429)])
    pressure.look(102.0, 0.0, 500)
    assert pressure.line == "output tokens of haiku bind: 97% used, 1 answered 429"
    pressure.look(102.0, 0.0, 5)
    assert pressure.line == "output tokens of haiku: 97% used, 1 answered 429"
    pressure.look(103.7, 0.0, 500)
    assert pressure.line == "output tokens of haiku: 67% used, 1 answered 429"


def test_calls_that_were_turned_away_use_nothing():
    """A 429 takes no tokens of the account."""
    pressure = Pressure(RATES, None)
    pressure.see([call(100.0, status=429, fresh=5_000, output=5_000)])
    pressure.look(100.5, 0.0, 500)
    assert pressure.line == ""


def test_a_burst_is_followed_until_it_is_drained():
    """From its begin on: the most that waited, how long it took, and how much of the limit was used meanwhile."""
    pressure, begin = Pressure(RATES, BURST), BURST.first_seconds
    pressure.see([call(99.0, output=5_000)])
    pressure.look(100.0, begin - 1.0, 10)
    assert pressure.absorbed is None
    for second, waiting in enumerate((300, 900, 600, 300, 20)):
        pressure.look(101.0 + second, begin + second, waiting)
        pressure.see([call(101.0 + second, output=98, status=200), call(101.0 + second, status=429)])
    pressure.look(106.0, begin + 5.0, 5)
    found = pressure.absorbed
    assert (found.events, found.most_waiting, found.drained_seconds) == (1_000, 900, 4.0)
    assert (found.use.family, found.use.kind, found.use.share) == ("haiku", "output tokens", pytest.approx(0.98))
    assert (found.calls, found.turned_away) == (8, 4)


def test_a_burst_that_is_still_sent_is_not_over():
    """A moment without a backlog in its middle does not end it."""
    pressure, begin = Pressure(RATES, BURST), BURST.first_seconds
    pressure.look(100.0, begin, 300)
    pressure.look(101.0, begin + 1.0, 0)
    assert pressure.absorbed.drained_seconds is None
    pressure.look(103.5, begin + BURST.seconds, 0)
    assert pressure.absorbed.drained_seconds == 3.5
