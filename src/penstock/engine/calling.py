"""Calls a tier once and makes sure that there is an outcome for every item, whatever the tier does.

cascade → [calling] → tier
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from penstock.errors import TierStopped
from penstock.outcome import Again, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.engine.stage import Stage
    from penstock.task import Task
    from penstock.tier import Item

logger = logging.getLogger("penstock.engine")


async def answer(
    stage: Stage, task: Task[Any, Any], items: Sequence[Item], stop: Callable[[BaseException], None]
) -> Sequence[Outcome]:
    """One attempt. `stop` is told where no call can succeed any more."""
    try:
        outcomes = await stage.tier.answer(task, items)
    except TierStopped as error:
        stop(error)
        return [Again("busy") for _ in items]
    except Exception as error:
        logger.exception("tier %s raised: its items are asked again", stage.step.name)
        return [Again("server_error", detail=f"the tier raised {type(error).__name__}", counts=True) for _ in items]
    if len(outcomes) != len(items):
        detail = f"tier {stage.step.name} gave {len(outcomes)} outcomes for {len(items)} items"
        logger.error("%s: all are asked again", detail)
        return [Again("invalid_output", detail=detail) for _ in items]
    return outcomes
