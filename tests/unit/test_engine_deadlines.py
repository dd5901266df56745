"""Laws of deadlines in a pipeline: they order the work, and end an event only where its task says so."""

from __future__ import annotations

import json
import time

import pytest

from fakes import GatedTier, Label, ScriptedTier, make_task, note, running, until
from penstock import Answer, Capacity, Failure, Item, Partition, Record, Responder, Step, TaskError
from penstock.deadletters.letter import read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.cascade import Cascade
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.engine.urgency import DEADLINE, PRIORITY
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from penstock.tier import HIGH, LOW, NORMAL

QUICK = PipelineOptions(commit_interval_seconds=0.01, drain_seconds=5.0, batch=BatchLimits(max_wait_seconds=0.01))
YESTERDAY = b"%d" % int((time.time() - 86_400) * 1000)
TOMORROW = b"%d" % int((time.time() + 86_400) * 1000)


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    await log.create_topics(
        [TopicSpec(name, 1) for name in ("notes", "labeler-results", "labeler-dlq", "labeler.retry")]
    )
    await log.create_topics([TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)])
    yield log
    await log.close()


async def records(log, topic):
    return await log.read(Partition(topic, 0), 0, 1_000)


def marked(number: int, *, key: str | None = None, **headers: bytes):
    names = {"priority": PRIORITY, "deadline": DEADLINE}
    return note(number, key=key)._replace(headers=tuple((names[name], value) for name, value in headers.items()))


async def run(log, task, tiers, events):
    pipeline = Pipeline(task, tiers, log, QUICK)
    await log.append(events)

    async def ended() -> bool:
        return pipeline.counts.done >= len(events)

    async with running(pipeline):
        await until(ended)
    return pipeline


async def test_an_event_past_its_deadline_is_still_answered(log):
    """By default a deadline only says how soon: a late answer is given, and counted as late."""
    tier = ScriptedTier()
    events = [marked(1, deadline=YESTERDAY), marked(2, deadline=TOMORROW), marked(3, deadline=b"soon"), note(4)]
    pipeline = await run(log, make_task(tier), [tier], events)
    assert len(await records(log, "labeler-results")) == 4
    assert pipeline.counts.deadlines_missed == 1
    assert pipeline.counts.headers_ignored == {DEADLINE: 1}


async def test_a_task_may_bury_what_is_past_its_deadline(log):
    """`past_deadline="bury"`: a dead letter that says so, byte for byte the event, and not a cent spent."""
    tier = ScriptedTier()
    events = [marked(1, deadline=YESTERDAY), marked(2, deadline=TOMORROW), note(3)]
    await run(log, make_task(tier, past_deadline="bury"), [tier], events)
    (record,) = await records(log, "labeler-dlq")
    letter = read_letter(record)
    assert (letter.event_id, letter.reason, letter.stage, letter.attempts) == ("n1", "expired", "intake", 0)
    assert letter.nanousd == 0
    assert record.value == events[0].value
    assert (DEADLINE, YESTERDAY) in record.headers
    assert sorted(id_ for call in tier.calls for id_ in call) == ["n2", "n3"]


async def test_high_goes_first_and_results_of_a_key_keep_their_order(log):
    """Behind a busy tier the high ones are asked first; with order="key" their key's results still stand in order."""
    tier = GatedTier("n0")
    tier._free = 1
    task = make_task(tier, order="key", max_batch_items=4)
    levels = (b"low", b"high", b"normal")
    events = [note(0, key="first")] + [marked(n, key=f"k{n % 2}", priority=levels[n % 3]) for n in range(1, 25)]
    pipeline = Pipeline(task, [tier], log, QUICK)
    await log.append(events[:1])

    async def n0_is_asked() -> bool:
        return bool(pipeline._calls)

    async def all_wait() -> bool:
        return len(pipeline._cascade) == 24

    async def all_ended() -> bool:
        return pipeline.counts.done >= 25

    async with running(pipeline):
        await until(n0_is_asked)
        tier._free = 0
        await log.append(events[1:])
        await until(all_wait)
        tier._free = 1
        tier.gate.set()
        await until(all_ended)
    asked = [int(id_[1:]) for call in tier.calls for id_ in call if id_ != "n0"]
    assert [n % 3 for n in asked] == [1] * 8 + [2] * 8 + [0] * 8
    found = [json.loads(r.value) for r in await records(log, "labeler-results")]
    for key in (0, 1):
        of_key = [n for r in found if (n := int(r["event_id"][1:])) and n % 2 == key]
        assert of_key == sorted(of_key)
        assert len(of_key) == 12


class Shut(ScriptedTier):
    """Has no room for an hour."""

    def capacity(self, task):
        return Capacity(0, cause="retry_after", until=3_600.0)


def make_item(priority: int = NORMAL, deadline_ms: int = 0) -> Item:
    item = Item(Record("notes", 0, 1, None, b"", (), 0), Partition("notes", 0), "1", None, "{}", 1)
    item.priority, item.deadline_ms = priority, deadline_ms
    return item


def test_a_deadline_is_seen_while_the_tier_has_no_room():
    """A buried event is told when its deadline passes, not when the limit opens an hour later."""
    now = [0.0]
    tier = Shut()
    task = make_task(tier, past_deadline="bury")
    cascade = Cascade(task, [tier], BatchLimits(), RetryOptions(), lambda: now[0], unix=lambda: 1e9 + now[0])
    cascade.add(make_item(deadline_ms=int((1e9 + 90) * 1000)))
    assert cascade.next_call() is None
    assert cascade.take_past() == []
    assert abs((cascade.wake_at() or 0) - 90) < 0.01
    now[0] = 90.0
    ((_, failure),) = cascade.take_past()
    assert isinstance(failure, Failure)
    assert failure.reason == "expired"
    assert cascade.wake_at() is None


def test_an_answer_that_was_not_sure_enough_is_better_than_none():
    """What an earlier tier said stands where the deadline passes before the next one is asked."""
    tiers = [ScriptedTier("small"), Shut("large")]
    task = make_task(Step(tiers[0], accept="sure"), tiers[1], past_deadline="bury")
    cascade = Cascade(task, tiers, BatchLimits(), RetryOptions(), lambda: 0.0, unix=lambda: 1e9)
    cascade.add(make_item(LOW, deadline_ms=int(1e9 * 1000) + 50))
    answer = Answer(Label(), "likely", Responder("small"))
    assert cascade.settle(*cascade.next_call(), [answer], 0.1) == []
    cascade._unix = lambda: 1e9 + 1
    ((_, outcome),) = cascade.take_past()
    assert outcome is answer


def test_what_comes_back_keeps_its_rank():
    """An item that is asked again stands before its equals, not before higher ones."""
    tier = ScriptedTier()
    cascade = Cascade(make_task(tier, max_batch_items=1), [tier], BatchLimits(), RetryOptions(), lambda: 0.0)
    first, second, high = make_item(LOW), make_item(LOW), make_item(HIGH)
    cascade.add(first)
    stage, batch = cascade.next_call()
    cascade.add(second)
    cascade.add(high)
    stage.batcher.add_again(batch, 0.0)
    assert [cascade.next_call()[1] for _ in range(3)] == [[high], [first], [second]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"past_deadline": "drop"},
        {"latency_target_seconds": 0},
        {"latency_target_seconds": float("nan")},
        {"latency_target_seconds": "5"},
    ],
)
def test_a_task_says_what_it_means(wrong):
    """What could not be obeyed is refused when the task is declared."""
    with pytest.raises(TaskError, match=next(iter(wrong))):
        make_task("haiku", **wrong)
