"""A plan as a person reads it, and as one JSON object.

planning → [planned] → terminal
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from penstock.cli.console import line, out, table
from penstock.flow.base import KINDS
from penstock.ops.groups import duration

if TYPE_CHECKING:
    from penstock.flow.plan import Case
    from penstock.flow.steady import Flow
    from penstock.planning.plan import Planned

FORMAT = 1
"""Of `--json`: fields are added to it, never renamed or taken away."""
_MONTH_SECONDS = 30 * 86_400


def show(planned: Planned) -> None:
    """What matters first, then the steps, then what it rests on."""
    case = planned.plan.expected
    line(f"{planned.task}: {planned.events:,} events" + _unasked(planned))
    line("")
    for name, text in _headlines(planned, case):
        line(f"  {name:<12}{text}")
    if planned.asks_claude:
        _show_steps(planned)
    line("rests on")
    for text in planned.assumptions():
        line(f"  · {text}")


def _headlines(planned: Planned, case: Case) -> list[tuple[str, str]]:
    flow, plan = case.flow, planned.plan
    told = [
        ("cost", f"{usd(case.usd)} for these events, {usd(planned.usd_per_million(flow))} per million of them"),
        ("time", _time(planned, case)),
        ("speed", f"{_rate(planned.records_per_second(flow))} at most, with {_count(planned.crew.busy, 'worker')}"),
        ("binds", _binds(planned, case)),
        ("workers", _workers(planned)),
    ]
    if plan.steady is not None:
        told.append(("steadily", _steadily(planned, plan.steady)))
    if planned.asks_claude and plan.worst.usd > case.usd * 1.001:
        text = f"{usd(plan.worst.usd)} and {_seconds(plan.worst.seconds)} if every event goes to the end of the route"
        told.append(("at worst", f"{text}; then {planned.bound_of(plan.worst.flow)} bind"))
    return told


def _unasked(planned: Planned) -> str:
    sample = planned.sample
    if not sample.unasked:
        return ""
    why = ", ".join(f"{count:,} {reason}" for reason, count in sample.unasked.most_common())
    text = f" (of {sample.records:,} looked at, no model is asked about {sum(sample.unasked.values()):,}: {why}"
    return text + (f"; the first: {sample.example[:120]}" if sample.example else "") + ")"


def _time(planned: Planned, case: Case) -> str:
    if not planned.events:
        return "nothing waits"
    if case.cap is not None and math.isinf(case.seconds):
        return f"never: {case.cap.name} (${case.cap.usd:,.2f}) pays {planned.paid_records(case):,} of them"
    if math.isinf(case.seconds):
        return "never: more comes in than can be answered"
    return _seconds(case.seconds)


def _binds(planned: Planned, case: Case) -> str:
    text = planned.bound_of(case.flow)
    if case.cap is not None:
        return f"the budget: {case.cap.name}, ${case.cap.usd:,.2f} (without it {text})"
    return text


def _workers(planned: Planned) -> str:
    useful, flow = planned.plan.useful_workers, planned.plan.expected.flow
    alone = _rate(flow.worker_per_second / max(planned.sample.asked_share, 1e-9))
    if math.isinf(flow.account_per_second) or useful >= planned.crew.partitions:
        why = f"each needs a partition, there are {planned.crew.partitions}"
    else:
        why = "more do not help, the account's limit binds"
    return f"{useful} useful ({why}); one alone could do {alone}"


def _steadily(planned: Planned, steady: Flow) -> str:
    comes, goes = planned.arrival_per_second, planned.records_per_second(steady)
    if goes < comes * (1 - 1e-9):
        return f"{_rate(comes)} come, {_rate(goes)} can be answered: it falls behind for ever"
    per_month = comes * _MONTH_SECONDS * planned.usd_per_million(steady) / 1e6
    items = next((step.items_per_call for step in steady.steps if step.usd_per_event), 1.0)
    return (
        f"{_rate(comes)} cost {usd(per_month / 720)} an hour, {usd(per_month)} a month "
        f"({usd(planned.usd_per_million(steady))} per million, about {items:.0f} events a call)"
    )


def _show_steps(planned: Planned) -> None:
    numbers = ("asked", "answers", "events/call", "calls", "cost", "requests", "input", "output")
    shown = table("step", *numbers, right=numbers)
    demand = planned.events * planned.sample.asked_share
    for step in planned.plan.expected.flow.steps:
        used = [f"{step.used[kind]:.0%}" if kind in step.used else "" for kind in KINDS]
        shown.add_row(
            step.name,
            f"{step.asked:.1%}",
            f"{step.answered:.1%}",
            f"{step.items_per_call:.0f}",
            f"{math.ceil(step.calls_per_event * demand - 1e-9):,}",
            usd(step.usd_per_event * demand),
            *used,
        )
    out().print(shown)
    line("asked, answers: of all events. requests, input, output: of the family's limit in use at this speed.")
    line("")


def usd(amount: float) -> str:
    """Cents where they matter."""
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.001 else f"${amount:.2g}"


def _rate(per_second: float) -> str:
    if math.isinf(per_second):
        return "any number of events/s"
    return f"{per_second:,.0f} events/s" if per_second >= 10 else f"{per_second:.2g} events/s"


def _seconds(seconds: float) -> str:
    return "never ends" if math.isinf(seconds) else duration(seconds)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_object(planned: Planned) -> dict[str, Any]:
    """Everything as numbers; what never ends is null."""
    plan, sample = planned.plan, planned.sample
    return {
        "format": FORMAT,
        "task": planned.task,
        "events": planned.events,
        "sample": {
            "records": sample.records,
            "asked": len(sample.items),
            "asked_alone": sum(item.suspicious for item in sample.items),
            "unasked": dict(sample.unasked),
            "mean_tokens": round(sample.item_tokens, 1),
        },
        "workers": {"planned": planned.crew.busy, "useful": plan.useful_workers, "partitions": planned.crew.partitions},
        "expected": _case(planned, plan.expected),
        "best": _case(planned, plan.best),
        "worst": _case(planned, plan.worst),
        "arrival": None if plan.steady is None else _arrival(planned, plan.steady),
        "limits": {
            family: {
                "requests_per_minute": found.limits.requests_per_minute,
                "input_tokens_per_minute": found.limits.input_tokens_per_minute,
                "output_tokens_per_minute": found.limits.output_tokens_per_minute,
                "from": found.origin,
                "where": found.place,
            }
            for family, found in planned.route.limits.items()
        },
        "assumptions": planned.assumptions(),
    }


def _case(planned: Planned, case: Case) -> dict[str, Any]:
    cap = None
    if case.cap is not None:
        cap = {"name": case.cap.name, "usd": case.cap.usd, "pays_events": planned.paid_records(case)}
    return {
        "usd": round(case.usd, 9),
        "seconds": None if math.isinf(case.seconds) else round(case.seconds, 3),
        "budget": cap,
        **_flow(planned, case.flow),
    }


def _arrival(planned: Planned, steady: Flow) -> dict[str, Any]:
    keeps_up = planned.records_per_second(steady) >= planned.arrival_per_second * (1 - 1e-9)
    return {"per_second": planned.arrival_per_second, "keeps_up": keeps_up, **_flow(planned, steady)}


def _flow(planned: Planned, flow: Flow) -> dict[str, Any]:
    def finite(rate: float) -> float | None:
        return None if math.isinf(rate) else round(rate, 4)

    return {
        "events_per_second": finite(planned.records_per_second(flow)),
        "usd_per_million": round(planned.usd_per_million(flow), 6),
        "binds": {"what": flow.bound.what, "family": flow.bound.family, "told": planned.bound_of(flow)},
        "account_events_per_second": finite(flow.account_per_second),
        "worker_events_per_second": finite(flow.worker_per_second),
        "steps": [
            {
                "step": step.name,
                "asked": round(step.asked, 6),
                "answers": round(step.answered, 6),
                "items_per_call": round(step.items_per_call, 2),
                "calls_per_event": round(step.calls_per_event, 6),
                "usd_per_event": step.usd_per_event,
                "of_limit": {kind: round(used, 4) for kind, used in step.used.items()},
            }
            for step in flow.steps
        ],
    }
