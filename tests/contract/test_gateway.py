"""The gateway on every log: what it accepts is there once, and what becomes of it is told."""

from __future__ import annotations

import asyncio

import pytest

from contract.log_fixtures import all_records, unique
from fakes import ScriptedTier, running
from gateway_calls import Verdict, options_in, order, order_task, serving
from penstock import Answer, Responder, Route, Step
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions

AT_ONCE = PipelineOptions(commit_interval_seconds=0.0, batch=BatchLimits(max_wait_seconds=0.01))


def answering(task, log) -> Pipeline:
    return Pipeline(task, [step.tier for step in task.route.steps], log, AT_ONCE)


def answers(tier: ScriptedTier, items: list) -> list:
    return [Answer(Verdict(), "sure", Responder("scripted", "model"), tier.charge()) for _ in items]


@pytest.fixture
def task():
    route = Route(Step(ScriptedTier(script=answers)))
    return order_task(unique("checker"), unique("orders"), route=route, start_from="earliest")


async def test_fifty_at_once_are_one_event(tmp_path, open_log, task):
    """One Idempotency-Key at the same moment at two gateways of one machine: one event in the log."""
    options = options_in(tmp_path)
    async with serving(open_log(), options, task) as one, serving(open_log(), options, task) as two:
        calls = [client.post(order(1), idempotency_key="once") for client in (one, two) * 25]
        answered = await asyncio.gather(*calls)
        assert {status for status, _, _ in answered} == {202}
        assert sum(not told["repeated"] for _, told, _ in answered) == 1
        assert len(await all_records(open_log(), task.reads)) == 1


async def test_batches_are_there_and_their_verdicts_come(tmp_path, open_log, task):
    """A batch of each kind is in the log before 202; `?wait=` gives the verdict of each event when it is committed."""
    log = open_log()
    async with serving(log, options_in(tmp_path), task) as client:
        status, told, _ = await client.post([order(n) for n in range(30)])
        assert (status, told["accepted"]) == (202, 30)
        assert len(await all_records(open_log(), task.reads)) == 30
        async with running(answering(task, open_log())):
            states = await asyncio.gather(*(client.get(f"o-{n}", wait="30s") for n in range(30)))
        assert {told["state"] for _, told in states} == {"answered"}
        assert (await client.post([order(n) for n in range(30)]))[1]["repeated"] == 30
