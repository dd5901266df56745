"""What the gate knows as samples of the declared metrics.

gate → [readings] → exposition
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.flow.gate import Gate
from penstock.flow.limits import Grant
from penstock.telemetry import metrics as m
from penstock.telemetry.sample import Sample


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


def _share(grant: Grant) -> Iterator[Sample]:
    labels = (grant.task, grant.family, grant.kind)
    if grant.kind == "requests":
        yield Sample(m.LIMIT_BASE, (grant.task, grant.family), grant.base)
    yield Sample(m.LIMIT_GRANTED, labels, grant.granted)
    yield Sample(m.LIMIT_BORROWED, labels, grant.borrowed)
    yield Sample(m.LIMIT_USED, labels, grant.used)
