"""The spend guard of one worker: its ceilings, what it claims, what it says, and settings that can't be."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import LogDamaged, SettingsError
from penstock.flow.base import Wait
from penstock.flow.ceilings import Ceilings, SpendOptions, end_of, periods_at
from penstock.flow.claims import Claims, Entry, Key, Totals, entry_record, read_entry
from penstock.flow.spend import Spend
from penstock.log.state import read_state, state_record
from penstock.record import Record
from spend_world import UNIX, World, pay

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
    spend = Spend(SpendOptions(day_usd=0.001))
    billed = 0
    in_flight = []
    for worst, part, end in actions:
        if spend.check("t", "m", worst) is None:
            in_flight.append((spend.reserve("t", "m", worst), worst, int(worst * part)))
        if end != "keep" and in_flight:
            hold, reserved, cost = in_flight.pop(0)
            if end == "lose":
                spend.leave_unconfirmed(hold, reserved)
                billed += cost
            else:
                spend.settle(hold, reserved, cost if end == "settle" else 0)
                billed += cost if end == "settle" else 0
        assert billed + sum(cost for _, _, cost in in_flight) <= CEILING
        assert spend.reserved_nanousd == sum(worst for _, worst, _ in in_flight)


def test_room_comes_back_when_calls_cost_less_than_their_worst() -> None:
    """A call that waits only because of the worst of others goes once those are settled: that is no ceiling reached."""
    spend = Spend(SpendOptions(day_usd=0.001))
    hold = spend.reserve("t", "m", 900_000)
    assert spend.check("t", "m", 200_000) == Wait("claim")
    spend.settle(hold, 900_000, 1_000)
    assert spend.check("t", "m", 200_000) is None


def test_at_the_ceiling_the_wait_is_until_the_period_ends() -> None:
    """The longest of the periods whose ceilings are met says until when, and the text names the setting."""
    spend = Spend(SpendOptions(hour_usd=0.001, day_usd=0.001), lambda: 50.0, lambda: UNIX)
    pay(spend, 900_000)
    assert spend.check("t", "m", 200_000) == Wait("spend", 50.0 + (end_of("2026-09-21") - UNIX), "wait")
    assert "spend.day_usd=0.001" in str(spend.reached)
    assert "2026-09-22 00:00 UTC" in str(spend.reached)


def test_a_new_period_begins_at_nothing() -> None:
    """When the hour turns, what was spent in the last one counts no more; the day's ceiling still holds."""
    now = [UNIX]
    spend = Spend(SpendOptions(hour_usd=0.001, day_usd=0.0015), lambda: now[0], lambda: now[0])
    pay(spend, 1_000_000)
    assert spend.check("t", "m", 400_000) is not None
    now[0] += 3_600
    assert spend.check("t", "m", 400_000) is None
    pay(spend, 400_000)
    assert spend.check("t", "m", 400_000) == Wait("spend", end_of("2026-09-21"), "wait")


def test_a_call_counts_in_the_period_in_which_it_began() -> None:
    """A call that outlives its hour takes nothing of the next one."""
    now = [UNIX]
    spend = Spend(SpendOptions(hour_usd=0.001), lambda: now[0], lambda: now[0])
    hold = spend.reserve("t", "m", 1_000_000)
    now[0] += 3_600
    spend.settle(hold, 1_000_000, 1_000_000)
    assert spend.check("t", "m", 1_000_000) is None


def test_ceilings_of_a_task_and_of_a_model_bind_only_them() -> None:
    """Another task, or another model, goes on."""
    ceilings = Ceilings(day_usd=0.001)
    spend = Spend(SpendOptions(tasks={"t": ceilings}, models={"m": ceilings}))
    pay(spend, 1_000_000)
    assert spend.check("t", "other", 1) is not None
    assert spend.check("other", "m", 1) is not None
    assert spend.check("other", "other", 10**15) is None


def test_without_a_ceiling_nothing_waits_and_nothing_is_written() -> None:
    """No ceiling: the account's own limits decide, but the sum is kept."""
    spend = Spend(SpendOptions(), run="r1")
    hold = spend.reserve("t", "m", 10**15)
    spend.settle(hold, 10**15, 10**14)
    assert spend.check("t", "m", 10**18) is None
    assert spend.spent_nanousd == 10**14
    assert (spend.is_shared, spend.due("t"), spend.records("t")) == (False, False, ())


# --- shared with others ----------------------------------------------------------------------------------------------


def test_nothing_is_spent_before_a_claim_was_written_and_read_back() -> None:
    """Claim, look, use: neither the wish nor the written record alone is enough."""
    world = World()
    spend = world.spend(day_usd=1.0)
    assert spend.check("t", "m", 1_000) == Wait("claim")
    assert spend.due("t")
    world.act(spend)
    assert spend.check("t", "m", 1_000) == Wait("claim")
    world.catch_up(spend)
    assert spend.check("t", "m", 1_000) is None


def test_an_act_that_was_not_written_gives_no_right() -> None:
    """The log did not take the act: the claim is made again with the next one."""
    world = World()
    spend = world.spend(day_usd=1.0)
    spend.check("t", "m", 1_000)
    assert spend.records("t")
    world.catch_up(spend)
    assert spend.check("t", "m", 1_000) == Wait("claim")
    world.share()
    assert spend.check("t", "m", 1_000) is None


def test_of_two_that_claim_the_last_of_it_at_most_one_gets_it() -> None:
    """Both wrote before either looked: together they use no more than there is."""
    world = World()
    first, second = world.spend(day_usd=0.001), world.spend(day_usd=0.001)
    for spend in (first, second):
        assert spend.check("t", "m", 700_000) == Wait("claim")
    world.share()
    assert [s.check("t", "m", 700_000) for s in (first, second)].count(None) <= 1
    for _ in range(200):
        world.now += 0.1
        got = [s.check("t", "m", 700_000) is None for s in (first, second)]
        assert sum(got) <= 1
        if any(got):
            break
        world.share()
    assert sum(got) == 1


def test_a_worker_that_starts_at_the_ceiling_spends_nothing(caplog) -> None:
    """After a restart the spending of the run before counts, whole, and is said."""
    world = World()
    spend = world.spend(day_usd=0.001)
    spend.check("t", "m", 990_000)
    world.share()
    pay(spend, 990_000)
    world.act(spend)
    caplog.clear()
    restarted = world.spend(day_usd=0.001)
    assert "99 % of a ceiling" in caplog.text
    wait = restarted.check("t", "m", 20_000)
    assert wait is not None
    assert wait.cause == "spend"


def test_what_a_dead_worker_claimed_is_held_and_shown_as_reserve() -> None:
    """Killed with a call in flight: nobody gets that money before the period ends, and after a minute it is said so."""
    world = World()
    dead, alive = world.spend(day_usd=0.001), world.spend(day_usd=0.001)
    dead.check("t", "m", 800_000)
    world.share()
    assert dead.check("t", "m", 800_000) is None
    dead.reserve("t", "m", 800_000)
    world.spends.remove(dead)
    assert alive.check("t", "m", 300_000) == Wait("claim")
    world.now += 61.0
    world.share()
    wait = alive.check("t", "m", 300_000)
    assert wait is not None
    assert wait.cause == "spend"
    (standing,) = alive.standings()
    assert (standing.spent, standing.margin, standing.reserve) == (0, 0, 800_000)
    assert "reserved for workers that died" in str(standing)


def test_room_that_an_idle_model_keeps_is_given_up_for_a_call_that_needs_it() -> None:
    """One worker's own books never hold each other up: what is left under the ceiling can be spent to the last call."""
    world = World()
    spend = world.spend(day_usd=0.001)
    spend.check("t", "small", 10_000)
    world.share()
    spend.settle(spend.reserve("t", "small", 5_000), 5_000, 5_000)
    world.share()
    assert spend.check("t", "large", 992_000) == Wait("claim")
    for _ in range(20):
        world.now += 0.3
        world.share()
        if spend.check("t", "large", 992_000) is None:
            break
    assert spend.check("t", "large", 992_000) is None


def test_a_worker_that_stops_gives_back_what_it_did_not_spend() -> None:
    """Its last act claims what it spent and no more; one that spent nothing leaves no record."""
    world = World()
    leaving, staying = world.spend(day_usd=0.001), world.spend(day_usd=0.001)
    leaving.check("t", "m", 800_000)
    world.share()
    assert staying.check("t", "m", 900_000) is not None
    leaving.close("t")
    assert leaving.due("t")
    world.act(leaving)
    assert world.topic[-1].value is None
    world.spends.remove(leaving)
    world.share()
    world.share()
    assert staying.check("t", "m", 900_000) is None


def test_records_hold_totals_so_that_reading_twice_counts_once() -> None:
    """Absolute, not increments: a replay of the topic changes nothing."""
    world = World()
    first, second = world.spend(day_usd=1.0), world.spend(day_usd=1.0)
    first.check("t", "m", 1_000)
    world.share()
    for _ in range(3):
        pay(first, 500)
        world.share()
    before = next(iter(second.standings()))
    world.catch_up(second)
    assert next(iter(second.standings())) == before
    assert before.spent == 1_500


def test_records_of_finished_periods_become_tombstones() -> None:
    """A month later nobody needs them: whoever works takes them out of the topic."""
    world = World()
    old = world.spend(day_usd=1.0)
    old.check("t", "m", 1_000)
    world.share()
    pay(old, 500)
    world.act(old)
    keys = {record.key for record in world.topic}
    world.spends.clear()
    world.now += 40 * 86_400.0
    late = world.spend(day_usd=1.0)
    late.check("t", "m", 1_000)
    world.act(late)
    assert {record.key for record in world.topic if record.value is None} >= keys


def test_a_tombstone_of_finished_periods_never_hits_a_live_claim() -> None:
    """Two idle over the turn of the month: one takes the other's old record away just after that one claimed anew."""
    world = World()
    first, second = world.spend(day_usd=0.001), world.spend(day_usd=0.001)
    for spend in (first, second):
        spend.check("t", "m", 1_000)
    world.share()
    for spend in (first, second):
        pay(spend, 500)
    world.share()
    world.now += 40 * 86_400.0
    for spend in world.spends:  # the hour turns: both see what is finished
        world.catch_up(spend)
    first.check("t", "m", 700_000)
    world.act(first)
    world.catch_up(first)
    assert first.check("t", "m", 700_000) is None
    first.reserve("t", "m", 700_000)
    second.check("t", "m", 700_000)
    world.act(second)
    assert any(record.value is None for record in world.topic)
    world.catch_up(second)
    assert second.check("t", "m", 700_000) is not None
    newcomer = world.spend(day_usd=0.001)
    assert newcomer.claims.sum(("all", "", periods_at(UNIX + world.now).labels[1])).claimed >= 700_000


def test_a_claim_taken_back_whole_is_written_once() -> None:
    """It is a tombstone, which has no number to wait for; while there is no room, nothing more is written."""
    world = World()
    options = {f"{period}_usd": 0.001 for period in ("hour", "day", "month")}
    first, second = world.spend(**options), world.spend(**options)
    for spend, worst in ((first, 400_000), (second, 700_000)):
        spend.check("t", "m", worst)
        world.act(spend)
        world.catch_up(spend if spend is first else first)
    assert first.check("t", "m", 400_000) is None
    first.reserve("t", "m", 400_000)
    for _ in range(150):
        assert second.check("t", "m", 700_000) == Wait("claim")
        world.share()
        world.now += 0.1
    assert [record.value for record in world.topic].count(None) == 1


@pytest.mark.parametrize("label", ["tomorrow", "9999-12"])
def test_a_foreign_record_is_refused(label: str) -> None:
    """What can't be read claims nothing and is named; a period beyond all calendars too."""
    new = state_record("t", "spend", "r/m", {"number": 1, "at": 0, "periods": {label: [1, 2, 3]}})
    record = Record(new.topic, 0, 0, new.key, new.value, (), 0)
    with pytest.raises(LogDamaged, match="spend, r/m"):
        read_entry(read_state(record))


@given(
    st.dictionaries(
        st.sampled_from(["2026-09-21T15", "2026-09-21", "2026-09"]),
        st.builds(Totals, *[st.integers(0, 10**15)] * 3),
        min_size=1,
    )
)
def test_records_are_read_back_as_written(periods) -> None:
    """To the nanodollar."""
    entry = Entry(Key("t", "a/b:c", "r"), 7, 12.5, periods)
    new = entry_record(entry)
    assert read_entry(read_state(Record(new.topic, 0, 0, new.key, new.value, (), 0))) == entry


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 9), st.integers(0, 9))))
def test_sums_are_those_of_the_latest_records(entries) -> None:
    """Whatever came before, the sum is that of the last record of each run."""
    claims, latest = Claims(lambda: 0.0, lambda: UNIX), {}
    for run, model, claimed, spent in entries:
        key = Key("t", model, run)
        latest[key] = Totals(claimed, spent, 0)
        claims.hear(Entry(key, 1, 0.0, {"2026-09-21": latest[key]}))
    found = claims.sum(("model", "x", "2026-09-21"))
    assert found.claimed == sum(totals.claimed for key, totals in latest.items() if key.model == "x")
    assert found.spent == sum(totals.spent for key, totals in latest.items() if key.model == "x")


# --- warnings --------------------------------------------------------------------------------------------------------


def test_warnings_come_once_per_part_and_period(caplog) -> None:
    """At 50, 80 and 95 % one line each; a jump over several tells the highest; a new period tells anew."""
    now = [UNIX]
    spend = Spend(SpendOptions(hour_usd=0.001), lambda: now[0], lambda: now[0])
    with caplog.at_level(logging.WARNING, "penstock.spend"):
        for nanousd in (400_000, 150_000, 10_000, 300_000, 100_000, 10_000):
            pay(spend, nanousd)
        assert [record.getMessage().split(" %")[0] for record in caplog.records] == ["55", "86", "96"]
        assert "spend.hour_usd" in caplog.text
        now[0] += 3_600
        pay(spend, 960_000)
        assert len(caplog.records) == 4
    (ceiling,) = spend.ceilings
    assert [spend.warnings.counts[ceiling, part] for part in (0.5, 0.8, 0.95)] == [2, 2, 2]


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), 1e12, 1e-9, True, "5"])
@pytest.mark.parametrize("name", ["hour_usd", "day_usd", "month_usd"])
def test_what_can_be_no_ceiling_is_refused_by_name(name: str, value) -> None:
    """Negative or absurd: the setting is named, in tables too, and the text says what to write."""
    with pytest.raises(SettingsError, match=rf"spend\.{name}=.*write dollars"):
        SpendOptions(**{name: value})
    with pytest.raises(SettingsError, match=rf"spend\.tasks\.judge\.{name}=.*write dollars"):
        SpendOptions(tasks={"judge": Ceilings(**{name: value})})


def test_a_budget_of_nothing_says_what_to_do_instead() -> None:
    """It would hold every event for ever."""
    with pytest.raises(SettingsError, match=r"spend\.day_usd=0 .*stop the workers"):
        SpendOptions(day_usd=0)


def test_what_happens_at_the_ceiling_is_one_of_four() -> None:
    """And each table may say it for its own ceilings."""
    with pytest.raises(SettingsError, match=r"spend\.models\.opus\.at_ceiling='panic'"):
        SpendOptions(models={"opus": Ceilings(at_ceiling="panic")})  # type: ignore[arg-type]
    options = SpendOptions(day_usd=9, at_ceiling="stop", models={"opus": Ceilings(day_usd=1, at_ceiling="cheaper")})
    assert [ceiling.at_ceiling for ceiling in options.ceilings()] == ["stop", "cheaper"]


def test_a_ceiling_that_can_never_be_met_is_said() -> None:
    """A day's lower than an hour's is allowed, and told."""
    assert SpendOptions(hour_usd=1, day_usd=10, month_usd=100).idle() == []
    (told,) = SpendOptions(hour_usd=10, day_usd=5).idle()
    assert "spend.hour_usd=10 is more than spend.day_usd=5" in told


def test_a_table_of_no_task_of_ours_is_said() -> None:
    """A misspelt name would hold nobody, in silence."""
    options = SpendOptions(tasks={"moderator": Ceilings(day_usd=1.0), "moderater": Ceilings(day_usd=1.0)})
    (told,) = options.strangers({"moderator", "analyzer"})
    assert "spend.tasks.moderater covers none of this worker's tasks (analyzer, moderator)" in told


@pytest.mark.parametrize(
    ("unix", "labels", "ends"),
    [
        (0.0, ("1970-01-01T00", "1970-01-01", "1970-01"), (3_600, 86_400, 31 * 86_400)),
        (1_798_761_599.0, ("2026-12-31T23", "2026-12-31", "2026-12"), (1_798_761_600,) * 3),
        (1_709_251_199.0, ("2024-02-29T23", "2024-02-29", "2024-02"), (1_709_251_200,) * 3),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(unix, labels, ends) -> None:
    """Leap days and the year's end too."""
    now = periods_at(unix)
    assert now.labels == labels
    assert now.ends == ends
    assert tuple(end_of(label) for label in labels) == ends
