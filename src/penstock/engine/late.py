"""Answers that nobody waits for any more: their items are let go, and what they cost is counted as waste.

tier → pipeline → [late] → commit
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.tier import ERASED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine.cascade import Ending
    from penstock.engine.checkpoint import Checkpoint
    from penstock.engine.commit import Committer
    from penstock.engine.intake import Intake
    from penstock.outcome import Outcome
    from penstock.tier import Item


def without_late(
    items: Sequence[Item],
    outcomes: Sequence[Outcome],
    checkpoint: Checkpoint[Ending],
    committer: Committer,
    intake: Intake,
) -> tuple[list[Item], list[Outcome]]:
    """What is left when the items are taken out whose partitions are ours no longer, or that were erased."""
    kept: list[tuple[Item, Outcome]] = []
    for item, outcome in zip(items, outcomes, strict=True):
        if item.epoch == checkpoint.epoch(item.partition):
            kept.append((item, outcome))
            continue
        charges = [outcome.charge] if outcome.charge else []
        if item.epoch == ERASED:  # what it cost before went with the erasure
            committer.waste(charges, "erased while it was asked")
        else:
            committer.give_up(item.own_charges + charges, "answered after the partition was lost")
        intake.release(item)
    return [item for item, _ in kept], [outcome for _, outcome in kept]
