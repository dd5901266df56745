"""What waits for the tasks of a run, what answering it will cost, and the user's yes to it.

log → [backlog] → run
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.console import tell
from penstock.cli.failures import FAILED
from penstock.cli.status import duration
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.claude.models import Model, Models
    from penstock.flow.ceilings import SpendOptions
    from penstock.flow.limits import LimitOptions
    from penstock.flow.plan import Backlog, Plan, StepCost
    from penstock.log.base import EventLog
    from penstock.record import Record
    from penstock.settings import Settings
    from penstock.task import Step, Task

ASK_FROM_EVENTS = 10_000
THINKING_TOKENS_PER_CALL = 1_000


async def plans_of(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> list[tuple[str, Plan]]:
    """Per task with a long backlog: what it would cost."""
    from penstock.flow.plan import measure

    long = []
    for task in tasks:
        backlog = await measure(log, task, _tokens_as_shown(task))
        if backlog.events > ASK_FROM_EVENTS:
            long.append((task.name, plan_of(settings, task, backlog)))
    return long


def plan_of(settings: Settings, task: Task[Any, Any], backlog: Backlog) -> Plan:
    """The estimate for one task: its own prompt and reply schema, the models' prices, the account's limits."""
    from penstock.flow.plan import plan

    by_tokens = settings.batch.max_tokens / max(1.0, backlog.mean_tokens)
    steps = [_step_cost(settings, task, step) for step in task.route.steps if isinstance(step.tier, str)]
    return plan(backlog, steps, items_per_call=min(task.max_batch_items, by_tokens))


def _step_cost(settings: Settings, task: Task[Any, Any], step: Step) -> StepCost:
    from penstock.claude.models import Models
    from penstock.claude.prompt import Prompt
    from penstock.flow.plan import StepCost

    models = Models.load(settings.claude.prices_file)
    model = models.resolve(step.name)
    prompt = Prompt(task, model, effort=settings.claude.effort, cache_ttl=settings.claude.cache_ttl)
    limits = _limits_of(settings, models, model.family)
    return StepCost(
        step.name,
        lambda fresh, cached, output: _usd(model, fresh, cached, output),
        prompt_tokens=prompt.tokens,
        reply_tokens_per_event=prompt.form.size.typical,
        requests_per_minute=limits.requests_per_minute,
        input_tokens_per_minute=limits.input_tokens_per_minute,
        output_tokens_per_minute=limits.output_tokens_per_minute,
        is_cached=prompt.tokens >= model.min_cacheable_tokens,
        reply_tokens_per_call=THINKING_TOKENS_PER_CALL if model.thinks(settings.claude.effort) else 0,
    )


def _limits_of(settings: Settings, models: Models, family: str) -> LimitOptions:
    """`[limits.<name>]` may name a family or one of its models; `default` serves the others."""
    from penstock.flow.limits import LimitOptions

    for name, limits in settings.limits.items():
        known = models.rows.get(models.aliases.get(name, name))
        if name == family or (known is not None and known.family == family):
            return limits
    return settings.limits.get("default", LimitOptions())


def _usd(model: Model, fresh: int, cached: int, output: int) -> float:
    from penstock.claude.models import Tokens

    return model.cost_nanousd(Tokens(input=fresh, cache_read=cached, output=output)) / 1e9


def _tokens_as_shown(task: Task[Any, Any]) -> Callable[[Record], int]:
    """As the engine will count them: what the model is shown; nothing for events that it will never be asked about."""
    from penstock.engine.reader import Reader
    from penstock.record import Partition

    reader = Reader(task)

    def tokens(record: Record) -> int:
        item, ended = reader.read(record, Partition(record.topic, record.partition))
        return 0 if ended is not None else item.tokens

    return tokens


def tell_plans(plans: Sequence[tuple[str, Plan]], spend: SpendOptions) -> None:
    """What waits and what it costs, in plain words."""
    for name, plan in plans:
        tell(f"{name}: {plan.events:,} events wait")
        if not plan.steps:
            tell("  its route asks no Claude model, so that it costs nothing")
            continue
        first, dear = plan.steps[0], plan.usd_high > plan.usd_low
        tell(f"  about ${plan.usd_low:,.2f} if {first.name} answers all" + (f", up to ${plan.usd_high:,.2f} if every event is escalated to the end" if dear else ""))  # fmt: skip
        tell(
            f"  at least {duration(plan.seconds_low)} within your limits; what binds first: {first.bound_by} per minute"
        )
    ceilings = ", ".join(f"{ceiling.setting}=${ceiling.usd:,.2f}" for ceiling in spend.ceilings())
    held = f"all workers together keep to {ceilings}" if ceilings else "no ceiling is set in [spend]"
    tell(f"An estimate from a sample of the backlog; {held}.")


def need_yes(plans: Sequence[tuple[str, Plan]], spend: SpendOptions, *, says_yes: bool) -> None:
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
