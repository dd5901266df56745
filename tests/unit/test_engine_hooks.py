"""Laws of the hooks: whoever answers, the task's own checks hold, and a broken hook ends its own item only."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from penstock import Again, Answer, Failure, Item, Partition, Record, Responder, Skip, Task
from penstock.engine.hooks import through_hooks
from penstock.testing import run


class Review(BaseModel):
    text: str


class Verdict(BaseModel):
    decision: Literal["publish", "hold", "reject"]


def refuses(_: Review, verdict: Verdict) -> None:
    if verdict.decision == "hold":
        raise ValueError("not hold")


def leaks(review: Review, _: Verdict) -> None:
    raise ValueError(f"does not fit {review.text}")


def breaks(*_: Any) -> Any:
    raise KeyError("x")


def skips(*_: Any) -> Any:
    raise Skip


def returns_nothing(*_: Any) -> Any:
    return None


@pytest.mark.parametrize(
    ("hooks", "ended", "detail"),
    [
        ({"validate": refuses}, "invalid_output", "not hold"),
        ({"validate": leaks}, "invalid_output", "repeats text of the event"),
        ({"validate": breaks}, "hook_failed", "validate raised KeyError"),
        ({"finish": breaks}, "hook_failed", "finish raised KeyError"),
        ({"finish": skips}, "hook_failed", "finish raised Skip"),
        ({"finish": returns_nothing}, "hook_failed", "finish returned NoneType where Verdict"),
        ({"finish": lambda _, v: v.model_copy(update={"decision": "reject"})}, "reject", ""),
    ],
)
def test_hooks_end_their_own_item_only(hooks: dict[str, Any], ended: str, detail: str) -> None:
    """A hook that objects asks again; one that breaks ends its item, named with the exception's type."""
    task = Task("judge", reads="events", input=Review, output=Verdict, instructions="Judge.", **hooks)
    text = "some words that must not leak"
    record = Record("events", 0, 1, None, b"", (), 0)
    item = Item(record, Partition("events", 0), "e1", Review(text=text), json.dumps({"text": text}), 10)
    outcome = through_hooks(task, item, Answer(Verdict(decision="hold"), "sure", Responder("anyone")))
    if isinstance(outcome, Answer):
        assert outcome.output.decision == ended
        return
    assert isinstance(outcome, Again | Failure)
    assert outcome.reason == ended
    assert detail in outcome.detail
    assert "some words" not in outcome.detail


def test_a_users_own_tier_is_checked_too() -> None:
    """Answers of a function in the place of a tier go through the task's hooks as Claude's do."""
    task = Task(
        "judge", reads="events", input=Review, output=Verdict, instructions="Judge.", validate=refuses, max_attempts=2
    )
    ran = run(task, [{"text": "one"}], answers=lambda _: {"decision": "hold"})
    assert [letter.reason for letter in ran.dead_letters] == ["invalid_output"]
