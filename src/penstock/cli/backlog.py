"""What waits for the tasks of a run, what answering it will cost, and the user's yes to it.

log → [backlog] → run
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.console import tell
from penstock.cli.failures import FAILED
from penstock.errors import SettingsError
from penstock.ops.groups import duration

if TYPE_CHECKING:
    from penstock.flow.ceilings import SpendOptions
    from penstock.log.base import EventLog
    from penstock.planning.plan import Planned
    from penstock.settings import Settings
    from penstock.task import Task

ASK_FROM_EVENTS = 10_000


async def plans_of(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> list[Planned]:
    """Per task with a long backlog: what it would cost."""
    from penstock.flow.backlog import measure
    from penstock.planning.known import Known
    from penstock.planning.plan import make_plan
    from penstock.planning.sample import sample_of

    long = []
    for task in tasks:
        backlog = await measure(log, task)
        if backlog.events > ASK_FROM_EVENTS:
            sample = sample_of(task, backlog.sample)
            long.append(make_plan(settings, task, sample, Known(), backlog.events, partitions=backlog.partitions))
    return long


def tell_plans(plans: Sequence[Planned], spend: SpendOptions) -> None:
    """What waits and what it costs, in plain words."""
    for planned in plans:
        plan = planned.plan
        tell(f"{planned.task}: {planned.events:,} events wait")
        if not planned.asks_claude:
            tell("  its route asks no Claude model, so that it costs nothing")
            continue
        first = next(step for step in planned.route.steps if step.family)
        dear = plan.worst.usd > plan.best.usd * 1.001
        tell(f"  about ${plan.best.usd:,.2f} if {first.name} answers all" + (f", up to ${plan.worst.usd:,.2f} if every event is escalated to the end" if dear else ""))  # fmt: skip
        tell(
            f"  at least {duration(plan.best.flow_seconds)} within your limits; what binds first: {planned.bound_of(plan.best.flow)}"
        )
    ceilings = ", ".join(f"{ceiling.setting}=${ceiling.usd:,.2f}" for ceiling in spend.ceilings())
    held = f"all workers together keep to {ceilings}" if ceilings else "no ceiling is set in [spend]"
    tell(f"An estimate from a sample of the backlog (penstock plan tells more); {held}.")


def need_yes(plans: Sequence[Planned], spend: SpendOptions, *, says_yes: bool) -> None:
    """A long backlog is answered only if the user wants to pay for it."""
    if not plans:
        return
    tell_plans(plans, spend)
    if says_yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(
            "say --yes to answer this backlog, or start_from='latest' under another task name to leave it"
        )
    import typer

    if not typer.confirm("Answer them?", err=True):
        tell("nothing was asked")
        raise typer.Exit(FAILED)
