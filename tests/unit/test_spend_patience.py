"""How long a call waits for what other workers hold, and when its ceiling counts as reached."""

from __future__ import annotations

from penstock.flow.base import Wait
from spend_world import UNIX, World, pay, until_it_fits


def test_a_call_that_others_leave_no_room_for_meets_the_ceiling_in_the_end() -> None:
    """What living workers keep in hand does not come back by waiting: the declared behaviour begins in the end."""
    world = World()
    idle, late = world.spend(day_usd=0.001), world.spend(day_usd=0.001, at_ceiling="stop")
    idle.check("t", "m", 10_000)
    world.share()
    pay(idle, 5_000)
    causes = []
    for _ in range(250):
        world.now += 0.5
        world.share()
        wait = late.check("t", "m", 992_000)
        causes.append(None if wait is None else wait.cause)
    assert causes[:230] == ["claim"] * 230
    assert causes[-1] == "spend"
    assert (wait.at_ceiling, late.reached.ends > UNIX) == ("stop", True)
    assert late.check("t", "m", 900_000) == Wait("claim"), "a call that fits is not held up by one that did not"


def test_a_long_call_of_another_worker_is_waited_for() -> None:
    """What it holds at its worst comes back when it ends: until then no ceiling is reached, and nothing discarded."""
    world = World()
    slow, late = world.spend(hour_usd=0.001), world.spend(hour_usd=0.001, at_ceiling="bury")
    until_it_fits(world, slow, 600_000)
    pay(slow, 600_000)
    world.share()
    until_it_fits(world, slow, 300_000)
    hold = slow.reserve("t", "m", 300_000)
    for _ in range(110):
        world.now += 0.5
        world.share()
        assert late.check("t", "m", 200_000) == Wait("claim")
    slow.settle(hold, 300_000, 20_000)
    until_it_fits(world, late, 200_000)


def test_while_others_spend_what_they_hold_is_waited_for() -> None:
    """Their totals move, so what is missing may come back; what is only said again is no move."""
    world = World()
    busy, late = world.spend(day_usd=0.001), world.spend(day_usd=0.001, at_ceiling="stop")
    busy.check("t", "m", 10_000)
    world.share()
    for _ in range(10):
        pay(busy, 10)
        for _ in range(60):
            world.now += 0.5
            world.share()
            assert late.check("t", "m", 992_000) == Wait("claim")
    waits = []
    for _ in range(250):
        world.now += 0.5
        world.share()
        waits.append(late.check("t", "m", 992_000))
    assert waits[-1] is not None
    assert waits[-1].cause == "spend"


def test_while_calls_go_out_a_larger_one_is_not_given_up() -> None:
    """Small batches find room, the full one waits: money moves, so its ceiling is not reached."""
    world = World()
    idle, late = world.spend(day_usd=0.001), world.spend(day_usd=0.001, at_ceiling="bury")
    idle.check("t", "m", 10_000)
    world.share()
    pay(idle, 5_000)
    for _ in range(20):
        until_it_fits(world, late, 10)
        late.settle(late.reserve("t", "m", 10), 10, 0)
        for _ in range(40):
            world.now += 0.5
            world.share()
            assert late.check("t", "m", 992_000) == Wait("claim")


def test_how_long_others_are_waited_for_follows_from_how_long_calls_may_last() -> None:
    """A worker whose calls may last ten minutes waits for longer than that."""
    world = World()
    idle, late = world.spend(day_usd=0.001), world.spend(call_seconds=600.0, day_usd=0.001)
    idle.check("t", "m", 10_000)
    world.share()
    pay(idle, 5_000)
    causes = []
    for _ in range(700):
        world.now += 1.0
        world.share()
        wait = late.check("t", "m", 992_000)
        causes.append(None if wait is None else wait.cause)
    assert causes[:640] == ["claim"] * 640
    assert causes[-1] == "spend"
