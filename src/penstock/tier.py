"""The contract of who may answer: Claude models, a user's own rules, later a learned classifier.

cascade → [tier] → outcome
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.outcome import Answer, Charge, Outcome
    from penstock.record import Partition, Record
    from penstock.task import Task

HIGH, NORMAL, LOW = 0, 1, 2
"""Priorities of items: the smaller the sooner."""
ERASED = -1
"""The epoch of an item that was erased while it was asked."""


class Item:
    """A record read as one task's input, in flight. The engine keeps its books here; tiers only read."""

    __slots__ = (
        "answered_ms",
        "asked_ms",
        "attempts",
        "calls_seconds",
        "carried",
        "charges",
        "deadline_ms",
        "epoch",
        "event_id",
        "input",
        "not_before_ms",
        "offset",
        "partition",
        "place",
        "priority",
        "record",
        "size",
        "standing",
        "step",
        "subject",
        "suspicious",
        "taken_ms",
        "text",
        "tokens",
        "tries",
        "waits_since",
    )

    def __init__(self, record: Record, partition: Partition, event_id: str, input: Any, text: str, tokens: int) -> None:  # noqa: A002
        self.record = record
        self.partition = partition
        self.event_id = event_id
        self.input = input
        """An instance of the task's input model; None once nobody will look at it."""
        self.text = text
        """What a model is shown: one JSON value on one line (see `Task.render`)."""
        self.tokens = tokens
        """Estimated input tokens of `text`."""
        self.suspicious = False
        """Looks as if it addressed the model: asked alone (law 8)."""
        self.subject = ""
        """What the event is about (`Task.subject`); empty where that could not be read."""
        self.priority = NORMAL
        self.deadline_ms = 0
        """When its producer wants it answered, in Unix time; 0: no matter when."""
        self.waits_since = 0.0
        """For the tier that it waits for (`time.monotonic()`)."""
        self.place = 0
        """In the line of that tier."""
        self.step = 0
        """Index of the route's step that has it now."""
        self.attempts = 0
        """Attempts used up over all steps; waiting uses up none."""
        self.tries = 0
        """Attempts in a row that brought nothing at this step."""
        self.standing: Answer | None = None
        """The answer of an earlier step that was not sure enough: better than a dead letter."""
        self.offset = record.offset
        """The offset that its ending resolves; for a record of the retry topic not the event's own."""
        self.size = 0
        """Bytes of the record as it was read: for a hand-over with what it remembers."""
        self.calls_seconds = 0.0
        """Time spent inside calls, the only time that counts against the task's deadline."""
        self.charges: list[Charge] = []
        """What this item has cost so far, in every call it was part of."""
        self.carried = 0
        """How many of them stand on its record already: a hand-over's, which keeps them whatever becomes of this worker."""
        self.epoch = 0
        """Which ownership of the partition it belongs to; `ERASED` where its answer is not wanted any more."""
        self.not_before_ms = 0
        """From a hand-over: not to be asked before then."""
        self.taken_ms = 0
        self.asked_ms = 0
        self.answered_ms = 0

    @property
    def own_charges(self) -> list[Charge]:
        """What is lost with this item, where its offset stays unresolved."""
        return self.charges[self.carried :]


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much one call may hold now. With `items == 0`: why not, and until when (`time.monotonic()` seconds) if known."""

    items: int
    tokens: int = 1_000_000
    """Estimated input tokens of the events of one call."""
    cause: str = ""
    """Bounded vocabulary: requests, input_tokens, output_tokens, retry_after, concurrency, cold_cache, claim, spend,
    spend_cap, outage, stopped."""
    until: float | None = None
    at_ceiling: Literal["", "cheaper", "bury"] = ""
    """With `spend`: items are not to wait. Those with an answer of a cheaper step end with it; the others are dead letters
    (`bury`) or wait all the same (`cheaper`)."""
    detail: str = ""
    """With `spend`: which ceiling, for people."""


class Held(NamedTuple):
    """Why a tier makes no call now, more exactly than `Capacity` must say it. Times are `time.monotonic()`."""

    cause: str
    since: float
    until: float | None
    """When it goes on by what is known; None where nobody knows."""
    next_try: float | None = None
    """Where a trial decides: when it is made."""
    family: str = ""
    """Whose limits they are."""


@runtime_checkable
class Explains(Protocol):
    """A tier that knows more about its waits than cause and time. Optional."""

    def explain(self, task: Task[Any, Any]) -> Held | None:
        """Why no call is made now, looked at anew; None where one could be."""
        ...


@runtime_checkable
class Tier(Protocol):
    """Someone who may answer. `answer` makes **one attempt** and never raises for weather or for an item's fault."""

    name: str

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        """One attempt: an outcome per item, same length, same order.

        Raises `TierStopped` where no call can succeed until a person acts. Cancelling it abandons the call.
        """
        ...

    def capacity(self, task: Task[Any, Any]) -> Capacity:
        """What a call may hold now; cheap, called before every batch."""
        ...

    async def close(self) -> None:
        """Give back connections. Called once, when nothing is in flight."""
        ...


def reads_input(tier: Tier) -> bool:
    """Whether a tier looks at `Item.input`. One that only shows `Item.text` to somebody may say `reads_input = False`."""
    return bool(getattr(tier, "reads_input", True))
