"""Law 7: whatever a reply looks like, every item ends in one outcome. Law 8: only under its own id."""

from __future__ import annotations

import json
import random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from penstock.claude.models import Tokens
from penstock.claude.reply import Reply, outcomes, read_entries
from penstock.claude.schema import make_form
from penstock.claude.verdicts import Verdicts
from penstock.outcome import Again, Answer, Charge, Failure, Outcome, Responder
from penstock.record import Partition, Record
from penstock.task import Task
from penstock.tier import Item


class Review(BaseModel):
    text: str


class Verdict(BaseModel):
    decision: Literal["publish", "hold", "reject"]
    note: str = ""

    @field_validator("note")
    @classmethod
    def _breaks(cls, note: str) -> str:
        if note == "break":
            raise RuntimeError("a bug of the user's")
        if note == "secret words of the event":
            raise ValueError(note)
        return note


TASK = Task("judge", reads="events", input=Review, output=Verdict, instructions="Judge.")
FORM = make_form(Verdict)
BY = Responder("haiku", "claude-haiku-5-5", "v1")


def item(number: int, text: str = "fine") -> Item:
    shown = json.dumps({"text": text})
    record = Record("events", 0, number, None, b"", (), 0)
    return Item(record, Partition("events", 0), f"e{number}", Review(text=text), shown, 10)


def reply(text: str, stop_reason: str | None = "end_turn", **fields: Any) -> Reply:
    return Reply("req_1", "claude-haiku-5-5", stop_reason, text, Tokens(10, output=5), **fields)


def settle(said: Reply, ids: list[str], task: Task = TASK, text: str = "fine") -> list[Outcome]:
    items = [item(n, text) for n in range(len(ids))]
    charges = [Charge("req_1", "claude-haiku-5-5", n, 1, 0, 0, 1) for n in range(len(ids))]
    ended = outcomes(task, Verdicts(task, FORM), items, ids, said, BY, charges)
    assert len(ended) == len(items)
    assert [o.charge for o in ended] == charges
    return ended


def entry(key: str, decision: str = "p", **more: Any) -> dict[str, Any]:
    return {"i": key, "c": "s", "d": decision, **more}


def text_of(*entries: Any) -> str:
    return json.dumps({"r": list(entries)})


def said(outcome: Outcome) -> str:
    """An outcome in a word."""
    match outcome:
        case Answer():
            return outcome.output.decision
        case Again() | Failure():
            return outcome.reason
        case _:
            return "deferred"


IDS = ["aaaaa", "bbbbb", "ccccc"]


@pytest.mark.parametrize(
    ("entries", "ended"),
    [
        ([entry("aaaaa"), entry("bbbbb", "h"), entry("ccccc", "r")], ["publish", "hold", "reject"]),
        ([entry("ccccc", "r"), entry("aaaaa"), entry("bbbbb", "h")], ["publish", "hold", "reject"]),
        ([entry("aaaaa"), entry("ccccc")], ["publish", "missing", "publish"]),
        ([entry("aaaaa"), entry("zzzzz"), entry("ccccc")], ["publish", "missing", "publish"]),
        ([entry("aaaaa"), entry("aaaaa"), entry("bbbbb"), entry("ccccc")], ["publish", "publish", "publish"]),
        ([entry("aaaaa"), entry("aaaaa", "r"), entry("bbbbb")], ["invalid_output", "publish", "missing"]),
        (
            [entry("aaaaa"), entry("bbbbb", "x"), entry("ccccc", n=1)],
            ["publish", "invalid_output", "invalid_output"],
        ),
        ([entry("aaaaa"), None, 7, [], {"c": "s"}, {"i": 5}, {"i": None}], ["publish", "missing", "missing"]),
        ([entry("aaaaa"), {"i": "bbbbb"}, {"i": "ccccc", "c": "s"}], ["publish", "invalid_output", "invalid_output"]),
        ([entry("AAAAA"), entry("bbbbb"), entry(" ccccc")], ["missing", "publish", "missing"]),
    ],
)
def test_every_item_ends_by_its_own_entry(entries: list[Any], ended: list[str]) -> None:
    """Permuted, missing, foreign, repeated and broken entries each touch the item they name and no other."""
    assert [said(o) for o in settle(reply(text_of(*entries)), IDS)] == ended


@pytest.mark.parametrize(
    ("text", "stop_reason", "ended", "split"),
    [
        ("", "end_turn", "missing", True),
        (text_of(), "end_turn", "missing", True),
        (text_of(entry("zzzzz")), "end_turn", "missing", True),
        ("I cannot do that.", "end_turn", "invalid_output", True),
        ('{"r": {"aaaaa": "p"}}', "end_turn", "invalid_output", True),
        ("[]", "end_turn", "invalid_output", True),
        (text_of(entry("aaaaa"))[:-1], "end_turn", "invalid_output", True),
        (text_of(entry("aaaaa"), entry("bbbbb"), entry("ccccc")), None, "truncated", True),
        ("", "max_tokens", "truncated", True),
        ('{"r":[{"i":"aaaaa","c":"s","d":"p"', "max_tokens", "truncated", True),
        ("", "refusal", "refused", True),
        (text_of(entry("aaaaa"), entry("bbbbb"), entry("ccccc")), "refusal", "refused", True),
    ],
)
def test_a_reply_without_any_use_asks_for_smaller_batches(
    text: str, stop_reason: str | None, ended: str, *, split: bool
) -> None:
    """Nothing usable: every item comes again, and the batch is halved until the culprit stands alone."""
    outcomes_ = settle(reply(text, stop_reason), IDS)
    assert [said(o) for o in outcomes_] == [ended] * 3
    assert all(isinstance(o, Again) and o.split is split for o in outcomes_)
    (alone,) = settle(reply(text, stop_reason), ["aaaab"])
    assert not (isinstance(alone, Again) and alone.split)


def test_a_cut_reply_keeps_what_was_complete() -> None:
    """Entries before the cut are used wherever it falls; the others come again."""
    whole = text_of(entry("aaaaa", n='a "}]'), entry("bbbbb", "h"), entry("ccccc", "r"))
    seen = set()
    for cut in range(len(whole) + 1):
        ended = [said(o) for o in settle(reply(whole[:cut], "max_tokens"), IDS)]
        complete = [d for d in ended if d != "truncated"]
        assert ended == complete + ["truncated"] * (3 - len(complete))
        assert complete == ["publish", "hold", "reject"][: len(complete)]
        seen.add(len(complete))
    assert seen == {0, 1, 2, 3}


def test_an_event_beyond_the_context_alone_is_too_large() -> None:
    """A reply cut by the context window: several items come again in halves, one alone will never fit."""
    assert {said(o) for o in settle(reply("", "model_context_window_exceeded"), IDS)} == {"truncated"}
    (alone,) = settle(reply("", "model_context_window_exceeded"), ["aaaaa"])
    assert isinstance(alone, Failure)
    assert alone.reason == "too_large"


def test_a_refused_event_alone_is_a_failure() -> None:
    """One event that the model declines ends as refused, with the category for people."""
    (ended,) = settle(reply("", "refusal", refusal="cyber"), ["aaaaa"])
    assert isinstance(ended, Failure)
    assert ended.reason == "refused"
    assert "cyber" in ended.detail


def test_refusals_before_output_are_free() -> None:
    """A refusal without output is not billed; one in the middle of its output is."""
    tokens = Tokens(100, output=0)
    assert not reply("", "refusal")._replace(tokens=tokens).is_billed
    assert reply("", "refusal").is_billed
    assert reply("", "end_turn")._replace(tokens=tokens).is_billed


mangled_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from([*IDS, "p", "h", "s"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["i", "c", "d", "n", "r"]), inner),
    max_leaves=12,
)
stops = st.sampled_from(["end_turn", "max_tokens", "refusal", "tool_use", "model_context_window_exceeded", None, "new"])


@settings(max_examples=100)
@given(entries=st.lists(mangled_values, max_size=6), stop=stops, noise=st.integers(0, 10**9))
def test_any_reply_ends_every_item_once(entries: list[Any], stop: str | None, noise: int) -> None:
    """Arbitrary entries, cut and spliced at random: one outcome per item, an answer only under its own id."""
    draw = random.Random(noise)
    text = text_of(*entries, entry("bbbbb", "h"))
    if noise % 2:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(["", "\ud800", "\x00", "}", '"', "]}"]) + text[at + draw.randrange(3) :]
    for key, ended in zip(IDS, settle(reply(text, stop), IDS), strict=True):
        if isinstance(ended, Answer):
            assert f'"i": "{key}"' in text


@settings(max_examples=100)
@given(st.text(st.characters(), max_size=60), st.booleans())
def test_any_text_is_read_without_a_crash(text: str, cut: bool) -> None:
    """Text that is no reply at all gives no entries, never an exception."""
    found = read_entries(text, cut=cut)
    assert found is None or not found.by_id


@pytest.mark.parametrize("text", ["[" * 100_000, '{"r":[' + "[" * 100_000, '{"r":[' + '{"i":' * 50_000])
def test_deep_nesting_is_no_way_to_crash(text: str) -> None:
    """A reply nested deeper than any parser goes is unreadable, no more."""
    for stop in ("end_turn", "max_tokens"):
        assert {said(o) for o in settle(reply(text, stop), IDS)} <= {"truncated", "invalid_output"}


def test_a_validator_of_the_output_model_may_break_too() -> None:
    """ValueErrors of the user's model ask again without repeating its text; other exceptions end the item."""
    first, second = settle(
        reply(text_of(entry("aaaaa", n="break"), entry("bbbbb", n="secret words of the event"))), ["aaaaa", "bbbbb"]
    )
    assert isinstance(first, Failure)
    assert (first.reason, first.detail) == ("hook_failed", "Verdict raised RuntimeError")
    assert isinstance(second, Again)
    assert (second.reason, second.detail) == ("invalid_output", "note: value_error")
