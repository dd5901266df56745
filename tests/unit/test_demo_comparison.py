"""What one call per event would have cost: by hand for a few events, and never less than what was paid for one alone."""

from __future__ import annotations

import pytest

from penstock.claude.models import Models
from penstock.demo.comparison import Comparison
from review_moderation import analyzer, moderator

MODELS = Models.load()


def result(calls, tier="haiku", nanousd=0, **tokens):
    usage = {"input_tokens": 0, "cache_write_tokens": 0, "cache_read_tokens": 0, "output_tokens": 0} | tokens
    return {"calls": [[call, 0] for call in calls], "tier": tier, "nanousd": nanousd, "usage": usage}


def shared_call(name, events, *, prompt, written=False, each_nanousd):
    """One call with so many events; its prompt is divided among them."""
    kind = "cache_write_tokens" if written else "cache_read_tokens"
    return [result([name], nanousd=each_nanousd, **{kind: prompt // events}) for _ in range(events)]


def test_a_prompt_that_was_shared_is_read_by_each_event_alone():
    """Ten events share a prompt of 1,000 tokens: alone the first writes it and nine read it, at Haiku's prices."""
    comparison = Comparison(analyzer, MODELS)
    for ending in shared_call("c1", 10, prompt=1_000, each_nanousd=100 * 10 + 5_000):
        comparison.add(ending)
    # Haiku: a cached token is read for 10 nanodollars, written for 125, sent uncached for 100.
    own = 10 * (100 * 10 + 5_000 - 100 * 10)
    assert comparison.cached_nanousd() == own + 1_000 * 125 + 9 * 1_000 * 10
    assert comparison.uncached_nanousd() == own + 10 * 1_000 * 100


def test_the_prompt_is_measured_where_a_call_is_complete():
    """A call of which only a part has ended shows only a part of the prompt: the largest sum counts."""
    comparison = Comparison(analyzer, MODELS)
    for ending in shared_call("c1", 10, prompt=1_000, each_nanousd=6_000)[:4]:
        comparison.add(ending)
    before = comparison.cached_nanousd()
    for ending in shared_call("c2", 2, prompt=1_000, written=True, each_nanousd=70_000):
        comparison.add(ending)
    assert comparison.uncached_nanousd() >= 6 * 1_000 * 100
    assert comparison.cached_nanousd() > before


def test_an_escalated_event_asks_every_model_alone():
    """Whoever was asked on the way is paid on the way: Haiku, then Sonnet."""
    comparison = Comparison(moderator, MODELS)
    for ending in shared_call("c1", 10, prompt=1_000, each_nanousd=1_000):
        comparison.add(ending)
    single = comparison.uncached_nanousd()
    comparison.add(result(["c3", "c4"], tier="sonnet", nanousd=9_000))
    assert comparison.uncached_nanousd() == single + 9_000 + 1_000 * 100 + 1_000 * 2_000


@pytest.mark.parametrize("events", [1, 3, 50])
def test_one_event_a_call_costs_what_it_cost(events):
    """Where every event already had a call of its own there is nothing to save."""
    comparison = Comparison(analyzer, MODELS)
    paid = 0
    for number in range(events):
        kind, price = ("cache_write_tokens", 125) if number == 0 else ("cache_read_tokens", 10)
        nanousd = 1_000 * price + 7_000
        paid += nanousd
        comparison.add(result([f"c{number}"], nanousd=nanousd, **{kind: 1_000}))
    assert comparison.cached_nanousd() == paid
    # Written once, the cache is dearer than no cache; from the second event on it pays.
    assert (comparison.uncached_nanousd() > paid) == (events > 1)
