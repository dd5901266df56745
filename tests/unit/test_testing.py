"""`penstock.testing`: the real engine for the tests of whoever writes tasks, without log or key."""

from __future__ import annotations

import asyncio

import pytest

from fakes import Label, Note, ScriptedTier, make_task
from penstock import NewRecord, Route
from penstock.errors import TierStopped, UserError
from penstock.testing import run

TASK = make_task(ScriptedTier(), route=Route("haiku"))


def test_answers_stand_in_for_every_step():
    """Outputs come from the function, events that cannot be read become dead letters, nothing costs anything."""
    ran = run(
        TASK,
        [{"id": "a", "text": "one"}, b"{broken", Note(id="b", text="two")],
        answers=lambda note: Label(echo=note.text),
    )
    assert {event: output.echo for event, output in ran.outputs.items()} == {"a": "one", "b": "two"}
    assert [letter.reason for letter in ran.dead_letters] == ["undecodable"]
    assert ran["a"].result["tier"] == "haiku"
    assert (len(ran), ran.nanousd) == (3, 0)


def test_what_a_deletion_erases_is_not_among_the_endings():
    """Whether it was answered before or taken out of flight: a run shows what a reader who obeys erasures keeps."""
    events = [NewRecord("", b"k", b'{"id": "a", "text": "one"}'), {"id": "b", "text": "two"}, NewRecord("", b"k", None)]
    ran = run(TASK, events, answers=lambda _: {})
    assert set(ran.outputs) == {"b"}
    assert [(erasure.key, erasure.subject) for erasure in ran.erased] == [(b"k", None)]


def test_without_answers_the_offline_simulator_answers():
    """The whole way over real HTTP, marked as simulated and with the costs that it would have had."""
    ran = run(TASK, [{"id": "a", "text": "one"}])
    assert ran["a"].result["simulated"] is True
    assert ran.nanousd > 0


def test_a_wrong_answer_is_the_test_writers_mistake():
    """An answer that is no output fails the test that gave it, naming the event; it is no dead letter."""
    with pytest.raises(TierStopped, match="answers= for event 'a'"):
        run(TASK, [{"id": "a", "text": "one"}], answers=lambda _: {"label": "ugly"})


async def test_it_may_be_called_where_a_loop_runs():
    """From a notebook or an asynchronous test."""
    await asyncio.sleep(0)
    assert len(run(TASK, [{"id": "a", "text": "one"}], answers=lambda _: {})) == 1


def test_an_event_of_another_kind_is_refused():
    """The message says what an event may be."""
    with pytest.raises(UserError, match="a mapping, a model, bytes or a NewRecord"):
        run(TASK, [7])
