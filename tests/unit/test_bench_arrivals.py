"""What the benchmarks say of a run: nothing that has no answer is left out, and only what was answered used the account."""

from __future__ import annotations

import pytest
from benchmarks.arrivals import Shape, binding, markdown, quantile, taken, waits
from benchmarks.classes import Taking, binds, takings_of

CALL = {
    "status": 200, "model": "claude-haiku-5-5", "ended_ms": 10_000,
    "input_tokens": 900, "cache_write_tokens": 100, "output_tokens": 50,
}  # fmt: skip


def test_arrivals_keep_their_stretches_and_are_the_same_for_everybody():
    """A tenfold stretch has ten times as many events, in order, and a second look sees the same moments."""
    shape = Shape("burst", ((20.0, 100.0), (10.0, 1_000.0), (20.0, 100.0)), 20.0, 50.0)
    moments = list(shape.moments())
    assert moments == sorted(moments) == list(shape.moments())
    assert moments[-1] < 50.0
    assert sum(20 <= at < 30 for at in moments) == pytest.approx(10_000, rel=0.05)
    assert sum(at < 20 for at in moments) == pytest.approx(2_000, rel=0.1)


def test_an_event_without_an_answer_counts_with_the_time_it_has_waited():
    """Whoever answers only the quick half does not look quick: what is open makes the quantile a lower bound."""
    due = {f"r{number}": 100.0 for number in range(10)}
    seen = {f"r{number}": 100.5 for number in range(5)}
    found = waits(due, seen, cut=130.0)
    assert str(quantile(found, 0.25)) == "500 ms"
    assert str(quantile(found, 0.99)) == "> 30 s"
    young = waits({"a": 100.0, "b": 129.9}, {"a": 101.0}, cut=130.0)
    assert quantile(young, 0.99).is_at_least, "an open event that is still young hides how long it will take"


def test_only_answered_calls_of_the_span_and_model_use_the_account():
    """Cache reads and 429s take nothing; figures are per minute."""
    calls = [CALL, CALL | {"status": 429}, CALL | {"ended_ms": 99_000}, CALL | {"model": "claude-opus-5-5"}]
    assert taken(calls, 0.0, 30.0, "claude-haiku-5-5") == {"requests": 2, "input_tokens": 2_000, "output_tokens": 100}
    assert taken(calls, 0.0, 30.0)["requests"] == 4
    limits = {"requests": 100, "input_tokens": 4_000, "output_tokens": 1_000}
    assert binding({"requests": 2, "input_tokens": 2_000, "output_tokens": 100}, limits) == ("input_tokens", 0.5)


def test_what_lasts_is_what_the_scarcest_limit_bears():
    """An account of the Start class grants 400,000 output tokens a minute: 50 of them an event are 133 events a second."""
    found = takings_of("start", [CALL], 0.0, 60.0, 1)
    output = next(one for one in found if one.limit == "output_tokens")
    assert output.events_per_second == pytest.approx(400_000 / 60 / 50)
    assert str(output) == "output tokens of haiku"


def test_the_table_says_where_the_machine_binds_and_not_the_account():
    """A limit that is not used up is not called binding."""
    row = {"cores": {"contender": 1.2, "others": 0.7}, "binding": str(Taking("claude-haiku-5-5", "requests", 1, 1, 1))}
    assert binds(row | {"binding_used": 1.01}) == "requests of haiku"
    assert binds(row | {"binding_used": 0.6}).startswith("the machine (1.9 of ")
    assert binds(row | {"binding_used": 0.6, "cores": {"contender": 0.3}}).startswith("not the account")


def test_tables_are_markdown():
    """One line a row."""
    assert markdown(("a", "b"), [(1, "x")]) == "| a | b |\n|---|---|\n| 1 | x |"
