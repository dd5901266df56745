"""What a user declares: a task, its route and its hooks. Everything is checked here, when it is declared.

[task] → intake → batcher → cascade
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel

from penstock.errors import TaskError
from penstock.outcome import CONFIDENCES, Confidence
from penstock.record import Record
from penstock.tier import Tier

InputT = TypeVar("InputT", bound=BaseModel)
OutputT = TypeVar("OutputT", bound=BaseModel)

Decode = Callable[[Record, type[BaseModel]], BaseModel]
"""Bytes to the user's model: see `penstock.codecs`. Raises ValueError where the bytes are not one; `Skip` to pass,
`Erase` to delete."""

StartFrom = Literal["latest", "earliest"] | datetime
Order = Literal["none", "key"]
PastDeadline = Literal["answer", "bury"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class Step:
    """One tier of a route. An answer weaker than `accept` goes on to the next step; the last step accepts all.

    `accept` may be given per value of one output field, where some answers need more certainty than others:
    `Step("haiku", accept={"reject": "sure", "*": "likely"}, by="decision")`.
    """

    tier: str | Tier
    """A Claude model's alias or id (`haiku`, `sonnet`, `opus`, `claude-haiku-5-5`) or a tier of your own."""
    accept: Confidence | dict[str, Confidence] = "unsure"
    by: str = ""
    """The output field whose value chooses among the entries of `accept`."""

    @property
    def name(self) -> str:
        """The tier's name, as it stands on results."""
        return self.tier if isinstance(self.tier, str) else str(getattr(self.tier, "name", self.tier))

    def accepts(self, output: Any, confidence: Confidence) -> bool:
        """Whether this answer may stand."""
        needed = self.accept
        if isinstance(needed, dict):
            needed = needed.get(str(getattr(output, self.by, "")), needed.get("*", "unsure"))
        return CONFIDENCES.index(confidence) >= CONFIDENCES.index(needed)


class Route:
    """Who is asked, cheapest first: `Route(Step("haiku", accept="sure"), Step("opus"))`."""

    __slots__ = ("steps",)

    def __init__(self, *steps: Step | str) -> None:
        for step in steps:
            if not isinstance(step, Step | str):
                raise TaskError(f"Route({step!r}): write a model's name or Step(<name or tier>, accept=…)")
        self.steps: tuple[Step, ...] = tuple(Step(s) if isinstance(s, str) else s for s in steps)

    def __repr__(self) -> str:
        return f"Route({', '.join(s.name for s in self.steps)})"


@dataclass(frozen=True, kw_only=True)
class Task(Generic[InputT, OutputT]):
    """A Claude task over every event of a topic.

    The consumer group has the task's name. `instructions` and the models' field names, types and descriptions are
    what Claude reads; examples and policies belong into `instructions`.
    """

    name: str = field(kw_only=False)
    reads: str
    """The topic of events."""
    input: type[InputT]
    output: type[OutputT]
    instructions: str
    route: Route = field(default_factory=lambda: Route("haiku"))
    writes: str = ""
    """The results topic; `<name>-results` unless given."""
    dead_letters: str = ""
    """Where events go that could not be answered; `<name>-dlq` unless given."""
    policy_version: str = ""
    """Stands on every result, so that a verdict can be traced to the rules in force."""
    start_from: StartFrom = "latest"
    """Where a group without offsets begins. `latest`: no surprise bill for what was there before."""
    weight: float = 1.0
    """Its part of the account's limits where tasks of one worker compete: 4 gets four times what 1 gets. What a task leaves
    unused is lent to the others."""
    order: Order = "none"
    """`key`: results of one key appear in the order of its events (calls still run side by side)."""
    event_id: str | Callable[[InputT, Record], str] = ""
    """Input field (or function) that names an event; else the `ce_id` header, `event_id`, `id`, or the position."""
    subject: str | Callable[[InputT, Record], str] = ""
    """Input field (or function) that names what the event is about, the same for all events about the same thing: an
    `Erase` erases what was made of its subject. The event's id unless given."""
    show: frozenset[str] | set[str] | None = None
    """Input fields that the model may see; all unless given."""
    max_attempts: int = 4
    """Attempts per item before it becomes a dead letter; waiting uses up none."""
    max_call_seconds: float = 120.0
    """Time inside calls per item before it becomes a dead letter."""
    max_batch_items: int = 50
    """Items that share one prompt at most."""
    latency_target_seconds: float | None = None
    """How soon after it was produced an event shall be answered. Calls are then kept so small that they take half of it,
    and items may wait for company as long as it allows; without it, `batch.max_wait_seconds`."""
    past_deadline: PastDeadline = "answer"
    """What becomes of an event whose own deadline is over before it is asked. `bury`: a dead letter (`expired`), no call."""
    decisive: frozenset[str] | set[str] | None = None
    """Output fields that make the verdict, for the quality guard; those of closed values (Literal, Enum, bool) unless given."""
    max_event_tokens: int = 20_000
    """An event with more estimated tokens becomes a dead letter (`too_large`) without a call."""
    decode: Decode | None = None
    """Bytes to `input`; JSON and CloudEvents unless given."""
    validate: Callable[[InputT, OutputT], None] | None = None
    """Raises ValueError where an output does not fit its input; the item is asked again."""
    finish: Callable[[InputT, OutputT], OutputT] | None = None
    """Last change to an output before it is published."""
    render: Callable[[InputT], Any] | None = None
    """What the model is shown of an input: any JSON value; the shown fields as an object unless given."""
    suspicious: Callable[[str], bool] | None = None
    """Says of a rendered event whether it must be asked alone; a screen for instructions to the model unless given."""

    def __post_init__(self) -> None:
        """Fill in the topics and check everything: a task that cannot work must not be declared."""
        object.__setattr__(self, "writes", self.writes or f"{self.name}-results")
        object.__setattr__(self, "dead_letters", self.dead_letters or f"{self.name}-dlq")
        _check(self)

    @property
    def group(self) -> str:
        """The consumer group: the task's name."""
        return self.name

    @property
    def retry_topic(self) -> str:
        """Where this task alone hands over what it must try again much later."""
        return f"{self.name}.retry"

    @property
    def topics(self) -> tuple[str, ...]:
        """What the task's group subscribes to."""
        return (self.reads, self.retry_topic)


def _check(task: Task[Any, Any]) -> None:
    """Say what to write instead, for everything that cannot work."""

    def need(good: object, text: str) -> None:
        if not good:
            raise TaskError(f"Task {task.name!r}: {text}")

    need(
        isinstance(task.name, str) and _NAME.fullmatch(task.name),
        "the name is also the consumer group: use letters, digits, '.', '_', '-'",
    )
    for option in ("reads", "writes", "dead_letters"):
        topic = getattr(task, option)
        need(
            isinstance(topic, str) and _NAME.fullmatch(topic),
            f"{option}={topic!r} is no topic name: use letters, digits, '.', '_', '-'",
        )
    topics = (task.reads, task.writes, task.dead_letters, task.retry_topic)
    need(
        len(set(topics)) == len(topics),
        f"reads, writes, dead_letters and the retry topic must differ, got {', '.join(topics)}",
    )
    for option in ("input", "output"):
        model = getattr(task, option)
        need(
            inspect.isclass(model) and issubclass(model, BaseModel),
            f"{option}= must be a pydantic model class, got {model!r}",
        )
    need(task.output.model_fields, "the output model has no fields")
    need(
        isinstance(task.instructions, str) and task.instructions.strip(),
        "instructions= is empty: say what Claude shall decide",
    )
    need(isinstance(task.route, Route), f"route= must be Route(Step(…), …), got {task.route!r}")
    need(task.route.steps, "the route is empty: write Route('haiku')")
    names = [step.name for step in task.route.steps]
    need(len(set(names)) == len(names), f"the route names a tier twice: {names}")
    for step in task.route.steps:
        _check_step(task, step, need)
    need(task.order in ("none", "key"), f"order={task.order!r}: write 'none' or 'key'")
    need(
        task.start_from in ("latest", "earliest") or isinstance(task.start_from, datetime),
        f"start_from={task.start_from!r}: write 'latest', 'earliest' or a datetime",
    )
    if isinstance(task.start_from, datetime):
        need(task.start_from.tzinfo, "start_from= needs a time zone: datetime(…, tzinfo=UTC)")
    _check_numbers(task, need)
    _check_fields(task, need)
    _check_hooks(task, need)


def _check_numbers(task: Task[Any, Any], need: Callable[[object, str], None]) -> None:
    for option in ("max_attempts", "max_batch_items", "max_event_tokens"):
        value = getattr(task, option)
        need(isinstance(value, int) and value >= 1, f"{option}={value!r}: a whole number of at least 1")
    weight = task.weight
    need(
        isinstance(weight, int | float) and not isinstance(weight, bool) and 0.001 <= weight <= 1_000,
        f"weight={weight!r}: a number from 0.001 to 1000",
    )
    need(
        task.past_deadline in get_args(PastDeadline), f"past_deadline={task.past_deadline!r}: write 'answer' or 'bury'"
    )
    target = task.latency_target_seconds
    need(
        target is None or (isinstance(target, int | float) and math.isfinite(target) and target > 0),
        f"latency_target_seconds={target!r}: seconds, more than 0",
    )
    seconds = task.max_call_seconds
    need(isinstance(seconds, int | float) and seconds > 0, f"max_call_seconds={seconds!r}: seconds, more than 0")


def _check_step(task: Task[Any, Any], step: Step, need: Callable[[object, str], None]) -> None:
    need(
        isinstance(step.tier, str) or isinstance(step.tier, Tier),
        f"a step's tier is a model's name or a tier with name, answer, capacity and close; got {step.tier!r}",
    )
    accepted = step.accept.values() if isinstance(step.accept, dict) else (step.accept,)
    for confidence in accepted:
        need(
            confidence in CONFIDENCES, f"Step({step.name!r}, accept={confidence!r}): write 'sure', 'likely' or 'unsure'"
        )
    if isinstance(step.accept, dict):
        need(
            step.by in task.output.model_fields,
            f"Step({step.name!r}, accept={{…}}) needs by='<output field>'; {task.output.__name__} has {', '.join(task.output.model_fields)}",
        )
        annotation = task.output.model_fields[step.by].annotation
        values = {str(value) for value in get_args(annotation)} if get_origin(annotation) is Literal else set()
        strangers = sorted(set(step.accept) - values - {"*"}) if values else []
        need(
            not strangers,
            f"Step({step.name!r}, accept={{…}}) names {strangers}, which {step.by} never is: write {', '.join(sorted(values))} or '*'",
        )


def _check_fields(task: Task[Any, Any], need: Callable[[object, str], None]) -> None:
    fields, name = task.input.model_fields, task.input.__name__
    if task.show is not None:
        need(
            task.show and not isinstance(task.show, str), f"show={task.show!r}: a set of fields of {name}, at least one"
        )
        unknown = sorted(set(task.show) - set(fields))
        need(not unknown, f"show= names fields that {name} lacks: {unknown}; it has {', '.join(fields)}")
    if task.decisive is not None:
        outputs = task.output.model_fields
        need(
            task.decisive and not isinstance(task.decisive, str) and set(task.decisive) <= set(outputs),
            f"decisive={task.decisive!r}: a set of fields of {task.output.__name__}, at least one; it has {', '.join(outputs)}",
        )
    for option in ("event_id", "subject"):
        value = getattr(task, option)
        if isinstance(value, str):
            need(not value or value in fields, f"{option}={value!r} is no field of {name}; it has {', '.join(fields)}")
        else:
            need(callable(value), f"{option}={value!r}: a field of {name} or a function (input, record)")


def _check_hooks(task: Task[Any, Any], need: Callable[[object, str], None]) -> None:
    for hook in ("decode", "validate", "finish", "render", "suspicious"):
        value = getattr(task, hook)
        need(value is None or callable(value), f"{hook}= must be a function, got {value!r}")
    check = getattr(task.decode, "check", None)
    if check is not None:  # a codec that names fields of the input says here which of them are missing
        check(task.input)
