"""Tasks are checked when they are declared, and every refusal says what to write instead."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from penstock import Capacity, Item, Outcome, Route, Step, Task, TaskError
from penstock.codecs import FieldMapping


class Event(BaseModel):
    """An input model."""

    id: str = ""
    text: str = ""


class Verdict(BaseModel):
    """An output model."""

    label: str = ""
    score: int = 0
    urgency: Literal["low", "high"] = "low"


class Nothing(BaseModel):
    """An output model that asks for nothing."""


class Rules:
    """A tier of the user's own."""

    name = "rules"

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        raise NotImplementedError

    def capacity(self, task: Task[Any, Any]) -> Capacity:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def declare(name: Any = "labels", **changes: Any) -> Task[Any, Any]:
    declared = {"reads": "events", "input": Event, "output": Verdict, "instructions": "Label it."}
    return Task(name, **{**declared, **changes})


def test_what_is_not_given_is_filled_in() -> None:
    """The name makes group, topics and retry topic; nothing old is read unless asked for."""
    task = declare()
    assert (task.group, task.writes, task.dead_letters) == ("labels", "labels-results", "labels-dlq")
    assert task.topics == ("events", "labels.retry")
    assert (task.start_from, task.order) == ("latest", "none")
    assert [step.name for step in task.route.steps] == ["haiku"]


@pytest.mark.parametrize(
    "changes",
    [
        {"start_from": "earliest", "order": "key"},
        {"start_from": datetime(2026, 1, 1, tzinfo=UTC)},
        {"show": {"text"}, "event_id": "id"},
        {"event_id": lambda event, record: event.id + record.topic},
        {"route": Route(Step(Rules()), "haiku", Step("opus", accept="likely"))},
        {"route": Route(Step("haiku", accept={"bad": "sure", "*": "likely"}, by="label"), "sonnet")},
        {"route": Route(Step("haiku", accept={"high": "sure", "*": "likely"}, by="urgency"), "sonnet")},
        {"decode": FieldMapping({"text": "body"})},
        {"validate": lambda event, verdict: None, "finish": lambda event, verdict: verdict, "render": str},
    ],
)
def test_what_the_docs_show_is_accepted(changes: dict[str, Any]) -> None:
    """The ways to write a task that its docstrings name."""
    assert declare(**changes).name == "labels"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "the name is also the consumer group: use letters, digits"),
        ({"name": "two words"}, "the name is also the consumer group"),
        ({"name": 7}, "the name is also the consumer group"),
        ({"reads": "a b"}, "reads='a b' is no topic name: use letters, digits"),
        ({"reads": ""}, "reads='' is no topic name"),
        ({"writes": "ü"}, "writes='ü' is no topic name"),
        ({"dead_letters": "/dlq"}, "dead_letters='/dlq' is no topic name"),
        ({"writes": "events"}, "reads, writes, dead_letters and the retry topic must differ, got events, events"),
        ({"writes": "x", "dead_letters": "x"}, "must differ"),
        ({"reads": "labels.retry"}, "must differ"),
        ({"input": dict}, "input= must be a pydantic model class"),
        ({"output": Verdict()}, "output= must be a pydantic model class"),
        ({"output": Nothing}, "the output model has no fields"),
        ({"instructions": " \n"}, "instructions= is empty: say what Claude shall decide"),
        ({"instructions": None}, "instructions= is empty"),
        ({"route": "haiku"}, "route= must be Route(Step(…), …), got 'haiku'"),
        ({"route": Route()}, "the route is empty: write Route('haiku')"),
        ({"route": Route("haiku", Step("haiku", accept="sure"))}, "the route names a tier twice: ['haiku', 'haiku']"),
        ({"route": Route(Step(object()))}, "a tier with name, answer, capacity and close"),
        ({"route": Route(Step("haiku", accept="certain"))}, "accept='certain'): write 'sure', 'likely' or 'unsure'"),
        ({"route": Route(Step("haiku", accept={"a": 0.9}, by="label"))}, "accept=0.9): write 'sure'"),
        (
            {"route": Route(Step("haiku", accept={"a": "sure"}))},
            "needs by='<output field>'; Verdict has label, score, urgency",
        ),
        ({"route": Route(Step("haiku", accept={"a": "sure"}, by="lable"))}, "needs by='<output field>'"),
        ({"order": "keys"}, "order='keys': write 'none' or 'key'"),
        ({"start_from": "now"}, "start_from='now': write 'latest', 'earliest' or a datetime"),
        ({"start_from": datetime(2026, 1, 1)}, "start_from= needs a time zone: datetime(…, tzinfo=UTC)"),  # noqa: DTZ001
        ({"max_attempts": 0}, "max_attempts=0: a whole number of at least 1"),
        ({"max_batch_items": 2.5}, "max_batch_items=2.5: a whole number"),
        ({"weight": 0}, "weight=0: a number from 0.001 to 1000"),
        ({"weight": float("nan")}, "weight=nan: a number from 0.001 to 1000"),
        ({"weight": True}, "weight=True: a number from 0.001 to 1000"),
        ({"max_event_tokens": "20k"}, "max_event_tokens='20k': a whole number"),
        ({"max_call_seconds": 0}, "max_call_seconds=0: seconds, more than 0"),
        ({"show": {"text", "body"}}, "show= names fields that Event lacks: ['body']"),
        ({"event_id": "uid"}, "event_id='uid' is no field of Event; it has id, text"),
        ({"decode": "json"}, "decode= must be a function, got 'json'"),
        ({"validate": True}, "validate= must be a function"),
        ({"finish": 1}, "finish= must be a function"),
        ({"render": "{text}"}, "render= must be a function"),
        ({"suspicious": ["ignore"]}, "suspicious= must be a function"),
        ({"max_call_seconds": "120"}, "max_call_seconds='120': seconds, more than 0"),
        ({"show": "text"}, "show='text': a set of fields of Event"),
        ({"show": set()}, "show=set(): a set of fields of Event, at least one"),
        ({"event_id": 5}, "event_id=5: a field of Event or a function (input, record)"),
        (
            {"route": Route(Step("haiku", accept={"hgih": "sure"}, by="urgency"))},
            "names ['hgih'], which urgency never is: write high, low",
        ),
        ({"decode": FieldMapping({"body": "text"})}, "Event has no field 'body'"),
    ],
)
def test_a_task_that_cannot_work_is_refused(changes: dict[str, Any], said: str) -> None:
    """When it is declared, by name, and with what to write instead."""
    with pytest.raises(TaskError) as refused:
        declare(**changes)
    assert said in str(refused.value)


@pytest.mark.parametrize("step", [5, None, Rules(), ["haiku"]])
def test_a_route_is_made_of_steps(step: Any) -> None:
    """A tier of one's own stands in a step, and so does everything but a model's name."""
    with pytest.raises(TaskError, match=r"write a model's name or Step\("):
        Route("haiku", step)


def test_the_refusal_names_the_task() -> None:
    """Several tasks stand in one module."""
    with pytest.raises(TaskError, match=r"^Task 'labels': order="):
        declare(order="fifo")


@pytest.mark.parametrize(
    ("accept", "confidence", "stands"),
    [
        ("unsure", "unsure", True),
        ("likely", "unsure", False),
        ("likely", "likely", True),
        ("sure", "likely", False),
        ("sure", "sure", True),
        ({"bad": "sure"}, "likely", False),
        ({"good": "sure"}, "unsure", True),
        ({"good": "unsure", "*": "sure"}, "likely", False),
    ],
)
def test_a_step_keeps_what_is_certain_enough(accept: Any, confidence: Any, stands: bool) -> None:
    """By bin, per value where given; a value that is not named needs what `*` says, else nothing."""
    assert Step("haiku", accept=accept, by="label").accepts(Verdict(label="bad"), confidence) is stands
