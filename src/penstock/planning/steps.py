"""The steps of a task's route as numbers for the plan: the same prompt, estimates, batches and prices as a worker's.

task, settings, sample, measured → [steps] → flow/plan
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.claude.models import Model, Models, Tokens
from penstock.claude.tier import ClaudeTier
from penstock.engine.pace import Pace
from penstock.flow.plan import Cap
from penstock.flow.steady import CallTokens, Crew, Demand, StepCost
from penstock.planning.limits import Granted, granted
from penstock.wiring import Claude

if TYPE_CHECKING:
    from penstock.claude.accounts import Account
    from penstock.planning.known import Known
    from penstock.planning.sample import Sample
    from penstock.settings import Settings
    from penstock.task import Step, Task
    from penstock.tier import Tier

ASSUMED_ANSWERS = 0.9
"""Of what a step is asked, where nothing better is known."""
OWN_TIER_ANSWERS = 0.0
_NANO = 1e-9
HOLDS_SECONDS = 60.0
"""The API's buckets refill up to a minute of the limit: so much an account that rested has saved up."""
MONTH_SECONDS = 30 * 86_400.0
PERIOD_SECONDS = {"hour": 3_600.0, "day": 86_400.0, "month": MONTH_SECONDS}


@dataclass(frozen=True, slots=True)
class Route:
    """A route ready for planning, and where its numbers come from."""

    steps: list[StepCost]
    limits: dict[str, Granted] = field(default_factory=dict)
    """By family."""
    mix: dict[str, str] = field(default_factory=dict)
    """By step: who says how much it answers."""


class _Nobody:
    """Stands where a client would: planning asks no one."""

    async def send(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a plan makes no calls")

    async def close(self) -> None:
        """Nothing was opened."""


def route_of(
    settings: Settings,
    task: Task[Any, Any],
    sample: Sample,
    known: Known,
    *,
    crew: Crew,
    account: Account | None = None,
) -> Route:
    """Every step with its tokens, limits, prices, batches and pace."""
    models = Models.load(settings.claude.prices_file)
    names = [step.tier for step in task.route.steps if isinstance(step.tier, str)]
    families = {models.resolve(name).family for name in names}
    limits = {
        family: granted(settings, models, family, account=account, heard=known.limits) for family in sorted(families)
    }
    told = settings.model_copy(update={"limits": {family: found.limits for family, found in limits.items()}})
    nobody: Any = _Nobody()
    claude = Claude(told, client=nobody, tasks=[task])
    claude.gate.note_share(task.name, 1, crew.busy)
    made = Route([], limits)
    for step, tier in zip(task.route.steps, claude.tiers(task), strict=True):
        answers, made.mix[step.name] = _answers(step, known)
        if isinstance(tier, ClaudeTier):
            made.steps.append(_claude_step(told, task, sample, known, tier, answers))
        else:
            made.steps.append(StepCost(step.name, answers, most_items=task.max_batch_items))
    return made


def _answers(step: Step, known: Known) -> tuple[float, str]:
    """The part of what it is asked that it ends."""
    if step.name in known.answers:
        return known.answers[step.name], known.answers_from
    if not isinstance(step.tier, str):
        return OWN_TIER_ANSWERS, "assumed"
    if step.accept == "unsure":
        return 1.0, "declared: it accepts every answer"
    return ASSUMED_ANSWERS, "assumed"


def _claude_step(
    settings: Settings, task: Task[Any, Any], sample: Sample, known: Known, tier: ClaudeTier, answers: float
) -> StepCost:
    asked, model = tier.prepare(task), tier.model
    for took in known.took.get(tier.name, ()):
        asked.expectation.believe(
            took.items,
            took.items * sample.line_tokens * took.length,
            took.tokens,
            of_items_only=took.is_without_prompt,
        )
    means = asked.expectation.means
    is_cached = asked.prompt.tokens >= model.min_cacheable_tokens
    ttl_seconds = 3600.0 if settings.claude.cache_ttl == "1h" else 300.0
    again = 1.0 + settings.guard.share
    return StepCost(
        tier.name,
        answers,
        family=model.family,
        item_tokens=sample.line_tokens * means.input_ratio * again,
        prompt_tokens=means.prompt_tokens * (1.0 if is_cached else means.input_ratio),
        reply_tokens=means.reply_tokens * again,
        limits=settings.limits[model.family],
        most_items=_most_items(settings, task, sample, tier),
        usd=_usd(model, settings.claude.cache_ttl),
        call_seconds=pace_of(task, known, tier.name).mean_seconds,
        cache_seconds=ttl_seconds if is_cached else 0.0,
    )


def _most_items(settings: Settings, task: Task[Any, Any], sample: Sample, tier: Tier) -> float:
    """As tier and batcher together let a call be."""
    capacity = tier.capacity(task)
    by_tokens = min(settings.batch.max_tokens, capacity.tokens) / max(1.0, sample.item_tokens)
    return max(1.0, min(float(capacity.items), float(task.max_batch_items), by_tokens))


def prompts_of(settings: Settings, task: Task[Any, Any]) -> set[str]:
    """The versions of the prompts that the route's models would be shown now."""
    nobody: Any = _Nobody()
    tiers = Claude(settings, client=nobody, tasks=[task]).tiers(task)
    return {tier.prepare(task).prompt.version for tier in tiers if isinstance(tier, ClaudeTier)}


def pace_of(task: Task[Any, Any], known: Known, step: str) -> Pace:
    """How long calls take: what a worker believes at its start, or what was measured."""
    pace = Pace(task.latency_target_seconds)
    for items, seconds in known.calls.get(step, ()):
        pace.learn(items, seconds)
    return pace


def _usd(model: Model, cache_ttl: str) -> Callable[[CallTokens], float]:
    def usd(tokens: CallTokens) -> float:
        written = round(tokens.written)
        billed = Tokens(
            input=round(tokens.fresh),
            cache_write_5m=0 if cache_ttl == "1h" else written,
            cache_write_1h=written if cache_ttl == "1h" else 0,
            cache_read=round(tokens.read),
            output=round(tokens.output),
        )
        return model.cost_nanousd(billed) * _NANO

    return usd


def crew_of(settings: Settings, *, workers: int, partitions: int, account_share: float = 1.0) -> Crew:
    """The workers as these settings make them."""
    return Crew(
        workers,
        max(1, partitions),
        max_calls=settings.concurrency.max_calls,
        max_items=settings.intake.max_items,
        account_share=account_share,
        ramp=settings.ramp,
        holds_seconds=HOLDS_SECONDS,
    )


def demand_of(
    settings: Settings,
    task: Task[Any, Any],
    sample: Sample,
    known: Known,
    *,
    events: int,
    arrival_per_second: float = 0.0,
) -> Demand:
    """Only events that a model is asked about cost anything or take any time."""
    wait_seconds = settings.batch.max_wait_seconds
    pace = pace_of(task, known, task.route.steps[0].name)
    share = sample.asked_share
    return Demand(
        round(events * share),
        alone=sample.alone_share,
        arrival_per_second=arrival_per_second * share,
        wait_seconds=pace.company_seconds(1, 0.0, wait_seconds),
    )


def caps_of(settings: Settings, task: Task[Any, Any], account: Account | None, budget_usd: float | None) -> list[Cap]:
    """Every ceiling that these dollars meet."""
    caps = []
    if budget_usd is not None:
        caps.append(Cap("--budget", budget_usd))
    caps += [
        Cap(ceiling.setting, ceiling.usd, PERIOD_SECONDS[ceiling.period])
        for ceiling in settings.spend.ceilings()
        if ceiling.scope == "all" or (ceiling.scope == "task" and ceiling.name == task.name)
    ]
    if account is not None:
        caps.append(Cap(f"the monthly limit of account class {account.name}", account.monthly_usd, MONTH_SECONDS))
    return caps
