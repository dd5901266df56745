"""What one attempt at one item ended in: a value, never an exception.

cascade → tier → [outcome] → checkpoint
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Confidence = Literal["sure", "likely", "unsure"]
"""A bin, never a number out of a model's mouth; bins become probabilities only by calibration."""

CONFIDENCES: tuple[Confidence, ...] = ("unsure", "likely", "sure")
"""From weak to strong."""

FailureReason = Literal[
    "undecodable",  # the bytes are not the task's input
    "too_large",  # one event is more than a call (or a record) may carry
    "rejected",  # the API rejects this event by itself
    "refused",  # every model of the route declined to answer
    "invalid_output",  # no valid answer within the task's attempts
    "timed_out",  # the time inside calls is used up
    "server_error",  # the API fails on this event while it answers others
    "expired",  # its deadline was over before it could be asked, and the task wants no late answer
    "over_budget",  # a ceiling of ours was reached, and the settings say not to wait
    "hook_failed",  # a hook of the task raised
]
"""Bounded, so that it can label metrics."""

AgainReason = Literal[
    "rate_limited",  # a bucket is empty or the API said 429
    "overloaded",  # 529, 503: the API sheds load
    "unreachable",  # no connection, or cut: the call may have been billed
    "spend_cap",  # a ceiling of ours or of the account
    "busy",  # no room in the tier at this moment
    "server_error",  # 500, 504
    "timed_out",  # this call ran out of time
    "missing",  # the reply has no (valid) entry under this item's id
    "invalid_output",  # the entry does not satisfy the output model or the task's own check
    "truncated",  # the reply ended before this item
    "refused",  # the whole batch was declined
    "rejected",  # the whole batch was rejected
]

WEATHER: frozenset[AgainReason] = frozenset({"rate_limited", "overloaded", "unreachable", "spend_cap", "busy"})
"""Waiting is not failing (law 5): these use up no attempt."""


class Charge(NamedTuple):
    """One item's exact share of one billed call: over all items of a call the shares add up to the call's bill."""

    call_id: str
    """The API's request id."""
    model: str
    nanousd: int
    """Billionths of a dollar."""
    input_tokens: int
    """Uncached input."""
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Responder:
    """Who answered. One object serves all items of a call."""

    tier: str
    """The name in the task's route."""
    model: str = ""
    """The model's id as the API reported it; empty where no model answered (rules)."""
    prompt: str = ""
    """Version of prompt, schema and policy together: a short hash."""
    simulated: bool = False


@dataclass(slots=True)
class Answer:
    """A valid output. `output` is an instance of the task's output model.

    Not to be changed, though it is not frozen: one is made for every event, and a frozen one takes four times as long.
    """

    output: Any
    confidence: Confidence
    by: Responder
    charge: Charge | None = None
    json: bytes = b""
    """`output` as JSON, where it is known already: then it is not made once more."""


@dataclass(frozen=True, slots=True)
class Failure:
    """This tier will never answer this item. `detail` is for people and holds no text of the event."""

    reason: FailureReason
    detail: str
    charge: Charge | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Not this time. `after_seconds` from now; `split` asks for the batch to be halved until the culprit stands alone."""

    reason: AgainReason
    after_seconds: float = 0.0
    detail: str = ""
    split: bool = False
    charge: Charge | None = None
    counts: bool | None = None
    """Whether an attempt is used up; None: as the reason says."""

    @property
    def is_attempt(self) -> bool:
        """True where this uses up one of the item's attempts."""
        return self.reason not in WEATHER if self.counts is None else self.counts


@dataclass(frozen=True, slots=True)
class Deferred:
    """The final answer takes hours (a person, the half-price lane): a provisional one ends the offset."""

    provisional: Answer
    lane: str
    charge: Charge | None = None


Outcome = Answer | Failure | Again | Deferred


def share(total_nanousd: int, weights: Sequence[int]) -> list[int]:
    """Divide a bill over items by weight so that the parts are whole and add up to the total exactly.

    >>> share(10, [1, 1, 1])
    [3, 3, 4]
    """
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    due = [total_nanousd * seen // whole for seen in accumulate(weights)]
    return [upto - before for before, upto in pairwise([0, *due])]


def with_charge(outcome: Outcome, charge: Charge | None) -> Outcome:
    """The same outcome, charged."""
    return replace(outcome, charge=charge)
