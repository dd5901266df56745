"""A task's plan with everything that it rests on: the figures, the limits, the mix, and what was only assumed.

sample, known, settings → [plan] → terminal, JSON
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.flow.plan import Case, Plan, plan
from penstock.planning.steps import Route, caps_of, crew_of, demand_of, route_of

if TYPE_CHECKING:
    from penstock.claude.accounts import Account
    from penstock.flow.steady import Crew, Flow
    from penstock.planning.known import Known
    from penstock.planning.sample import Sample
    from penstock.settings import Settings
    from penstock.task import Task

_BOUNDS = {
    "calls": "calls in flight of the workers (concurrency.max_calls)",
    "cpu": "the workers' CPU",
    "arrival": "nothing: it is as fast as events come",
}
_KINDS = {"requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One task's plan."""

    task: str
    events: int
    """Records, those included that no model is asked about."""
    plan: Plan
    route: Route
    crew: Crew
    sample: Sample
    known: Known
    arrival_per_second: float = 0.0
    notes: list[str] = field(default_factory=list)
    """Where the events come from, for people."""

    @property
    def asks_claude(self) -> bool:
        """Whether anything costs money."""
        return any(step.family for step in self.route.steps)

    def bound_of(self, flow: Flow) -> str:
        """What binds, in words."""
        if flow.bound.family:
            return f"{_KINDS[flow.bound.what]} per minute of {flow.bound.family}"
        return _BOUNDS[flow.bound.what]

    def usd_per_million(self, flow: Flow) -> float:
        """Of a million events as they come, those that no model is asked about among them."""
        return flow.usd_per_event * 1e6 * self.sample.asked_share

    def paid_records(self, case: Case) -> int:
        """How many events a budget pays, counted as they stand in the topic."""
        return int((case.paid_events or 0) / self.sample.asked_share) if self.sample.asked_share else 0

    def records_per_second(self, flow: Flow) -> float:
        """The same events, counted as they stand in the topic."""
        return flow.events_per_second / self.sample.asked_share if self.sample.asked_share else 0.0

    def assumptions(self) -> list[str]:
        """What the figures rest on and nobody measured."""
        told = list(self.notes)
        for family, granted in self.route.limits.items():
            limits = granted.limits
            numbers = (
                f"{limits.requests_per_minute:,} requests, {limits.input_tokens_per_minute:,} input and "
                f"{limits.output_tokens_per_minute:,} output tokens a minute"
            )
            if granted.origin == "assumed":
                told.append(f"limits of {family} are not known, assumed: {numbers} ({granted.place})")
            else:
                told.append(f"limits of {family}: {numbers} ({granted.place})")
        if self.asks_claude and self.crew.holds_seconds:
            told.append(
                f"nothing else used the account in the last {self.crew.holds_seconds:.0f} seconds: what it saved up then is spent first"
            )
        if self.crew.account_share < 1.0:
            told.append(f"this work gets {self.crew.account_share:.0%} of them (--share)")
        told += self._mix()
        told += [note for note in self.known.notes if note]
        guessed = [step.name for step in self.route.steps if step.family and step.name not in self.known.took]
        if guessed:
            told.append(
                f"length of replies of {', '.join(guessed)}: a guess from the output model, more often too long than too short; "
                "measured with --ask, or on results once there are some"
            )
        if any(step.family and step.name not in self.known.calls for step in self.route.steps):
            told.append("how long calls take: what a worker believes at its start; measured with --ask, or on results")
        told.append("failed calls, answers that must be asked for again and outages are not in it")
        return told

    def _mix(self) -> list[str]:
        told = []
        names = [step.name for step in self.route.steps]
        for step in self.route.steps[:-1]:
            source = self.route.mix[step.name]
            if source == "assumed" and step.family:
                told.append(
                    f"{step.name} answers {step.answers:.0%} of what it is asked: assumed, nothing was measured (--mix {step.name}=SHARE)"
                )
            elif source == "assumed":
                told.append(f"{step.name} answers nothing: assumed (--mix {step.name}=SHARE)")
            else:
                told.append(f"{step.name} answers {step.answers:.1%} of what it is asked: {source}")
        return told if len(names) > 1 else []


def make_plan(
    settings: Settings,
    task: Task[Any, Any],
    sample: Sample,
    known: Known,
    events: int,
    *,
    partitions: int,
    workers: int = 1,
    account: Account | None = None,
    account_share: float = 1.0,
    arrival_per_second: float = 0.0,
    budget_usd: float | None = None,
    notes: list[str] | None = None,
) -> Planned:
    """Put everything together."""
    crew = crew_of(settings, workers=workers, partitions=partitions, account_share=account_share)
    route = route_of(settings, task, sample, known, crew=crew, account=account)
    if any(found.limits.is_ceiling for found in route.limits.values()):  # nothing beyond it, whatever was saved up
        crew = replace(crew, holds_seconds=0.0)
    demand = demand_of(settings, task, sample, known, events=events, arrival_per_second=arrival_per_second)
    caps = caps_of(settings, task, account, budget_usd)
    made = plan(demand, route.steps, crew, caps)
    told = [
        f"{ceiling.setting} is not looked at: a plan has one sum for all models"
        for ceiling in settings.spend.ceilings()
        if ceiling.scope == "model"
    ]
    return Planned(task.name, events, made, route, crew, sample, known, arrival_per_second, [*(notes or []), *told])
