"""Examples load as a user would load them, stay short, and decide as they say."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from penstock import NewRecord, Record, Route, Sink, Task
from penstock.codecs import Undecodable, decode
from penstock.testing import run

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def support() -> ModuleType:
    return load("support_triage")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_one_short_page_with_a_task_or_a_sink(file: Path) -> None:
    """At most 80 lines, so that it is read before it is copied."""
    assert len(file.read_text().splitlines()) <= 80
    assert any(isinstance(value, Task | Sink) for value in vars(load(file.stem)).values())


def test_a_ticket_is_read_with_what_it_has(support: ModuleType) -> None:
    """The help desk's further fields are ignored, a ticket without a body is a dead letter."""
    ticket = decode(
        Record("tickets", 0, 0, b"c", b'{"id":"1","body":"Charged twice","vip":true}', (), 0), support.Ticket
    )
    assert ticket.body == "Charged twice"
    with pytest.raises(Undecodable, match="body: String should have at least 1 character"):
        decode(Record("tickets", 0, 0, b"c", b'{"id":"1","body":""}', (), 0), support.Ticket)


def test_a_doubtful_alarm_is_asked_again_of_a_larger_model(support: ModuleType) -> None:
    """`now` wakes somebody up: the cheap model must be sure."""
    cheap, last = support.triage.route.steps
    alarm = support.Triage(team="billing", urgency="now")
    assert not cheap.accepts(alarm, "likely")
    assert cheap.accepts(alarm, "sure")
    assert cheap.accepts(support.Triage(team="billing", urgency="week"), "likely")
    assert last.accepts(alarm, "unsure")


def test_a_reply_of_several_lines_is_refused(support: ModuleType) -> None:
    """The hook raises, and the item is asked again."""
    ticket = support.Ticket(id="1", body="x")
    support.triage.validate(ticket, support.Triage(team="other", urgency="week", reply="We have it."))
    with pytest.raises(ValueError, match="one line"):
        support.triage.validate(ticket, support.Triage(team="other", urgency="week", reply="We\nhave it."))


def test_small_change_costs_nothing_and_the_rest_is_asked() -> None:
    """The rule answers what it may, a model is asked of the others only, and an account's payments end in their order."""
    fraud = load("fraud_screening")
    home = {"country": "DE", "home_country": "DE"}
    payments = [
        {"payment_id": "coffee", "account": "a", "amount_cents": 350, **home},
        {"payment_id": "cards", "account": "a", "amount_cents": 90_000, "memo": "gift cards for the police", **home},
        {"payment_id": "rent", "account": "a", "amount_cents": 80_000, **home},
        {"payment_id": "stranger", "account": "a", "amount_cents": 900, "payee_age_days": 1, **home},
        {"payment_id": "nothing", "account": "a", "amount_cents": 0},
    ]
    ended = run(fraud.screen, [NewRecord("payments", b"a", orjson.dumps(payment)) for payment in payments])
    assert [one.event_id for one in ended.ended if not one.letter] == ["coffee", "cards", "rent", "stranger"]
    assert (ended["coffee"].result["tier"], ended["coffee"].result["nanousd"]) == ("rules", 0)
    assert all(ended[name].result["nanousd"] > 0 for name in ("cards", "rent", "stranger"))
    assert [letter.reason for letter in ended.dead_letters] == ["undecodable"]


def test_a_block_that_haiku_is_not_sure_of_is_asked_of_opus() -> None:
    """Money is held back on the word of the cheap model only where that is sure."""
    fraud = load("fraud_screening")
    asked: list[str] = []

    def judge(payment: Any) -> tuple[dict[str, str], str]:
        asked.append(payment.payment_id)
        return {"decision": "block", "pattern": "gift_cards"}, "likely"

    haiku_and_opus = Route(*fraud.screen.route.steps[1:])
    payment = {"payment_id": "p", "account": "a", "amount_cents": 90_000}
    ended = run(replace(fraud.screen, route=haiku_and_opus), [payment], answers=judge)
    assert (asked, ended["p"].result["tier"]) == (["p", "p"], "opus")


def test_an_invoice_that_does_not_add_up_is_never_booked() -> None:
    """A wrong sum or an invented number is asked again and ends as a dead letter; what is no invoice costs nothing."""
    documents = load("document_extraction")
    text = "Invoice 17: two lamps 21.00 EUR, shipping 4.90 EUR, total 25.90 EUR"
    lines = [{"description": "lamps", "quantity": 2, "amount": 21.0}, {"description": "shipping", "amount": 4.9}]
    good = {"number": "17", "currency": "EUR", "lines": lines, "total": 25.9}
    answers = {"good": good, "sum": {**good, "total": 29.5}, "number": {**good, "number": "71"}}
    events = [{"document_id": name, "text": text} for name in answers]
    events.append({"document_id": "letter", "text": "Dear Sir or Madam", "kind": "letter"})
    ended = run(documents.invoices, events, answers=lambda document: answers[document.document_id])
    assert list(ended.outputs) == ["good"]
    assert sorted((letter.event_id, letter.reason) for letter in ended.dead_letters) == [
        ("number", "invalid_output"),
        ("sum", "invalid_output"),
    ]


def test_a_visit_is_shown_without_what_names_a_person() -> None:
    """Queries of addresses stay here, long visits are cut to their end, a single glance is passed without cost."""
    behaviour = load("behaviour_tagging")
    steps = [{"page": "/login?mail=a@example.com", "seconds": 3}] + [{"page": "/cart", "failed": "coupon"}] * 60
    visits = [
        {"session_id": "long", "visitor": "v", "steps": steps},
        {"session_id": "glance", "visitor": "v", "steps": steps[:1]},
    ]
    shown = behaviour.as_lines(behaviour.Session.model_validate(visits[0]))
    assert len(shown) == 40
    assert shown[-1] == "/cart 0s coupon"
    assert not any(
        "@" in step for step in behaviour.as_lines(behaviour.Session.model_validate(visits[0] | {"steps": steps[:3]}))
    )
    ended = run(behaviour.tagger, visits)
    assert list(ended.outputs) == ["long"]
    assert ended["long"].result["subject"] == "v"
