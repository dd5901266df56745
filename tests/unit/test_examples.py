"""Examples load as a user would load them, stay short, and decide as they say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from penstock import Record, Sink, Task
from penstock.codecs import Undecodable, decode

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
    """At most 60 lines, so that it is read before it is copied."""
    assert len(file.read_text().splitlines()) <= 60
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
