"""Law 6 on a virtual clock: the fleet against the simulator's limiter, which shares no code with `penstock.flow`.

`pytest tests/unit/test_flow_model.py -s` prints the figures, as `python -m benchmarks.flow_model` does.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import pytest
from benchmarks.flow_bursts import burst
from benchmarks.flow_figures import HEAD, Figures, fleet, use
from benchmarks.flow_model import SCENARIOS, SLOW, deaf, ramp_limited, strict_foreigner
from benchmarks.flow_picture import picture
from benchmarks.flow_world import FAMILY, Load, World

from penstock.flow.limits import LimitOptions
from penstock.simulator.limiter import Rates


@pytest.fixture(scope="module", autouse=True)
def table():
    """The head of the table; every scenario prints its row."""
    print(f"\n{HEAD}")


def run(scenario) -> Figures:
    figures = scenario()
    print(figures.row())
    return figures


@pytest.mark.parametrize("scenario", [*SCENARIOS, *SLOW])
def test_the_whole_limit_is_used_and_kept(scenario):
    """Law 6: a backlog uses 95 % of the binding limit, under 0.5 % of calls meet a 429, shares are fair and kept to."""
    figures = run(scenario)
    assert figures.used >= 0.95
    assert figures.refused < 0.005
    assert figures.fairness >= 0.95
    assert figures.above_share_seconds <= 0.0
    if scenario not in SLOW:
        assert figures.settled_seconds <= 60.0


@pytest.mark.parametrize(("count", "times"), [(1, 2.5), (8, 2.0), (32, 1.3)])
def test_a_burst_is_answered_from_what_the_account_has_saved_up(count: int, times: float):
    """An account that rested bears more than its limit for a while: nobody waits for what is there, and no call is turned away."""
    figures = run(lambda: burst(count))
    assert figures.first is not None
    assert figures.first >= times
    assert figures.refused == 0.0


@pytest.mark.parametrize(
    ("account", "workers", "idle"),
    [(10_000, 1, 0), (10_000, 4, 0), (10_000, 4, 2), (4_000, 1, 0), (1_000, 1, 0), (1_000, 4, 0), (600, 4, 0)],
)
def test_a_ceiling_is_kept_whatever_the_account_grants_and_has_saved_up(account: int, workers: int, idle: int):
    """`is_ceiling`: no minute takes more than these numbers and a burst, while others are idle too; a backlog uses its shares whole."""
    ceiling, burst_seconds = 1_000, 5.0
    own = LimitOptions(ceiling, 10**9, 10**9, burst_seconds=burst_seconds, is_ceiling=True)
    world = World(rates=Rates(account, 10**9, 10**9), load=Load(items=1), settings=own)
    fleet(world, workers, busy=workers - idle)
    world.run(220.0)
    moments = sorted(entry[0] for entry in world.account.used)
    in_a_minute = [bisect_left(moments, begin + 60.0) - bisect_left(moments, begin) for begin in range(0, 160, 5)]
    spread = 2 * workers + 40  # calls end in another order than they began
    print(f"ceiling {ceiling}, account {account}, {workers} workers: at most {max(in_a_minute)} calls in a minute")
    assert max(in_a_minute) <= ceiling * (1.0 + burst_seconds / 60.0) + spread
    assert in_a_minute[-1] >= 0.94 * min(ceiling, account) * (workers - idle) / workers
    assert world.account.refused <= 0.005 * len(moments)


def test_a_strict_account_with_a_foreign_user_is_used_and_shared():
    """Even where a bucket empties before anyone can answer, few calls are turned away, and shares stay equal."""
    figures = run(strict_foreigner)
    assert figures.used >= 0.95
    assert figures.refused < 0.03
    assert figures.fairness >= 0.95


def test_growth_is_slowed_down_where_the_account_limits_it():
    """`ramp_limit_exceeded` is met a few times, then use grows as fast as it may, up to the whole limit."""
    figures = run(ramp_limited)
    assert figures.used >= 0.95
    assert figures.refused < 0.01


def test_the_model_condemns_workers_that_know_of_no_others():
    """What rivals do fails here: each keeps the account's limit by itself, and a tenth of the calls is turned away."""
    assert run(deaf).refused > 0.05


def test_an_hours_outage_is_probed_and_left_without_a_burst():
    """Law 5: an outage costs one trial a wait; after it use grows from a small part, and is whole again in a minute."""
    world = World()
    fleet(world, 4)
    world.run(120.0)
    before = world.account.calls
    world.fails = lambda: 120.0 <= world.now < 3720.0
    world.run(3720.0)
    in_flight = 4 * 128
    trials = 4 * 3600 / (0.75 * 30.0) + 4 * 8
    assert world.failed == world.account.calls - before <= in_flight + trials
    world.run(3900.0)
    first = use(world, 3720.0, 3760.0)  # a trial is due within 30 s of the end
    assert sum(first.values()) < 2.0
    starts = [entry[0] for entry in world.account.used if entry[0] > 3720.0]
    most = max(sum(begin <= at < begin + 1.0 for at in starts) for begin in starts[:100])
    assert most <= 4 * 8, "no more in a second than the calls that each may begin with"
    assert sum(use(world, 3800.0, 3900.0).values()) >= 0.95
    assert world.account.refused == 0
    assert all(not worker.gate.breaker(FAMILY).is_holding for worker in world.workers.values())


def test_the_picture_of_a_run_is_an_svg_with_everybody_in_it():
    """The documentation's picture is this run of the model; make it again (`--svg`) when the control loop changes."""
    drawn = picture()
    assert drawn.startswith("<svg")
    assert drawn == (Path(__file__).parents[2] / "docs/explanation/flow-control.svg").read_text(encoding="utf-8")
    assert all(name in drawn for name in ("worker 4", "foreign user", "two of four work"))
