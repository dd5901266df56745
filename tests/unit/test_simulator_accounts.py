"""The bill: every price to the nanodollar, both bands, every token class; and what was asked twice."""

import json

import pytest

from penstock.simulator.models import BY_NAME, MODELS, Usage, bill_nanousd
from simulator_calls import HAIKU, OPUS, SONNET, Account, batch, finish, message

# Dollars per million tokens: input, output, 5m write, 1h write, read.
PRICES = {
    "claude-haiku-5-5": (0.10, 0.50, 0.125, 0.20, 0.01),
    "claude-sonnet-5-5": (2, 10, 2.50, 4, 0.10),
    "claude-opus-5-5": (4, 20, 5, 8, 0.20),
    "claude-fable-5-2": (8, 40, 10, 16, 0.20),
    "claude-mythos-5-2": (8, 40, 10, 16, 0.20),
    "claude-fable-5-1": (10, 50, 12.50, 20, 0.25),
    "claude-fable-5": (10, 50, 12.50, 20, 1.00),
    "claude-opus-5": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-8": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-5": (5, 25, 6.25, 10, 0.50),
    "claude-sonnet-5": (2, 10, 2.50, 4, 0.20),
    "claude-sonnet-4-6": (3, 15, 3.75, 6, 0.30),
    "claude-haiku-4-5": (1, 5, 1.25, 2, 0.10),
}


@pytest.mark.parametrize("model", PRICES)
def test_every_class_at_its_price(model):
    """Each class of tokens costs what the price list says, exactly."""
    for name, usd in zip(("input", "output", "write_5m", "write_1h", "read"), PRICES[model], strict=True):
        tokens = 100_000  # within Haiku's lower band
        assert bill_nanousd(BY_NAME[model], Usage(**{name: tokens})) == round(usd * 1e9) // 10


@pytest.mark.parametrize(
    ("usage", "nanousd"),
    [
        (Usage(input=812, read=2051, output=210), 812 * 100 + 2051 * 10 + 210 * 500),
        (Usage(input=100_000, output=10), 100_000 * 100 + 10 * 500),
        (Usage(input=100_001, output=10), 100_001 * 500 + 10 * 2500),
        (Usage(input=1, read=60_000, write_5m=40_000, output=10), 500 + 60_000 * 50 + 40_000 * 625 + 10 * 2500),
        (Usage(input=1, read=50_000, write_1h=50_000, output=10), 500 + 50_000 * 50 + 50_000 * 1000 + 10 * 2500),
    ],
)
def test_haiku_has_two_bands(usage, nanousd):
    """Above 100,000 tokens of prompt, cached ones included, every token of the request costs the higher rate."""
    assert bill_nanousd(BY_NAME[HAIKU], usage) == nanousd


def test_multipliers():
    """US inference adds a tenth, rounded up from half a nanodollar; fast mode doubles."""
    usage = Usage(input=10, write_5m=1)
    assert bill_nanousd(BY_NAME[HAIKU], usage, regional=True) == 1238  # 1,125 x 1.1 = 1,237.5
    assert bill_nanousd(BY_NAME[OPUS], Usage(input=10, output=1), fast=True) == (40_000 + 20_000) * 2


def test_all_models_price_writes_by_their_input():
    """A cache write costs 1.25 and 2 times the input, on every model and in both bands."""
    for model in MODELS:
        for price in filter(None, (model.price, model.long_price)):
            assert (price.write_5m * 4, price.write_1h) == (price.input * 5, price.input * 2)


def test_reply_and_accounts_agree():
    """The usage in the replies, priced by hand, is the bill; totals, models and ledger say the same."""
    account = Account()
    expected = 0
    for body in (
        batch("a fine lamp", "you idiots"),
        batch("a fine lamp", model=SONNET, thinking={"type": "between_tools"}),
    ):
        usage = account.reply(body)["usage"]
        prices = (100, 500) if body["model"] == HAIKU else (2000, 10_000)
        expected += usage["input_tokens"] * prices[0] + usage["output_tokens"] * prices[1]
    totals = account.totals()
    rows = [json.loads(line) for line in account.api.accounts.rows(0, 100)]
    assert totals["nanousd"] == expected == sum(row["nanousd"] for row in rows)
    assert sum(model["nanousd"] for model in totals["models"].values()) == expected
    assert [(row["seq"], row["model"], row["status"], row["items"], row["delivered"]) for row in rows] == [
        (1, HAIKU, 200, 2, True),
        (2, SONNET, 200, 1, True),
    ]
    assert totals["tokens"]["output"] == sum(row["output_tokens"] for row in rows)


def test_items_asked_twice():
    """The same event, model and prompt again is counted; another model or another prompt is another question."""
    account = Account()
    account.reply(batch("one", "two"))
    assert account.totals()["items_asked_twice"] == 0
    account.reply(batch("two", "three"))
    assert (account.totals()["items"], account.totals()["items_asked_twice"]) == (4, 1)
    account.reply(batch("two", model=SONNET, thinking=None))
    account.reply(batch("two", system="another task"))
    assert account.totals()["items_asked_twice"] == 1
    account.reply(batch("four", "four"))
    assert account.totals()["items_asked_twice"] == 2


def test_same_body_twice_is_a_duplicate():
    """A request sent again byte for byte is counted and billed again, as at the API."""
    account = Account()
    account.reply(batch("one"))
    once = account.totals()["nanousd"]
    account.reply(batch("one"))
    assert (account.totals()["duplicate_bodies"], account.totals()["nanousd"]) == (1, once * 2)


def test_calls_are_billed_before_they_are_delivered():
    """A call is in the bill once its body is there, in flight until its reply is written, and undelivered if nobody reads."""
    account = Account()
    exchange = account.send(message(), deliver=False)
    begun = account.totals()
    assert begun["nanousd"] > 0
    assert (begun["in_flight"], begun["calls"], begun["calls_by_status"]) == (1, 1, {})
    finish(exchange, delivered=False)
    ended = account.totals()
    assert (ended["in_flight"], ended["undelivered_calls"], ended["undelivered_nanousd"]) == (0, 1, begun["nanousd"])
    assert ended["nanousd"] == begun["nanousd"]


def test_ledger_is_read_on_from_a_seq():
    """`after` names the last row seen; rows come in the order in which calls ended."""
    account = Account()
    for _ in range(5):
        account.send(message())
    rows = account.send(b"", path="/simulator/calls?after=3", method="GET").body.splitlines()
    assert [json.loads(row)["seq"] for row in rows] == [4, 5]
    assert account.send(b"", path="/simulator/calls?after=9", method="GET").body == b""
    assert account.send(b"", path="/simulator/calls?after=x", method="GET").status == 400


def test_refusals_before_output_are_not_billed():
    """A refused call shows its tokens and costs nothing."""
    account = Account(refusal_marker="[[refuse]]")
    reply = account.reply(batch("fine", "bad [[refuse]]"))
    assert (reply["stop_reason"], reply["content"], reply["usage"]["output_tokens"]) == ("refusal", [], 0)
    assert reply["usage"]["input_tokens"] > 0
    assert (account.totals()["nanousd"], account.totals()["items"]) == (0, 0)


def test_reset_forgets_all_but_the_calls_in_flight():
    """After a reset the accounts are empty, and a call that was in flight still ends."""
    account = Account()
    exchange = account.send(message(), deliver=False)
    account.send(b"", path="/simulator/reset")
    assert (account.totals()["nanousd"], account.totals()["in_flight"]) == (0, 1)
    finish(exchange)
    assert (account.totals()["calls"], account.totals()["in_flight"]) == (1, 0)
