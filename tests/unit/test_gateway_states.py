"""What `GET` tells of an event: from accepted to its end, per task, for a day, and nothing of what was erased."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator

import pytest

from contract.log_fixtures import all_records
from fakes import ScriptedTier, running, until
from gateway_calls import Client, Order, Verdict, options_in, order, order_task, serving
from penstock import Answer, Erase, NewRecord, Responder, Route, Step
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.outcome import Failure

QUICK = SqliteOptions(synchronous="normal")
AT_ONCE = PipelineOptions(commit_interval_seconds=0.0, batch=BatchLimits(max_wait_seconds=0.01))


@pytest.fixture
def log(tmp_path) -> SqliteLog:
    return SqliteLog(tmp_path / "log.db", options=QUICK)


def answering(task, log) -> Pipeline:
    return Pipeline(task, [step.tier for step in task.route.steps], log, AT_ONCE)


def answers(tier: ScriptedTier, items: list) -> list:
    """Good, or no answer for an order that says so."""
    by = Responder("scripted", "model", simulated=True)
    return [
        Failure("refused", "the model declined", charge=tier.charge())
        if item.input.text == "refuse"
        else Answer(Verdict(label="good"), "sure", by, tier.charge())
        for item in items
    ]


def task_of(name: str = "orders-checker", **settings):
    return order_task(
        name, route=Route(Step(ScriptedTier(script=answers))), start_from="earliest", max_attempts=1, **settings
    )


@pytest.fixture
async def client(tmp_path, log) -> AsyncIterator[Client]:
    async with serving(log, options_in(tmp_path), task_of()) as made:
        yield made


async def test_a_verdict_is_waited_for(tmp_path, log, client):
    """`?wait=` answers as soon as the task has ended the event, with its output and where it comes from."""
    await client.post(order(1))
    assert (await client.get("o-1"))[1] == {
        "id": "o-1",
        "topic": "orders",
        "state": "accepted",
        "tasks": {"orders-checker": {"state": "waiting"}},
    }
    waiting = asyncio.create_task(client.get("o-1", wait="20s"))
    async with running(answering(task_of(), log)):
        status, told = await waiting
    assert (status, told["state"]) == (200, "answered")
    result = told["tasks"]["orders-checker"]["result"]
    assert (result["output"], result["confidence"], result["simulated"]) == ({"label": "good"}, "sure", True)
    assert "nanousd" not in result


async def test_who_waits_is_not_held_up_by_the_look(tmp_path, log):
    """With looks an hour apart a verdict that is waited for comes all the same; who does not wait wakes nobody."""
    async with serving(log, options_in(tmp_path, tail_seconds=3_600), task_of()) as client:
        await client.post(order(1))
        async with running(answering(task_of(), log)):
            await until(lambda: _is_answered(log), 30)
            assert (await client.get("o-1"))[1]["state"] == "accepted"
            assert (await client.get("o-1", wait="20s"))[1]["state"] == "answered"
            await client.post(order(2))
            assert (await client.get("o-2", wait="20s"))[1]["state"] == "answered"


async def _is_answered(log) -> bool:
    return bool(await all_records(log, order_task().writes))


async def test_a_wait_ends_in_time(client):
    """Whoever waits for what does not come is told how it stands; nonsense is refused."""
    await client.post(order(1))
    assert (await client.get("o-1", wait="50ms"))[1]["state"] == "accepted"
    assert (await client.get("o-1", wait="soon"))[0] == 400
    assert (await client.get("never-seen", wait="20s"))[0] == 404


async def test_every_task_of_the_topic_has_its_state(tmp_path, log):
    """The event is accepted until all tasks have ended it; a dead letter says its reason and no text of the event."""
    tasks = (task_of(), task_of("second"))
    async with serving(log, options_in(tmp_path), *tasks) as client:
        await client.post(order(1, text="refuse"))
        async with running(answering(tasks[0], log)):
            while (told := (await client.get("o-1", wait="200ms"))[1])["tasks"]["orders-checker"]["state"] == "waiting":
                pass
            assert (told["state"], told["tasks"]["second"]) == ("accepted", {"state": "waiting"})
        async with running(answering(tasks[1], log)):
            told = (await client.get("o-1", wait="20s"))[1]
    assert told["state"] == "dead_letter"
    assert told["tasks"]["second"]["dead_letter"]["reason"] == "refused"


async def test_events_of_other_producers_are_known_when_they_have_ended(log, client):
    """A result's event is found by its id, whoever wrote it; ids may hold slashes."""
    await log.append([NewRecord("orders", b"k", b'{"id":"a/b?c","text":"x"}')])
    async with running(answering(task_of(), log)):

        async def is_known() -> bool:
            return (await client.get("a/b%3Fc"))[0] == 200

        await until(is_known)
    status, told = await client.get("a%2Fb%3Fc")
    assert (status, told["state"], told["id"]) == (200, "answered", "a/b?c")


async def test_an_event_that_its_content_does_not_name_is_found(tmp_path, log):
    """A task may name events by a function of its own: what the gateway told is found all the same, by where it stands."""
    task = task_of(event_id=lambda order, record: f"{order.shop}/{record.offset}")
    async with serving(log, options_in(tmp_path), task) as client:
        _, told, _ = await client.post(order(1))
        async with running(answering(task, log)):
            assert (await client.get(told["id"], wait="20s"))[1]["state"] == "answered"


async def test_erased_is_erased(tmp_path, log):
    """A deletion takes the verdict out of the gateway's memory too; before and after it events stay what they are."""

    class Deletable(Order):
        id: str
        kind: str = "created"

        def model_post_init(self, _) -> None:
            if self.kind == "deleted":
                raise Erase("deleted", subject=self.shop)

    task = task_of(input=Deletable, subject="shop")
    async with serving(log, options_in(tmp_path), task) as client:
        async with running(answering(task, log)):
            await client.post(order(1, shop="gone"))
            await client.post(order(2, shop="stays"))
            for event in ("o-1", "o-2"):
                assert (await client.get(event, wait="20s"))[1]["state"] == "answered"
            _, deletion, _ = await client.post(order(3, shop="gone", kind="deleted"))
            assert (await client.get(deletion["id"], wait="20s"))[1]["state"] == "erased"
            await client.post(order(4, shop="gone"))
            assert (await client.get("o-4", wait="20s"))[1]["state"] == "answered"
        told = (await client.get("o-1"))[1]
        assert told["tasks"]["orders-checker"] == {"state": "erased", "at": told["tasks"]["orders-checker"]["at"]}
        assert (await client.get("o-2"))[1]["state"] == "answered"
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        kept = db.execute("SELECT content FROM endings WHERE subject = 'gone' AND event_id != 'o-4'").fetchall()
    assert set(kept) == {("{}",)}


async def test_states_survive_a_restart_and_what_came_meanwhile_is_read(tmp_path):
    """The tail goes on where it stood: results that were written while no gateway ran are there."""
    options, task = options_in(tmp_path), task_of()
    async with serving(SqliteLog(tmp_path / "log.db", options=QUICK), options, task) as client:
        await client.post(order(1))
    log = SqliteLog(tmp_path / "log.db", options=QUICK)
    async with running(answering(task, log)):

        async def is_answered() -> bool:
            return any(kept.high for kept in (await log.bounds(task.writes)).values())

        await until(is_answered)
    await log.close()
    async with serving(SqliteLog(tmp_path / "log.db", options=QUICK), options, task, makes_topics=False) as client:
        assert (await client.get("o-1", wait="20s"))[1]["state"] == "answered"


async def test_a_backlog_beyond_the_deadline_is_told(tmp_path, log):
    """With gateway.max_backlog_seconds, and for an event with a deadline: 429 while the task stands still behind events."""
    options = options_in(tmp_path, look_seconds=0.05, max_backlog_seconds=0.3)
    task = task_of()
    async with serving(log, options, task) as client:
        async with running(answering(task, log)):
            await client.post(order("first"))
            assert (await client.get("o-first", wait="20s"))[1]["state"] == "answered"
        numbers = itertools.count()
        answer: list = []

        async def is_refused() -> bool:
            answer[:] = await client.post(order(next(numbers)))
            return answer[0] != 202

        await until(is_refused)
        status, told, headers = answer
        assert (status, told["type"]) == (429, "urn:penstock:problem:backlog")
        assert int(headers["retry-after"]) >= 1
        async with running(answering(task, log)):

            async def is_taken() -> bool:
                return (await client.post(order("last")))[0] == 202

            await until(is_taken)
