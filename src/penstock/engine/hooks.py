"""Puts every tier's answers through the task's hooks: `validate`, then `finish`.

tier → [hooks] → cascade
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.outcome import Again, Answer, Charge, Failure, Outcome

if TYPE_CHECKING:
    from penstock.task import Task
    from penstock.tier import Item

_OVERLAP_CHARS = 16
_DETAIL_CHARS = 300


def has_hooks(task: Task[Any, Any]) -> bool:
    """Whether a hook is shown the event once it is answered."""
    return task.validate is not None or task.finish is not None


def through_hooks(task: Task[Any, Any], item: Item, answer: Answer) -> Outcome:
    """An answer that `validate` refuses is asked again; a hook that breaks ends its own item only."""
    output, charge = answer.output, answer.charge
    if not has_hooks(task) and isinstance(output, task.output):
        return answer
    hook = "validate"
    try:
        if task.validate is not None:
            task.validate(item.input, output)
        hook = "finish"
        if task.finish is not None:
            output = task.finish(item.input, output)
    except Exception as error:  # noqa: BLE001 - the user's code
        if hook == "validate" and isinstance(error, ValueError):
            return Again("invalid_output", detail=_without_text_of(item, str(error)), charge=charge)
        return _failed(f"{hook} raised {type(error).__name__}", charge)
    if not isinstance(output, task.output):
        return _failed(f"{hook} returned {type(output).__name__} where {task.output.__name__} is wanted", charge)
    return answer if output is answer.output else replace(answer, output=output, json=b"")


def _failed(detail: str, charge: Charge | None) -> Failure:
    return Failure("hook_failed", detail, charge=charge)


def _without_text_of(item: Item, message: str) -> str:
    """A message for people, left away where it repeats a part of the event: details stand in headers and logs."""
    message = message[:_DETAIL_CHARS]
    starts = range(max(1, len(message) - _OVERLAP_CHARS + 1))
    if any(message[at : at + _OVERLAP_CHARS] in item.text for at in starts):
        return "(the message repeats text of the event)"
    return message
