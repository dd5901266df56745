"""Laws of the quality guard: batches shrink until verdicts are steady, stay large where they are, and money adds up."""

from __future__ import annotations

import enum
import itertools
import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fakes import Label, ScriptedTier, make_task, note, running, until
from penstock import Again, Answer, Charge, Item, Partition, Record, Responder, TaskError
from penstock.engine.batcher import BatchLimits
from penstock.engine.cascade import Cascade, Ending
from penstock.engine.checkpoint import Checkpoint
from penstock.engine.commit import Committer
from penstock.engine.erasing import take_out
from penstock.engine.guard import RECHECK, FlipTest, Guard, GuardOptions, Recheck, decisive_fields, make_guard
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.erasure import Reach
from penstock.errors import SettingsError
from penstock.log.base import TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC, read_state
from penstock.telemetry.counts import Counts

NOTES = Partition("notes", 0)
BY = Responder("scripted")
Verdict = Callable[[int, int], bool]
"""Place in the batch and its size: whether a model still judges the event as it would alone."""


def make_item(number: int) -> Item:
    return Item(Record("notes", 0, number, None, b"", (), 0), NOTES, str(number), None, "{}", 1)


class Judged:
    """A backlog that is asked of a model whose verdicts depend on place and size as a test says."""

    def __init__(self, is_right: Verdict, *, share: float = 0.2, least_items: int = 5, **task: object) -> None:
        self.is_right = is_right
        self.dice = random.Random(11)
        tier = ScriptedTier()
        options = GuardOptions(share=share, least_items=least_items)
        self.cascade = Cascade(
            make_task(tier, **task), [tier], BatchLimits(), RetryOptions(), lambda: 0.0, guard=options
        )
        self.stage = self.cascade.stages[0]
        self.guard = self.stage.guard
        assert self.guard is not None
        self.guard._dice = random.Random(7)
        self.sizes: list[int] = []
        self.number = 0
        self.ended: Counter[int] = Counter()

    def ask(self, calls: int) -> list[int]:
        """So many calls from a backlog that never ends; their sizes."""
        for _ in range(calls):
            while len(self.cascade) < 100:
                self.cascade.add(make_item(self.number))
                self.number += 1
            stage, batch = self.cascade.next_call()
            self.sizes.append(len(batch))
            outcomes = [self._judge(place, len(batch)) for place in range(len(batch))]
            own = self.guard.compare(batch, outcomes)
            self.ended.update(
                e.item.offset for e in self.cascade.settle(stage, own.items, own.outcomes, 1.0, len(batch))
            )
        return self.sizes[-calls:]

    def _judge(self, place: int, size: int) -> Answer:
        label = "good" if self.is_right(place, size) else self.dice.choice(["good", "bad"])
        return Answer(Label(label=label), "sure", BY)


@pytest.mark.parametrize("cliff", [8, 14, 30])
def test_batches_shrink_until_verdicts_are_steady(cliff):
    """Verdicts of places behind the cliff are dice: batches end near the cliff and stay there."""
    judged = Judged(lambda place, _: place < cliff)
    assert max(judged.ask(5)) == 50
    sizes = judged.ask(1_500)[-500:]
    assert sum(size > 1.5 * cliff for size in sizes) < 0.2 * len(sizes)
    assert sum(sizes) / len(sizes) > cliff / 3, "but not smaller than need be"


def test_size_alone_can_flip_verdicts_too():
    """A model that fails all over in batches of more than 20 ends in batches of hardly more than 20."""
    judged = Judged(lambda _, size: size <= 20)
    judged.ask(1_000)
    assert sum(size > 24 for size in judged.sizes[-400:]) < 40


def test_steady_verdicts_keep_batches_large():
    """A model that does not mind company, or errs a little less than allowed, is asked in full batches all the time."""
    for noise in (0.0, 0.03):
        dice = random.Random(5)
        judged = Judged(lambda *_, dice=dice, noise=noise: dice.random() >= noise)
        assert set(judged.ask(1_500)) == {50}
        assert judged.guard.asked > 5_000


def test_batches_recover_slowly_when_the_model_does():
    """After a bad spell the largest batch grows by a tenth at a time, each step earned by steady verdicts."""
    judged = Judged(lambda place, _: place < 10)
    judged.ask(600)
    assert judged.guard.ceiling < 20
    judged.is_right = lambda *_: True
    ceilings = []
    while judged.guard.ceiling < 50:
        judged.ask(1)
        ceilings.append(judged.guard.ceiling)
    steps = [(a, b) for a, b in itertools.pairwise(ceilings) if a != b]
    assert all(a < b <= a + max(1, a // 10) for a, b in steps)
    assert len(ceilings) > 10 * len(steps)


def test_events_that_are_open_in_themselves_do_not_cost_the_batches(caplog):
    """Verdicts that flip in any company stop the shrinking at `least_items`; the log says that batches are not to blame."""
    judged = Judged(lambda *_: False, least_items=6)
    judged.ask(1_500)
    assert min(judged.sizes) >= 6
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("batches of 25 items at most from now on, they were 50" in text for text in told)
    assert len([text for text in told if "not the batches" in text]) == 1


def test_every_item_ends_once_and_is_never_compared_in_its_own_place():
    """Law 7 with a guard on all answers: second answers end nothing, and come from another place."""
    judged = Judged(lambda *_: True, share=1.0)
    places = {}
    guard, mix = judged.guard, judged.guard.mix

    def look(batch, rechecks):
        mixed = mix(batch, rechecks)
        for place, item in enumerate(mixed):
            if isinstance(item, Recheck) and len(rechecks) == 1:
                assert place != item.place
        places[len(places)] = len(rechecks)
        return mixed

    guard.mix = look
    judged.ask(200)
    assert set(judged.ended.values()) == {1}
    assert len(judged.ended) == judged.number - len(judged.cascade)
    assert max(places.values()) <= 5, "a tenth of a call at most"
    assert guard.asked > 500
    assert len(guard._waiting) <= 100


def test_small_batches_are_not_asked_again():
    """Where a call holds fewer than could be made of it, nothing is learned, and nothing is paid."""
    guard = Guard(make_task("haiku"), "haiku", GuardOptions(share=1.0), random.Random(1))
    small = [make_item(n) for n in range(4)]
    guard.sample(small, [Answer(Label(), "sure", BY)] * 4, 4)
    assert guard.take(50) == []


def test_what_is_suspicious_or_unanswered_is_not_asked_again():
    """Law 8: what must stand alone never joins others; what has no answer has nothing to compare."""
    guard = Guard(make_task("haiku"), "haiku", GuardOptions(share=1.0), random.Random(1))
    items = [make_item(n) for n in range(20)]
    outcomes = [Answer(Label(), "sure", BY) if n % 2 else Again("missing") for n in range(20)]
    for item in items[:10]:
        item.suspicious = True
    guard.sample(items, outcomes, 20)
    taken = guard.take(50) + guard.take(50)
    assert {one.offset for one in taken} == {11, 13, 15, 17, 19}


def test_erased_and_lost_items_are_forgotten():
    """What is discarded from the cascade is not asked a second time either."""
    judged = Judged(lambda *_: True, share=1.0)
    judged.ask(3)
    assert judged.guard._waiting
    judged.cascade.discard(lambda item: item.partition == NOTES)
    assert not judged.guard._waiting


def test_an_erasure_ends_an_event_once_also_while_it_is_asked_again():
    """A second asking stands for no offset: nothing is resolved for it a second time, whatever deletes its event."""
    tier = ScriptedTier()
    task = make_task(tier)
    checkpoint: Checkpoint[Ending] = Checkpoint()
    epoch = checkpoint.begin(NOTES, OffsetMap(0))
    checkpoint.track(NOTES, 3)
    item = make_item(3)
    item.epoch = epoch
    recheck = Recheck(item, (), 0, 0)
    reach = Reach()
    reach.add(NOTES, 9, None, "")
    reach.add(NOTES, 9, b"key", None)
    recheck.record = recheck.record._replace(key=b"key")
    committer = Committer(task, checkpoint, Counts())
    cascade = Cascade(task, [tier], BatchLimits(), RetryOptions())
    assert reach.covers(NOTES, 3, b"key", "")
    assert take_out(reach, cascade, [recheck], checkpoint, committer) == []
    assert recheck.epoch == RECHECK
    assert checkpoint.in_flight() == 1


def test_an_item_refused_together_with_a_second_asking_is_asked_alone():
    """Law 7: a refused call is halved also where all but one of its items were there to be compared."""
    tier = ScriptedTier()
    cascade = Cascade(make_task(tier), [tier], BatchLimits(), RetryOptions(), lambda: 0.0)
    cascade.add(make_item(1))
    stage, batch = cascade.next_call()
    cascade.settle(stage, batch, [Again("refused", split=True)], 1.0, together=2)
    assert batch[0].attempts == 0
    stage, alone = cascade.next_call()
    assert alone == batch


@given(st.sampled_from([0.01, 0.05, 0.2]), st.floats(0, 1), st.integers(0, 2**32))
def test_the_test_always_comes_to_a_decision_that_fits(allowed, rate, seed):
    """Rates far from the allowed one are told apart in a bounded number of verdicts; looking often changes nothing."""
    test, dice = FlipTest(allowed), random.Random(seed)
    decision = ""
    while not decision and test.asked < 20_000:
        decision = test.note(is_flip=dice.random() < rate)
    if rate >= min(6 * allowed, 0.95):
        assert decision == "too_many"
    elif rate <= allowed / 20:
        assert decision == "fine"
    assert decision or allowed / 2 < rate < 4 * allowed


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Verdicts(BaseModel):
    kind: Literal["a", "b"]
    colour: Colour | None = None
    is_urgent: bool = False
    tags: list[Literal["x", "y"]] = []
    reason: str = ""
    score: int = 0


class Prose(BaseModel):
    text: str


def test_verdicts_are_closed_fields_or_what_the_task_names(caplog):
    """Literal, Enum and bool decide, free text does not; a task may name its own, and with none there is no guard."""
    assert set(decisive_fields(make_task("haiku", output=Verdicts))) == {"kind", "colour", "is_urgent"}
    named = make_task("haiku", output=Verdicts, decisive={"tags"})
    assert set(decisive_fields(named)) == {"tags"}
    guard = make_guard(named, "haiku", GuardOptions(share=1.0))
    first = Verdicts(kind="a", tags=["x", "y"])
    assert guard._verdict(Answer(first, "sure", BY)) == guard._verdict(
        Answer(Verdicts(kind="b", tags=["y", "x"]), "likely", BY)
    )
    assert make_guard(make_task("haiku", output=Prose), "haiku", GuardOptions(share=0.1)) is None
    assert "decisive={…}" in caplog.text
    assert make_guard(named, "haiku", GuardOptions()) is None
    for wrong in ({"nope"}, set(), "kind"):
        with pytest.raises(TaskError, match="decisive"):
            make_task("haiku", output=Verdicts, decisive=wrong)


@pytest.mark.parametrize(
    "wrong", [{"share": -0.1}, {"share": 1.1}, {"allowed_flips": 0}, {"allowed_flips": 1}, {"least_items": 1}]
)
def test_absurd_settings_are_refused_by_name(wrong):
    """A guard that could never decide is not started."""
    with pytest.raises(SettingsError, match=f"guard.{next(iter(wrong))}"):
        GuardOptions(**wrong)


async def test_second_answers_cost_money_and_tell_nothing(tmp_path):
    """Laws 1 and 9: one result an event, the first answer's; results and waste add up to what was billed, call by call."""
    log = SqliteLog(tmp_path / "events.db")
    topics = ("notes", "labeler-results", "labeler-dlq", "labeler.retry")
    await log.create_topics([TopicSpec(name, partitions=3) for name in topics])
    await log.create_topics([TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)])
    asked: Counter[str] = Counter()
    billed: Counter[str] = Counter()

    def script(tier: ScriptedTier, items: list[Item]):
        asked.update(item.event_id for item in items)
        billed[tier.call_id] += 7 * len(items)
        return [tier.answer_of(item, echo=str(asked[item.event_id])) for item in items]

    tier = ScriptedTier(script=script, seconds=0.002, max_calls=2)
    options = PipelineOptions(
        commit_interval_seconds=0.01, guard=GuardOptions(share=0.3), batch=BatchLimits(max_wait_seconds=0.01)
    )
    pipeline = Pipeline(make_task(tier, max_batch_items=20), [tier], log, options)
    await log.append([note(n) for n in range(600)])

    async def ended() -> bool:
        return pipeline.counts.done >= 600

    async with running(pipeline):
        await until(ended)
        reading = pipeline.reading()
    found = [json.loads(r.value) for r in await everything(log, "labeler-results")]
    waste = [read_state(r).value for r in await everything(log, STATE_TOPIC)]
    await log.close()
    assert Counter(r["event_id"] for r in found) == Counter(f"n{n}" for n in range(600))
    assert {r["output"]["echo"] for r in found} == {"1"}, "the first answer stands"
    assert {r["attempts"] for r in found} == {1}
    assert {len(r["calls"]) for r in found} == {1}
    told = Counter(dict.fromkeys(billed, 0))
    for call_id, nanousd in (call for r in found for call in r["calls"]):
        told[call_id] += nanousd
    for one in waste:
        told[one["call"]] += one["nanousd"]
    assert told == billed
    counts = pipeline.counts
    assert sum(billed.values()) == counts.nanousd + counts.waste_nanousd == counts.billed_nanousd["model"]
    assert counts.waste_nanousd == counts.guard_nanousd == 7 * (sum(asked.values()) - 600) > 0
    assert counts.late == 0
    assert counts.tiers["scripted"].outcomes["answer", "sure"] == 600
    asked_again, flipped, ceiling = reading.stages[0].guard
    assert asked_again > 50
    assert (flipped, ceiling) == (0, 20)


async def everything(log: SqliteLog, topic: str):
    found = []
    for partition, bounds in sorted((await log.bounds(topic)).items()):
        at = bounds.low
        while records := await log.read(partition, at, 1_000):
            found += records
            at = records[-1].offset + 1
    return found


def test_a_second_asking_that_fails_is_paid_and_dropped():
    """Weather, a refusal or a missing entry compare nothing; what they cost is told."""
    guard = Guard(make_task("haiku"), "haiku", GuardOptions(share=1.0), random.Random(1))
    items = [make_item(n) for n in range(10)]
    guard.sample(items, [Answer(Label(), "sure", BY)] * 10, 10)
    taken = guard.take(50)
    charge = Charge("call", "m", 5, 1, 0, 0, 1)
    batch = guard.mix(items.copy(), taken)
    outcomes = [
        Again("missing", charge=charge) if isinstance(i, Recheck) else Answer(Label(), "sure", BY, charge)
        for i in batch
    ]
    own = guard.compare(batch, outcomes)
    assert own.items == items
    assert own.charges == [charge] * len(taken)
    assert (guard.asked, guard.flipped) == (0, 0)
