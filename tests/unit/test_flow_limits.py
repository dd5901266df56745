"""Token buckets on a virtual clock: never over a limit, and every wait ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SettingsError
from penstock.flow.base import Estimate, Usage, Wait
from penstock.flow.bucket import Bucket
from penstock.flow.headers import Seen
from penstock.flow.limits import LimitOptions, Limits
from penstock.flow.ramp import RampOptions

OPTIONS = LimitOptions(
    requests_per_minute=60, input_tokens_per_minute=6_000, output_tokens_per_minute=1_200, burst_seconds=5
)


AT_ONCE = RampOptions(start_share=1.0)
"""No slow start: the whole share from the first call on."""


class VirtualClock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def estimate(input_tokens: int = 100, output_tokens: int = 20, family: str = "haiku") -> Estimate:
    """What a call is thought to take."""
    return Estimate(family, input_tokens, output_tokens, 0)


calls = st.lists(
    st.tuples(st.floats(0, 20), st.integers(1, 3_000), st.integers(1, 500)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=100)
@given(calls)
def test_no_window_takes_more_than_the_limit_allows(calls: list[tuple[float, int, int]]) -> None:
    """In any window the calls let through take at most burst + rate x window (+ one call larger than the burst)."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    through: list[tuple[float, int, int, int]] = []
    for pause, input_tokens, output_tokens in calls:
        clock.now += pause
        call = estimate(input_tokens, output_tokens)
        for _ in range(20):
            wait = limits.check(call)
            if wait is None:
                break
            assert wait.until is not None
            assert wait.until > clock.now
            clock.now = wait.until
        else:
            pytest.fail("a wait did not end")
        limits.take(call)
        through.append((clock.now, 1, input_tokens, output_tokens))
    for column, per_minute in ((1, 60), (2, 6_000), (3, 1_200)):
        rate = per_minute / 60
        for first in range(len(through)):
            taken = 0
            for call_ in through[first:]:
                oversized = max(0.0, max(c[column] for c in through[first:]) - rate * 5)
                taken += call_[column]
                allowed = rate * 5 + rate * (call_[0] - through[first][0]) + oversized
                assert taken <= allowed + 1e-3


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_an_estimate_gives_way_to_what_was_used(guessed: int, used: int) -> None:
    """After a correction the bucket stands as if the true amount had been taken at once."""
    clock = VirtualClock()
    corrected, exact = Limits(OPTIONS, clock, ramp=AT_ONCE), Limits(OPTIONS, clock, ramp=AT_ONCE)
    corrected.take(estimate(guessed))
    corrected.correct(estimate(guessed), Usage(used, 20, 0))
    exact.take(estimate(used))
    next_call = estimate(500)
    assert corrected.check(next_call) == exact.check(next_call)


def test_the_named_bucket_is_the_one_that_binds() -> None:
    """The cause of a wait is the bucket that fills last."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    limits.take(estimate(input_tokens=1, output_tokens=1_000))
    wait = limits.check(estimate(1, 20))
    assert wait is not None
    assert wait.cause == "output_tokens"
    assert wait.until == pytest.approx(100 + (20 - (100 - 1_000)) / 20)


def test_retry_after_blocks_its_family_only() -> None:
    """A family told to come back later waits that long; other families go on."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    limits.block("haiku", 7.5)
    wait = limits.check(estimate())
    assert wait == Wait("retry_after", 107.5)
    assert limits.check(estimate(family="opus")) is None
    clock.now = 107.5
    assert limits.check(estimate()) is None


def test_after_a_pause_nobody_comes_back_with_a_burst() -> None:
    """While a family is blocked its buckets do not fill: the first call waits for its turn, and so does every next one."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    limits.check(estimate())
    limits.block("haiku", 60.0)
    clock.now = 160.0
    wait = limits.check(estimate())
    assert wait is not None
    assert wait.cause in {"requests", "output_tokens", "input_tokens"}
    assert wait.until == pytest.approx(161.0)


@pytest.mark.parametrize("seconds", [3_600.0, 10.0**9, -5.0])
def test_a_pause_of_any_length_ends(seconds: float) -> None:
    """An hour is waited out, nonsense is not waited for longer than an hour."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    limits.block("haiku", seconds)
    clock.now += 3_605.0
    assert limits.check(estimate()) is None


def test_a_start_is_slow() -> None:
    """The first seconds take an eighth of the share; half a minute later all of it."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock)
    limits.take(estimate())
    assert [round(g.granted, 3) for g in limits.grants()] == [0.125] * 3
    clock.now += 30.0
    assert [round(g.granted, 3) for g in limits.grants()] == [1.0] * 3


def test_limits_are_learned_from_replies() -> None:
    """What replies name takes the place of the settings, for each family alone."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    for _ in range(2):
        limits.take(estimate())
        limits.hear("haiku", {"requests": Seen(600, 600, 0.0)})
        clock.now += 1.0
    grants = {grant.kind: grant for grant in limits.grants()}
    assert grants["requests"].limit == 600
    assert grants["requests"].level == 1.0
    assert grants["output_tokens"].limit == 1_200


def test_tasks_have_buckets_of_their_own() -> None:
    """What one task used up, another one's share still has."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, ramp=AT_ONCE)
    limits.take(estimate(output_tokens=5_000)._replace(task="greedy"))
    assert limits.check(estimate()._replace(task="greedy")) is not None
    assert limits.check(estimate()._replace(task="modest")) is None


def test_a_rebalance_changes_shares_at_once_or_step_by_step() -> None:
    """Fewer partitions: less from this moment on. More: the rate goes on from what it was."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock)
    limits.take(estimate()._replace(task="task"))
    clock.now += 60.0
    limits.note_share("task", 3, 12)
    assert [round(g.granted, 3) for g in limits.grants()] == [0.25] * 3
    limits.note_share("task", 12, 12)
    assert [round(g.granted, 3) for g in limits.grants()] == [0.25] * 3
    clock.now += 60.0
    assert [round(g.granted, 3) for g in limits.grants()] == [1.0] * 3


def test_families_may_have_their_own_limits() -> None:
    """Limits given for a family take the place of the common ones."""
    clock = VirtualClock()
    limits = Limits(OPTIONS, clock, {"opus": LimitOptions(requests_per_minute=6, burst_seconds=10)}, ramp=AT_ONCE)
    limits.take(estimate(family="opus"))
    limits.take(estimate())
    assert limits.check(estimate(family="opus")) == Wait("requests", 110.0)
    assert limits.check(estimate()) is None


def test_a_clock_that_stands_or_goes_back_refills_nothing() -> None:
    """A bucket refills with time only, and never above its capacity."""
    bucket = Bucket(60, 5, 100.0)
    bucket.take(5)
    bucket.refill(90.0)
    assert bucket.level == 0
    bucket.refill(1_000.0)
    assert bucket.level == bucket.capacity == 5


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_ceiling_is_true_or_false(value: object) -> None:
    """A number or a word is refused, naming the setting."""
    with pytest.raises(SettingsError, match=r"limits\.is_ceiling"):
        LimitOptions(is_ceiling=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option", ["requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "burst_seconds"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "many"])
def test_limits_that_cannot_be_are_refused_by_name(option: str, value: object) -> None:
    """A limit of zero, below it or of no number is refused, naming the setting."""
    with pytest.raises(SettingsError, match=rf"limits\.{option}"):
        LimitOptions(**{option: value})
