"""Adds up what a call brought: outcomes by kind, tokens and dollars by model. Once for all items of the call.

cascade → tier → [tally] → counts
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.outcome import CONFIDENCES, Again, Answer, Charge, Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.telemetry.counts import Counts


def tally(counts: Counts, tier: str, outcomes: Sequence[Outcome], seconds: float) -> None:
    """A call ended."""
    found = counts.tiers[tier]
    found.call_seconds.observe(seconds)
    # By columns, not item by item: this runs for every event.
    confidences = [outcome.confidence for outcome in outcomes if type(outcome) is Answer]
    for confidence in CONFIDENCES:
        count = confidences.count(confidence)
        if count:
            found.outcomes["answer", confidence] += count
    if len(confidences) < len(outcomes):
        found.outcomes.update(_kind(outcome) for outcome in outcomes if type(outcome) is not Answer)
    charges = [outcome.charge for outcome in outcomes if outcome.charge is not None]
    if charges:
        bill(counts, charges)


def _kind(outcome: Outcome) -> tuple[str, str]:
    if isinstance(outcome, Failure):
        return "failure", outcome.reason
    if isinstance(outcome, Again):
        return "again", outcome.reason
    return "deferred", ""


def bill(counts: Counts, charges: Sequence[Charge]) -> None:
    """All shares of one call are of one model."""
    _, (model, *_), nanousd, *tokens = zip(*charges, strict=True)
    counts.billed_nanousd[model] += sum(nanousd)
    for name, amounts in zip(("input", "cache_write", "cache_read", "output"), tokens, strict=True):
        counts.tokens[model, name] += sum(amounts)
