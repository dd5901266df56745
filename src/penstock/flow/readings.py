"""What the gate knows as samples of the declared metrics.

gate → [readings] → exposition
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.flow.gate import Gate
from penstock.flow.limits import Grant
from penstock.flow.spend import Spend
from penstock.flow.standing import WARN_AT
from penstock.telemetry import metrics as m
from penstock.telemetry.sample import Sample

_NANO = 1e-9


def gate_samples(gate: Gate) -> Iterator[Sample]:
    """Limits, shares, waits and outages of every family that was asked so far."""
    accounts: set[tuple[str, str]] = set()
    for grant in gate.limits.grants():
        account = (grant.family, grant.kind)
        if account not in accounts:
            accounts.add(account)
            yield Sample(m.LIMIT, account, grant.limit / 60.0)
            if grant.level is not None:
                yield Sample(m.LIMIT_LEVEL, account, grant.level)
        yield from _share(grant)
    for family, kind, count in gate.limits.refusals():
        yield Sample(m.LIMIT_REFUSALS, (family, kind), count)
    for (family, cause), count in gate.waits.items():
        yield Sample(m.LIMIT_WAITS, (family, cause), count)
    for family, calls in gate.concurrency.families().items():
        yield Sample(m.LIMIT_CALLS, (family,), int(calls.limit))
    for family, breaker in gate.breakers().items():
        yield Sample(m.OUTAGE, (family,), int(breaker.is_holding))


def spend_samples(spend: Spend) -> Iterator[Sample]:
    """Every ceiling over all workers, and what this process knows of calls that are not settled."""
    yield Sample(m.SPEND_RESERVED, (), spend.reserved_nanousd * _NANO)
    yield Sample(m.SPEND_UNCONFIRMED, (), spend.unconfirmed_nanousd * _NANO)
    for standing in spend.standings():
        ceiling = standing.ceiling
        labels = (ceiling.scope, ceiling.name, ceiling.period)
        yield Sample(m.SPEND_CEILING, labels, ceiling.usd)
        yield Sample(m.SPEND_PERIOD, labels, (standing.spent + standing.unconfirmed) * _NANO)
        yield Sample(m.SPEND_MARGIN, labels, standing.margin * _NANO)
        yield Sample(m.SPEND_RESERVE, labels, standing.reserve * _NANO)
        for part in WARN_AT:
            yield Sample(m.SPEND_WARNINGS, (*labels, f"{part:g}"), spend.warnings.counts[ceiling, part])


def _share(grant: Grant) -> Iterator[Sample]:
    labels = (grant.task, grant.family, grant.kind)
    if grant.kind == "requests":
        yield Sample(m.LIMIT_BASE, (grant.task, grant.family), grant.base)
    yield Sample(m.LIMIT_GRANTED, labels, grant.granted)
    yield Sample(m.LIMIT_BORROWED, labels, grant.borrowed)
    yield Sample(m.LIMIT_USED, labels, grant.used)
