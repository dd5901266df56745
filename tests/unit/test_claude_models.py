"""Prices to the last nanodollar, and how each model is asked."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.claude.models import Models, Tokens
from penstock.errors import SettingsError

TABLE = Models.load()
EVERY_MODEL = sorted(TABLE.rows)


@pytest.mark.parametrize(
    ("model", "tokens", "nanousd"),
    [
        ("haiku", Tokens(input=812, cache_read=2_051, output=210), 206_710),
        ("haiku", Tokens(input=100_000, output=1), 10_000_500),
        ("haiku", Tokens(input=100_001, output=1), 50_003_000),
        ("haiku", Tokens(input=1, cache_write_5m=50_000, cache_read=50_000, output=10), 33_775_500),
        ("haiku", Tokens(cache_write_5m=10, cache_write_1h=10), 3_250),
        ("haiku", Tokens(input=3, cache_read=1, inference_geo="us"), 341),
        ("sonnet", Tokens(input=1_000, cache_read=1_000, output=100), 3_100_000),
        ("opus", Tokens(cache_write_1h=1_000, output=1), 8_020_000),
        ("fable", Tokens(input=1, cache_write_5m=1, cache_read=1, output=1), 58_200),
        ("claude-haiku-4-5", Tokens(input=1_000, output=100, inference_geo="us"), 1_500_000),
    ],
)
def test_a_call_costs_what_the_price_list_says(model: str, tokens: Tokens, nanousd: int) -> None:
    """Every price class counts; the band follows from the whole prompt and holds for the output too."""
    assert TABLE.resolve(model).cost_nanousd(tokens) == nanousd


counts = st.integers(0, 300_000)


@given(
    st.sampled_from(EVERY_MODEL),
    st.builds(Tokens, counts, counts, counts, counts, counts, st.sampled_from(["", "global", "us"])),
    counts,
)
def test_the_worst_is_never_less_than_the_cost(name: str, tokens: Tokens, more: int) -> None:
    """What is reserved before a call covers every way in which its tokens may be billed."""
    model = TABLE.rows[name]
    assert model.cost_nanousd(tokens) <= model.worst_nanousd(tokens.prompt + more, tokens.output)


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent_effort", "thinks"),
    [
        ("haiku", "", {"type": "disabled"}, "low", False),
        ("haiku", "max", None, "max", True),
        ("sonnet", "", {"type": "between_tools"}, "low", False),
        ("opus", "", None, "low", True),
        ("fable", "high", None, "high", True),
        ("claude-opus-4-8", "", None, "low", False),
        ("claude-haiku-4-5", "", None, "", False),
    ],
)
def test_each_model_is_asked_in_its_own_way(
    model: str, effort: str, thinking: dict[str, str] | None, sent_effort: str, *, thinks: bool
) -> None:
    """Thinking is turned off where that is possible, in the words the model takes; effort is sent where it is known."""
    row = TABLE.resolve(model)
    assert row.asking(effort) == (thinking, sent_effort)
    assert row.thinks(effort) is thinks


def test_an_effort_that_a_model_lacks_is_refused() -> None:
    """The setting is named with the levels that the model takes."""
    with pytest.raises(SettingsError, match=r"claude\.effort='low': claude-haiku-4-5 takes no effort at all"):
        TABLE.resolve("claude-haiku-4-5").asking("low")


def test_an_unknown_model_names_the_known_ones_and_how_to_add_it() -> None:
    """The error lists aliases and ids and says where a new row goes."""
    with pytest.raises(SettingsError, match=r"'gpt'.*haiku.*claude-opus-5-5.*\[models\.gpt\].*claude\.prices_file"):
        TABLE.resolve("gpt")


OWN = """
dated = 2027-01-01
[aliases]
haiku = "claude-haiku-6"
[models.claude-haiku-6]
family = "haiku-6"
thinking = "off"
min_cacheable_tokens = 512
max_output_tokens = 64000
context_tokens = 200000
chars_per_token = 2.5
prices = [{ input = 0.333, output = 1, cache_write_5m = 1, cache_write_1h = 1, cache_read = 0.05 }]
"""


def test_users_rows_lie_on_top_of_the_shipped_ones(tmp_path: Path) -> None:
    """A file of one's own adds models, moves aliases and dates the table; the shipped rows stay."""
    path = tmp_path / "prices.toml"
    path.write_text(OWN)
    table = Models.load(path)
    assert table.resolve("haiku").cost_nanousd(Tokens(input=3)) == 999
    assert table.resolve("opus") == TABLE.resolve("opus")
    assert table.dated == dt.date(2027, 1, 1)
    assert not table.is_old(dt.date(2027, 2, 1))
    assert table.is_old(dt.date(2027, 6, 1))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("dated = ", "is no TOML"),
        ("dated = 'today'", "dated = 2026"),
        ("dated = 2027-01-01\nprices = 1", r"unknown \['prices'\]"),
        (OWN.replace('"off"', '"sometimes"'), "thinking"),
        (OWN.replace("input = 0.333,", ""), "input"),
        (OWN.replace("input = 0.333", "input = -1"), "input"),
        (OWN.replace("prices = [{", "prices = [{ up_to_prompt_tokens = 5,"), "up_to_prompt_tokens"),
        (OWN.replace('haiku = "claude-haiku-6"', 'haiku = "claude-7"'), "alias 'haiku' names 'claude-7'"),
        (OWN + "colour = 'red'", "colour"),
    ],
)
def test_a_price_file_with_a_mistake_is_refused(tmp_path: Path, content: str, says: str) -> None:
    """The error names the file and what is wrong in it: nobody is billed by guesswork."""
    path = tmp_path / "prices.toml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=rf"(?s)prices\.toml.*{says}"):
        Models.load(path)


def test_a_price_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The setting and the file are named."""
    with pytest.raises(SettingsError, match=r"claude\.prices_file=.*none\.toml"):
        Models.load(tmp_path / "none.toml")
