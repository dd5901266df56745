"""Limits, dollars, concurrency and outages together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import SettingsError
from penstock.flow.base import Estimate, Explanation, Usage, Wait
from penstock.flow.breaker import BreakerOptions
from penstock.flow.ceilings import SpendOptions
from penstock.flow.concurrency import ConcurrencyOptions
from penstock.flow.gate import Gate, Permit
from penstock.flow.limits import LimitOptions
from penstock.flow.ramp import RampOptions

WIDE = LimitOptions(requests_per_minute=10**6, input_tokens_per_minute=10**9, output_tokens_per_minute=10**9)
CALL = Estimate("haiku", 100, 20, 1_000)


class VirtualClock:
    """Seconds that pass only when a test says so."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


def admitted(gate: Gate, estimate: Estimate = CALL) -> Permit:
    """A permit, or the test fails."""
    permit = gate.admit(estimate)
    assert isinstance(permit, Permit), permit
    return permit


def refused(gate: Gate, estimate: Estimate = CALL) -> Wait:
    """A wait, or the test fails."""
    wait = gate.admit(estimate)
    assert isinstance(wait, Wait), wait
    return wait


@given(st.lists(st.sampled_from(["begin", "succeeded", "dropped", "blocked", "ignored", "unconfirmed"]), max_size=60))
def test_calls_in_flight_and_dollars_stay_within_bounds(steps: list[str]) -> None:
    """Whatever calls end in, at most max_calls are in flight and no reserve leaks."""
    gate = Gate(
        WIDE, SpendOptions(month_usd=1.0), ConcurrencyOptions(3), breaker=BreakerOptions(1_000), clock=VirtualClock()
    )
    permits: list[Permit] = []
    lost = 0
    for step in steps:
        if step == "begin":
            permit = gate.admit(CALL)
            if isinstance(permit, Permit):
                permits.append(permit)
            elif permit.cause == "concurrency":
                assert len(permits) >= int(gate.concurrency.family("haiku").limit)
        elif permits:
            permit = permits.pop(0)
            lost += step == "unconfirmed"
            match step:
                case "succeeded":
                    permit.succeeded(Usage(90, 10, 500))
                case "dropped":
                    permit.dropped()
                case "blocked":
                    permit.refused(1.0)
                case "ignored":
                    permit.ignored()
                case _:
                    permit.unconfirmed()
        assert gate.concurrency.in_flight == len(permits) <= 3
        assert gate.spend.reserved_nanousd == 1_000 * len(permits)
        assert gate.spend.unconfirmed_nanousd == 1_000 * lost


def test_a_permit_is_closed_once() -> None:
    """Closing twice is a bug that would free someone else's place: it is refused."""
    gate = Gate(WIDE)
    permit = admitted(gate)
    permit.succeeded(Usage(1, 1, 1))
    with pytest.raises(RuntimeError, match="twice"):
        permit.ignored()
    assert gate.concurrency.in_flight == 0


def test_asking_takes_nothing() -> None:
    """`check` may be called before every batch: it debits no bucket and no dollar."""
    gate = Gate(
        LimitOptions(requests_per_minute=12, burst_seconds=5), SpendOptions(month_usd=1.0), clock=VirtualClock()
    )
    for _ in range(100):
        assert gate.check(CALL) is None
    admitted(gate)
    assert refused(gate).cause == "requests"


def test_an_outage_costs_one_trial_per_wait() -> None:
    """After failures in a row one call at a time is let through, ever more rarely, until one succeeds."""
    clock = VirtualClock()
    gate = Gate(WIDE, breaker=BreakerOptions(failures_in_a_row=3), clock=clock)
    for permit in [admitted(gate) for _ in range(3)]:
        permit.unconfirmed(outage=True)
    waits = []
    for _ in range(8):
        wait = refused(gate)
        assert wait.cause == "outage"
        assert wait.until is not None
        waits.append(wait.until - clock.now)
        clock.now = wait.until
        trial = admitted(gate)
        assert refused(gate) == Wait("outage", None)
        trial.dropped()
        assert gate.explain("haiku") == Explanation("outage", 50.0, None)
    assert waits[0] <= 1.0
    assert 20 < waits[-1] <= 30
    clock.now += 40
    admitted(gate).succeeded(Usage(1, 1, 1))
    assert gate.explain("haiku") is None
    admitted(gate)


def test_after_an_outage_calls_begin_slowly() -> None:
    """Many calls were in flight before; after the outage few may be, and their number grows with answers."""
    clock = VirtualClock()
    gate = Gate(WIDE, breaker=BreakerOptions(failures_in_a_row=3), ramp=RampOptions(start_share=1.0), clock=clock)
    for _ in range(100):
        for permit in [admitted(gate) for _ in range(int(gate.concurrency.family("haiku").limit))]:
            permit.succeeded(Usage(1, 1, 1))
        clock.now += 1.0
    assert gate.concurrency.family("haiku").limit == 128
    for permit in [admitted(gate) for _ in range(3)]:
        permit.dropped()
    clock.now += 2.0
    admitted(gate).succeeded(Usage(1, 1, 1))
    assert gate.concurrency.family("haiku").limit <= 9
    clock.now += 60.0
    flying = []
    while isinstance(permit := gate.admit(CALL), Permit):
        flying.append(permit)
    assert len(flying) <= 9
    assert refused(gate).cause == "concurrency"


def test_every_wait_names_cause_since_and_until() -> None:
    """What a person asks of a worker that waits: which limit, since when, for how long; by family and task."""
    clock = VirtualClock()
    gate = Gate(LimitOptions(requests_per_minute=12, burst_seconds=5), ramp=RampOptions(start_share=1.0), clock=clock)
    admitted(gate)
    clock.now = 51.0
    refused(gate)
    clock.now = 52.0
    refused(gate)
    told = gate.explain("haiku")
    assert told is not None
    assert (told.cause, told.since) == ("requests", 51.0)
    assert told.until == pytest.approx(55.0)
    assert gate.explain("haiku", "another task") is None
    assert gate.waits == {("haiku", "requests"): 1}


@pytest.mark.parametrize("code_says", [False, True])
def test_a_429_stops_its_family_and_costs_no_outage(code_says: bool) -> None:
    """Every task waits for `retry-after`; a ramp limit slows growth down, any other one shrinks the share."""
    clock = VirtualClock()
    gate = Gate(WIDE, breaker=BreakerOptions(failures_in_a_row=1), ramp=RampOptions(start_share=1.0), clock=clock)
    admitted(gate).refused(7.0, grows_too_fast=code_says)
    assert refused(gate) == Wait("retry_after", 57.0)
    assert refused(gate, CALL._replace(task="other")) == Wait("retry_after", 57.0)
    assert gate.check(CALL._replace(family="opus")) is None
    granted = next(gate.limits.grants()).granted
    assert granted == pytest.approx(0.5 if code_says else 0.74, abs=0.02)
    assert {(f, k): n for f, k, n in gate.limits.refusals()}["haiku", "ramp"] == int(code_says)


@pytest.mark.parametrize("end", ["refused", "ignored", "succeeded", "dropped", "outage", "unread"])
def test_only_overload_shrinks_concurrency(end: str) -> None:
    """429s, our own cancellations and rejected requests say nothing about load; 529s, 5xx and time-outs do, once together."""
    gate = Gate(
        WIDE, breaker=BreakerOptions(1_000), concurrency=ConcurrencyOptions(100, start_calls=40), clock=VirtualClock()
    )
    for permit in [admitted(gate) for _ in range(20)]:
        match end:
            case "refused":
                permit.refused(1.0)
            case "ignored":
                permit.ignored()
            case "succeeded":
                permit.succeeded(Usage(1, 1, 1))
            case "dropped":
                permit.dropped()
            case "outage":
                permit.ignored(outage=True)
            case _:
                permit.unconfirmed(outage=True)
    limit = gate.concurrency.family("haiku").limit
    assert limit == pytest.approx(28.0) if end in {"dropped", "outage", "unread"} else limit >= 40


def test_single_faults_among_successes_hold_nothing_back() -> None:
    """Only failures in a row are an outage."""
    gate = Gate(WIDE, breaker=BreakerOptions(failures_in_a_row=2))
    for _ in range(20):
        admitted(gate).dropped()
        admitted(gate).succeeded(Usage(1, 1, 1))
    assert gate.check(CALL) is None


def test_an_outage_of_one_family_leaves_the_others_alone() -> None:
    """A model that fails does not hold back another."""
    gate = Gate(WIDE, breaker=BreakerOptions(failures_in_a_row=1))
    admitted(gate).ignored(outage=True)
    assert refused(gate).cause == "outage"
    assert gate.check(CALL._replace(family="opus")) is None


def test_an_account_without_money_is_tried_one_call_at_a_time() -> None:
    """A spend cap of the account pauses every family; then one trial, and all flow again once it succeeds."""
    clock = VirtualClock()
    gate = Gate(WIDE, clock=clock)
    early = admitted(gate)
    gate.pause(300)
    for family in ("haiku", "opus"):
        assert refused(gate, CALL._replace(family=family)) == Wait("spend_cap", 350.0)
    early.succeeded(Usage(1, 1, 1))
    assert refused(gate).cause == "spend_cap"  # a call from before the pause proves nothing
    clock.now = 350.0
    trial = admitted(gate)
    assert refused(gate).cause == "spend_cap"
    trial.succeeded(Usage(1, 1, 1))
    assert gate.check(CALL) is None


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ConcurrencyOptions(0), r"concurrency\.max_calls"),
        (lambda: BreakerOptions(failures_in_a_row=-1), r"breaker\.failures_in_a_row"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(make, name: str) -> None:
    """Zero and less are refused, naming the setting."""
    with pytest.raises(SettingsError, match=name):
        make()
