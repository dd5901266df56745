"""What is known beyond what task and settings declare: measured on results, by a trial, or said by the user.

[known] → steps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.claude.models import Tokens
from penstock.errors import SettingsError
from penstock.flow.limits import LimitOptions


class Took(NamedTuple):
    """What so many items of one step took together."""

    items: int
    tokens: Tokens
    length: float = 1.0
    """Of the average one of them, to the sample's."""
    is_without_prompt: bool = False
    """Only what the items themselves took is known."""


@dataclass(slots=True)
class Known:
    """Empty: everything is estimated from the declarations."""

    answers: dict[str, float] = field(default_factory=dict)
    """By step, the part of what it is asked that it ends."""
    answers_from: str = ""
    took: dict[str, list[Took]] = field(default_factory=dict)
    calls: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By step: items and seconds."""
    limits: dict[str, LimitOptions] = field(default_factory=dict)
    """By family, as the API told them."""
    notes: list[str] = field(default_factory=list)
    """For people: where all this comes from."""


def answers_of(shares: Mapping[str, float], steps: Sequence[str]) -> dict[str, float]:
    """From parts of all events to parts of what comes to a step; the last one ends what is left."""
    left, answers = 1.0, {}
    for step in steps[:-1]:
        share = shares.get(step, 0.0)
        answers[step] = min(1.0, share / left) if left > 1e-9 else 1.0
        left -= share
    return answers


def read_mix(given: Sequence[str], steps: Sequence[str]) -> dict[str, float]:
    """`--mix haiku=0.9`: the part of all events that each step answers."""
    shares: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in steps:
            raise SettingsError(f"--mix {text}: the route has no step {name!r}; it has {', '.join(steps)}")
        try:
            share = float(number)
        except ValueError:
            raise SettingsError(f"--mix {text}: write STEP=SHARE, for example {name}=0.9") from None
        if not 0.0 <= share <= 1.0:
            raise SettingsError(f"--mix {text}: a share is 0 to 1")
        shares[name] = share
    if sum(shares.values()) > 1.0 + 1e-9:
        raise SettingsError(f"--mix: together the steps answer {sum(shares.values()):.0%} of the events, more than all")
    if len(shares) == len(steps) and sum(shares.values()) < 1.0 - 1e-6:
        raise SettingsError(
            f"--mix: together the steps answer {sum(shares.values()):.0%} of the events; {steps[-1]} answers what is left, leave it out"
        )
    return shares
