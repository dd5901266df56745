"""One step of a route at work: who is asked, what waits for it, and what it is doing now.

batcher → [stage] → cascade
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.engine.batcher import Batcher
    from penstock.engine.guard import Guard
    from penstock.engine.pace import Pace
    from penstock.engine.repeating import Repeating
    from penstock.task import Step
    from penstock.tier import Tier

SPELL_GAP_SECONDS = 3.0
"""Waits of one cause with less between them are one spell of waiting, for who asks since when."""


@dataclass(slots=True)
class Stage:
    """One step of the route at work."""

    index: int
    step: Step
    tier: Tier
    batcher: Batcher
    pace: Pace
    guard: Guard | None
    """None where nothing is asked a second time."""
    repeating: Repeating
    """Calls that failed by the API's fault."""
    calls: int = 0
    """Calls in flight."""
    hold_until: float = 0.0
    """Weather: no call before then (`time.monotonic()`)."""
    cause: str = ""
    """Why it waits, while it does."""
    detail: str = ""
    """Of that wait, for people: which ceiling."""
    waits_since: float = 0.0
    waited_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By cause, of waits that are over."""
    escalated: int = 0
    """Items that went on to the next step."""
    storms: int = 0
    """Calls in a row that met weather."""
    at_ceiling: str = ""
    """Its tier has met a ceiling, and its items are not to wait for the next period (`Capacity.at_ceiling`)."""
    spell_cause: str = ""
    spell_since: float = 0.0
    """A tier at a limit waits, calls and waits again: one spell, which began then."""
    spell_until: float = 0.0
    """When its last wait ended; meaningless while it lasts."""
    look_at: float = 0.0
    """The tier is full for a time that nobody knows: when to look again by ourselves."""

    def wait_for(self, cause: str, now: float) -> None:
        """Items wait and no call is made, for this cause; "": they do not."""
        if cause == self.cause:
            return
        if self.cause:
            self.waited_seconds[self.cause] += now - self.waits_since
            self.spell_until = now
        if cause and (cause != self.spell_cause or now - self.spell_until > SPELL_GAP_SECONDS):
            self.spell_cause, self.spell_since = cause, now
        self.cause, self.waits_since = cause, now
