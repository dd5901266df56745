"""The dollar ceiling holds whatever the calls cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import SettingsError
from penstock.flow.spend import Spend, SpendOptions

CEILING = 1_000_000

actions = st.lists(
    st.tuples(
        st.integers(1, 300_000),
        st.floats(0, 1),
        st.sampled_from(["settle", "release", "lose", "keep"]),
    ),
    max_size=80,
)


@given(actions)
def test_the_ceiling_is_never_exceeded(actions: list[tuple[int, float, str]]) -> None:
    """What is spent, lost and in flight at its worst stays below the ceiling, for any costs and any ends of calls."""
    spend = Spend(SpendOptions(ceiling_usd=0.001))
    billed = 0
    in_flight: list[tuple[int, int]] = []
    for worst, part, end in actions:
        if spend.check(worst) is None:
            spend.reserve(worst)
            in_flight.append((worst, int(worst * part)))
        if end != "keep" and in_flight:
            reserved, cost = in_flight.pop(0)
            if end == "lose":
                spend.leave_unconfirmed(reserved)
                billed += cost
            else:
                spend.settle(reserved, cost if end == "settle" else 0)
                billed += cost if end == "settle" else 0
        assert billed + sum(cost for _, cost in in_flight) <= CEILING
        assert spend.reserved_nanousd == sum(worst for worst, _ in in_flight)


def test_room_comes_back_when_calls_cost_less_than_their_worst() -> None:
    """A call that waits for the ceiling goes once those in flight are settled."""
    spend = Spend(SpendOptions(ceiling_usd=0.001))
    spend.reserve(900_000)
    wait = spend.check(200_000)
    assert wait is not None
    assert wait.cause == "spend"
    spend.settle(900_000, 1_000)
    assert spend.check(200_000) is None


def test_without_a_ceiling_nothing_waits() -> None:
    """No ceiling: the account's own limits decide, but the sum is kept."""
    spend = Spend(SpendOptions())
    spend.reserve(10**15)
    spend.settle(10**15, 10**14)
    assert spend.check(10**18) is None
    assert spend.spent_nanousd == 10**14


@pytest.mark.parametrize("value", [0, -0.5, float("nan")])
def test_a_ceiling_of_nothing_is_refused_by_name(value: float) -> None:
    """A ceiling that would hold every event for ever is refused, naming the setting."""
    with pytest.raises(SettingsError, match=r"spend\.ceiling_usd"):
        SpendOptions(ceiling_usd=value)
