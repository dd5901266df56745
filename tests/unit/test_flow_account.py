"""The account as replies show it: limits that change, buckets of any size, news that grow old."""

from __future__ import annotations

import pytest

from penstock.flow.account import Tank
from penstock.flow.headers import Seen


def test_another_limit_is_believed_when_two_replies_name_it():
    """One strange reply changes nothing; a limit lowered or raised in mid-run is followed."""
    tank = Tank(1_000)
    tank.hear(Seen(1_000_000, 5), 1.0)
    assert tank.limit == 1_000
    tank.hear(Seen(1_000, 500), 2.0)
    tank.hear(Seen(500, 400), 3.0)
    tank.hear(Seen(500, 400), 4.0)
    assert tank.limit == 500
    assert tank.level(4.0) == pytest.approx(0.8)
    tank.hear(Seen(5_000, 5_000), 5.0)
    tank.hear(Seen(5_000, 5_000), 6.0)
    assert tank.limit == 5_000


def test_a_ceiling_is_never_raised_by_what_replies_say():
    """`is_ceiling`: an account that grants more changes nothing, one that grants less does."""
    tank = Tank(1_000, is_ceiling=True)
    for moment in range(4):
        tank.hear(Seen(5_000, 5_000), float(moment))
    assert tank.limit == 1_000
    for moment in range(4, 8):
        tank.hear(Seen(200, 200), float(moment))
    assert tank.limit == 200


@pytest.mark.parametrize("holds", [1, 5, 20, 60])
def test_the_size_of_the_bucket_is_learned(holds: int):
    """Limits may be enforced per minute or per second: full is full, and half is half."""
    tank, limit = Tank(6_000), 6_000
    for moment in range(20):
        left = 100 * holds * (1 + moment % 2) // 2
        tank.hear(Seen(limit, left, (100 * holds - left) / 100), float(moment))
    assert tank.holds_seconds == pytest.approx(holds, rel=0.05)
    assert 0.5 <= (tank.level(20.0) or 0.0) <= 1.0


def test_old_news_is_no_news():
    """A level is known for some seconds after the last reply; then nothing is."""
    tank = Tank(1_000)
    tank.hear(Seen(1_000, 250), 10.0)
    assert tank.level(12.0) == pytest.approx(0.25)
    assert tank.level(30.0) is None
