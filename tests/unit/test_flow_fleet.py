"""Shares of one account: base shares, what is borrowed, what is given back."""

from __future__ import annotations

import math

import pytest

from penstock.errors import SettingsError
from penstock.flow.account import Tank
from penstock.flow.fleet import FleetOptions, Need, Shares, Stretch
from penstock.flow.headers import Seen
from penstock.flow.ramp import Ramp, RampOptions


def moved(stretch: Stretch, level: float | None, seconds: int, *, begin: float = 0.0, need: Need = "binding") -> float:
    """The share of a worker with a base of a tenth, after the account's bucket stood at a level for so long."""
    tank, share = Tank(6_000), 0.0
    for second in range(seconds):
        now = begin + second
        if level is not None:
            tank.hear(Seen(6_000, int(6_000 * level), 60.0 * (1 - level)), now)
        share = stretch.move(tank, 0.1, now, need=need, news_seconds=2.0)
    return share


def test_a_full_bucket_lends_up_to_the_whole_account():
    """Where others leave everything, a worker that needs it takes the whole limit within a minute, and hardly more."""
    assert 1.0 <= moved(Stretch(FleetOptions(), 0.0), 1.0, 60) <= 1.06


def test_what_needs_nothing_borrows_nothing():
    """Without a wait for the limit the share stays at its base, or comes back to it."""
    stretch = Stretch(FleetOptions(), 0.0)
    assert moved(stretch, 1.0, 60, need="none") == pytest.approx(0.1)
    moved(stretch, 1.0, 60, begin=60.0)
    assert moved(stretch, 1.0, 60, begin=120.0, need="none") == pytest.approx(0.1, rel=0.05)


def test_an_empty_bucket_takes_back_more_than_what_was_lent():
    """Others take more than their shares: within seconds the worker is below its base, but never at nothing."""
    stretch = Stretch(FleetOptions(), 0.0)
    moved(stretch, 1.0, 60)
    assert 0.005 <= moved(stretch, 0.0, 20, begin=60.0) < 0.05


def test_shares_do_not_depend_on_who_came_first():
    """Two workers that see the same level come to the same share, whatever they had before."""
    rich, poor = Stretch(FleetOptions(), 0.0), Stretch(FleetOptions(), 0.0)
    moved(rich, 1.0, 60)
    moved(poor, 0.0, 60)
    assert moved(rich, 0.5, 60, begin=60.0) == pytest.approx(moved(poor, 0.5, 60, begin=60.0), rel=0.02)


def test_without_news_everybody_has_the_base_share():
    """No headers, or a proxy that takes them away: neither more nor less than the base."""
    assert moved(Stretch(FleetOptions(), 0.0), None, 60) == pytest.approx(0.1)


def test_a_429_shrinks_the_share_at_once_and_those_of_one_moment_count_once():
    """Multiplicative decrease; a burst of refusals is one event."""
    stretch = Stretch(FleetOptions(), 0.0)
    for _ in range(20):
        stretch.refused(10.0, 2.0)
    assert stretch.value == pytest.approx(-0.3)
    stretch.refused(13.0, 2.0)
    assert stretch.value == pytest.approx(-0.6)


def test_base_shares_of_all_workers_and_tasks_add_up_to_the_account():
    """Partitions times weights, over all workers: one."""
    weights = {"moderator": 4.0, "analyzer": 1.0}
    total = 0.0
    for assigned in (1, 3, 8):
        shares = Shares(weights)
        for task in weights:
            shares.note(task, assigned, 12)
        total += sum(shares.base(task) for task in weights)
        assert shares.base("moderator") == pytest.approx(4 * shares.base("analyzer"))
    assert total == pytest.approx(1.0)


def test_a_worker_without_partitions_keeps_what_it_needs_to_finish():
    """Nothing assigned, or nonsense: never a share of zero, never more than all."""
    shares = Shares()
    shares.note("task", 0, 12)
    assert 0 < shares.base("task") <= 0.01
    shares.note("task", 20, 12)
    assert shares.base("task") == 1.0


def test_a_ramp_doubles_up_to_one_and_grows_slower_when_told():
    """Slow start: an eighth, doubling; `ramp_limit_exceeded` halves it and its speed."""
    now = [0.0]
    ramp = Ramp(RampOptions(), lambda: now[0])
    assert ramp.now() == 0.125
    now[0] = 4.0
    assert ramp.now() == pytest.approx(0.25)
    ramp.slow_down()
    assert ramp.now() == pytest.approx(0.125)
    now[0] = 12.0
    assert ramp.now() == pytest.approx(0.25)
    now[0] = 10_000.0
    assert ramp.now() == 1.0
    ramp.begin()
    assert ramp.now() == 0.125


def test_a_larger_share_is_grown_into():
    """After a rebalance the rate goes on from what it was; a smaller share holds at once."""
    now = [0.0]
    ramp = Ramp(RampOptions(), lambda: now[0])
    now[0] = 100.0
    ramp.widen(4.0)
    assert ramp.now() == 0.25
    ramp.widen(0.5)
    assert ramp.now() == 0.25
    assert math.isclose(Ramp(RampOptions(start_share=5.0), lambda: 0.0).now(), 1.0)


def test_base_shares_leave_room_for_tasks_of_other_deployments():
    """Two deployments that know of each other's weights divide the account as one with both tasks would."""
    together = Shares({"moderator": 4.0, "analyzer": 1.0})
    moderator = Shares({"moderator": 4.0}, 1.0)
    analyzer = Shares({"analyzer": 1.0}, 4.0)
    assert moderator.base("moderator") == together.base("moderator") == 0.8
    assert analyzer.base("analyzer") == together.base("analyzer") == 0.2


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FleetOptions(rise_per_second=0), r"fleet\.rise_per_second"),
        (lambda: FleetOptions(weight_of_others=-1), r"fleet\.weight_of_others"),
        (lambda: FleetOptions(weight_of_others=math.nan), r"fleet\.weight_of_others"),
        (lambda: RampOptions(start_share=-1), r"ramp\.start_share"),
        (lambda: RampOptions(doubling_seconds=float("nan")), r"ramp\.doubling_seconds"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(make, name: str):
    """Absurd numbers are refused, naming the setting."""
    with pytest.raises(SettingsError, match=name):
        make()
