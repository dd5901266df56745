"""A deletion erases: tombstones behind all that it covers, nothing that comes back, and every cent still accounted for."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import GatedTier, Note, ScriptedTier, make_task, note, running, until
from penstock import Again, Erase, NewRecord, Partition, Record
from penstock.deadletters.letter import read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.erasure import read_erasure
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.state import STATE_TOPIC, read_state

QUICK = PipelineOptions(
    commit_interval_seconds=0.01,
    drain_seconds=5.0,
    batch=BatchLimits(max_wait_seconds=0.01),
    retry=RetryOptions(first_seconds=0.01, most_seconds=0.05, hand_over_after_seconds=0.02),
)
TOPICS = ("notes", "labeler-results", "labeler-dlq", "labeler.retry")


class Page(Note):
    """A note of a book: several events are about one page."""

    page: str = ""
    kind: str = "written"


def read_page(record: Record, model: type[Page]) -> Page:
    page = model.model_validate_json(record.value or b"")
    if page.kind == "deleted":
        raise Erase("torn out", subject=page.page)
    return page


def pages_of(*tiers, **options):
    return make_task(*tiers, input=Page, subject="page", decode=read_page, **options)


def page(number: int, name: str, *, key: str = "book", kind: str = "written") -> NewRecord:
    return note(number, key=key, page=name, kind=kind)


def tombstone(key: str = "book") -> NewRecord:
    return NewRecord("notes", key.encode(), None)


async def opened(directory: Path, partitions: int = 2) -> SqliteLog:
    log = SqliteLog(directory / "events.db", options=SqliteOptions(synchronous="off"))
    specs = [TopicSpec(name, partitions) for name in TOPICS]
    await log.create_topics([*specs, TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)])
    return log


@pytest.fixture
async def log(tmp_path):
    log = await opened(tmp_path)
    yield log
    await log.close()


async def everything(log, topic):
    found = []
    for partition, bounds in sorted((await log.bounds(topic)).items()):
        at = bounds.low
        while records := await log.read(partition, at, 1_000):
            found += records
            at = records[-1].offset + 1
    return found


async def told(log, topic="labeler-results"):
    """What a topic says, in its order: event ids, and for erasures what they erase."""
    return [
        ("erased", erasure.subject or erasure.key)
        if (erasure := read_erasure(record))
        else json.loads(record.value)["event_id"]
        for record in await everything(log, topic)
    ]


async def recorded_nanousd(log) -> int:
    results = [json.loads(r.value)["nanousd"] for r in await everything(log, "labeler-results") if r.value]
    letters = [read_letter(r).nanousd for r in await everything(log, "labeler-dlq") if r.value]
    waste = [read_state(r).value["nanousd"] for r in await everything(log, STATE_TOPIC)]
    return sum(results) + sum(letters) + sum(waste)


async def done(pipeline, events):
    async def all_done():
        return pipeline.counts.done >= events

    await until(all_done)


async def settled(log, pipeline):
    """The group has done all that it reads, the retry topic too."""

    async def all_done():
        for topic in ("notes", "labeler.retry"):
            committed = await log.committed("labeler", topic)
            for partition, bounds in (await log.bounds(topic)).items():
                if bounds.high > bounds.low and (partition not in committed or committed[partition].base < bounds.high):
                    return False
        return True

    await until(all_done)


def pipeline_of(log, task, options=QUICK):
    return Pipeline(task, [step.tier for step in task.route.steps], log, options)


async def test_a_deletion_erases_results_and_letters_of_its_subject_only(log):
    """Tombstones name whose results and which: with the key of the events, where they came from and when."""
    task = pages_of(ScriptedTier())
    pipeline = pipeline_of(log, task)
    await log.append([page(1, "one"), page(2, "two")])
    async with running(pipeline):
        await done(pipeline, 2)
        await log.append([page(3, "one", kind="deleted")])
        await settled(log, pipeline)
    assert pipeline.counts.erased == 1
    kept, *erased = await everything(log, "labeler-results")
    assert {json.loads(r.value)["subject"] for r in (kept, erased[0])} == {"one", "two"}
    for record in (erased[-1], (await everything(log, "labeler-dlq"))[-1]):
        erasure = read_erasure(record)
        assert (erasure.task, erasure.subject, erasure.why, record.key) == ("labeler", "one", "torn out", b"book")
        assert (erasure.source.topic, erasure.source.offset) == ("notes", 2)
        assert erasure.covers(b"other", "one")
        assert not erasure.covers(b"book", "two")
        assert dict(record.headers)["ce_type"] == b"penstock.erased.v1"
        assert dict(record.headers)["ce_subject"] == b"one"


async def test_a_tombstone_erases_its_key(log):
    """A record without a value deletes what has its key, as it does on a compacted topic."""
    pipeline = pipeline_of(log, make_task(ScriptedTier()))
    async with running(pipeline):
        await log.append([note(1, key="a"), tombstone("a")])
        await done(pipeline, 2)
    (erasure,) = {e.id: e for r in await everything(log, "labeler-results") if (e := read_erasure(r))}.values()
    assert (erasure.key, erasure.subject) == (b"a", None)
    assert erasure.covers(b"a", "anything")
    assert not erasure.covers(b"b", "n1")


async def test_what_waits_is_erased_without_being_asked(log):
    """An event that is deleted before anybody asked about it costs nothing."""
    tier = ScriptedTier()
    pipeline = pipeline_of(log, pages_of(tier))
    await log.append([page(1, "one"), page(2, "two"), page(3, "one", kind="deleted"), page(4, "one")])
    async with running(pipeline):
        await settled(log, pipeline)
    assert sorted(event for call in tier.calls for event in call) == ["n2", "n4"]
    found = await told(log)
    assert found.index(("erased", "one")) < found.index("n4")
    assert (pipeline.counts.skipped, pipeline.counts.erased, pipeline.counts.results) == (1, 1, 2)


@pytest.mark.parametrize("order", ["none", "key"])
async def test_an_answer_that_comes_after_the_deletion_is_waste(log, order):
    """The tombstone does not wait for the call; the answer is never published, and its cost stays on the books."""
    tier = GatedTier("n1")
    pipeline = pipeline_of(log, pages_of(tier, order=order))
    await log.append([page(1, "one")])

    async def is_asked():
        return pipeline.counts.calls == 1

    async with running(pipeline):
        await until(is_asked)
        await log.append([page(2, "one", kind="deleted")])
        await settled(log, pipeline)
        assert await told(log) == [("erased", "one")] * 2
        tier.gate.set()
    assert await told(log) == [("erased", "one")] * 2
    assert await recorded_nanousd(log) == tier.billed_nanousd > 0


async def test_an_answer_that_waits_for_its_key_is_erased_too(log):
    """With order="key" an answer may be held when its subject is deleted under another key: it is never published."""
    tier = GatedTier("n1")
    pipeline = pipeline_of(log, pages_of(tier, order="key", max_batch_items=1))
    same = [page(1, "one"), page(2, "two"), page(3, "two", key="other", kind="deleted")]
    slow, held, deletion = (record._replace(partition=0) for record in same)
    await log.append([slow, held])

    async def is_held():
        return pipeline.reading().items_held == 1

    async with running(pipeline):
        await until(is_held)
        await log.append([deletion])

        async def is_told():
            return ("erased", "two") in await told(log)

        await until(is_told)
        tier.gate.set()
        await settled(log, pipeline)
    assert sorted(await told(log), key=str) == [("erased", "two"), ("erased", "two"), "n1"]
    assert pipeline.counts.skipped == 1
    assert await recorded_nanousd(log) == tier.billed_nanousd == 14


async def test_an_event_that_turns_out_a_deletion_after_its_hand_over_keeps_its_costs(log):
    """A new rule may read a parked event as a deletion: what it has cost is waste on the books."""
    tier = ScriptedTier(script=lambda tier, items: [tier.again("server_error", after_seconds=30.0) for _ in items])
    first = pipeline_of(log, pages_of(tier))
    await log.append([page(1, "one")])

    async def is_parked():
        return first.counts.hand_overs == 1 and first.counts.records == 2

    async with running(first):
        await until(is_parked)
        await first.lost([Partition("labeler.retry", n) for n in range(2)])

    def strict(record, model):
        raise Erase("by the new rule", subject="one")

    second = pipeline_of(log, make_task(tier, input=Page, subject="page", decode=strict))
    async with running(second):
        await settled(log, second)
    assert set(await told(log)) == {("erased", "one")}
    assert await recorded_nanousd(log) == tier.billed_nanousd == 7
    assert (second.counts.nanousd, second.counts.waste_nanousd) == (0, 7)


async def test_a_worker_that_stops_waits_for_what_was_erased_in_a_call(log):
    """Nobody wants the answer any more, but its cost is known before the worker goes."""
    tier = GatedTier("n1")
    pipeline = pipeline_of(log, pages_of(tier))
    await log.append([page(1, "one")])

    async def is_asked():
        return pipeline.counts.calls == 1

    async with running(pipeline):
        await until(is_asked)
        await log.append([page(2, "one", kind="deleted")])
        await settled(log, pipeline)
        asyncio.get_running_loop().call_later(0.2, tier.gate.set)
    assert await recorded_nanousd(log) == tier.billed_nanousd > 0


async def test_what_was_paid_before_an_escalation_stays_on_the_books(log):
    """An item erased while it waits for the next step has cost something: waste, once."""
    first = ScriptedTier(script=lambda tier, items: [tier.again("missing") for _ in items])
    pipeline = pipeline_of(
        log, pages_of(first), PipelineOptions(commit_interval_seconds=0.01, retry=RetryOptions(first_seconds=60))
    )
    first._script = lambda tier, items: [Again("server_error", 20.0, charge=tier.charge()) for _ in items]
    await log.append([page(1, "one")])

    async def was_asked():
        return first.finished == 1

    async with running(pipeline):
        await until(was_asked)
        await log.append([page(2, "one", kind="deleted")])
        await settled(log, pipeline)
    assert await told(log) == [("erased", "one")] * 2
    assert await recorded_nanousd(log) == first.billed_nanousd > 0


async def test_a_deletion_reaches_what_was_handed_over(log):
    """A review deleted while it is parked in the retry topic never comes back as a result."""

    def later(tier, items):
        return [tier.again("server_error", after_seconds=0.4) for _ in items]

    tier = ScriptedTier(script=later)
    pipeline = pipeline_of(log, pages_of(tier))
    await log.append([page(1, "one")])

    async def was_handed_over():
        return pipeline.counts.hand_overs == 1

    async with running(pipeline):
        await until(was_handed_over)
        tier._script = lambda tier, items: [tier.answer_of(item) for item in items]
        await log.append([page(2, "one", kind="deleted"), page(3, "three")])
        await settled(log, pipeline)
    assert sorted(set(await told(log)), key=str) == [("erased", "one"), "n3"]
    assert await recorded_nanousd(log) == tier.billed_nanousd > 0


async def test_a_deletion_reaches_what_was_handed_over_before_a_restart(log):
    """What is parked is known by its place in the retry topic alone: the erasure's copy stands behind it."""
    tier = ScriptedTier(script=lambda tier, items: [tier.again("server_error", after_seconds=0.4) for _ in items])
    first = pipeline_of(log, pages_of(tier))
    await log.append([page(1, "one")])

    async def was_handed_over():
        return first.counts.hand_overs == 1

    async with running(first):
        await until(was_handed_over)
    await log.append([page(2, "one", kind="deleted")])
    tier._script = lambda tier, items: [tier.answer_of(item) for item in items]
    second = pipeline_of(log, pages_of(tier))
    async with running(second):
        await settled(log, second)
    parked, copy = await everything(log, "labeler.retry")
    assert (parked.partition, parked.key) == (copy.partition, copy.key)
    assert (await told(log))[-1] == ("erased", "one")
    assert await recorded_nanousd(log) == tier.billed_nanousd > 0


async def test_an_event_is_handed_over_once(log):
    """In the retry topic it waits in its place: behind an erasure that came meanwhile it would be out of its reach."""
    seen = []

    def later(tier, items):
        seen.extend(item.partition.topic for item in items)
        return [
            tier.again("server_error", after_seconds=0.1) if len(seen) < 4 else tier.answer_of(item) for item in items
        ]

    tier = ScriptedTier(script=later)
    pipeline = pipeline_of(log, pages_of(tier, max_attempts=6))
    await log.append([page(1, "one")])
    async with running(pipeline):
        await done(pipeline, 1)
    assert seen == ["notes", "labeler.retry", "labeler.retry", "labeler.retry"]
    assert pipeline.counts.hand_overs == 1
    (result,) = await everything(log, "labeler-results")
    assert json.loads(result.value)["nanousd"] == tier.billed_nanousd == 28


async def test_a_hand_over_that_is_given_up_keeps_its_costs_on_its_record(log):
    """Who takes it up again finds them there: written as waste too, they would be counted twice."""
    tier = ScriptedTier(script=lambda tier, items: [tier.again("server_error", after_seconds=30.0) for _ in items])
    first = pipeline_of(log, pages_of(tier))
    await log.append([page(1, "one")])

    async def is_parked():
        return first.counts.hand_overs == 1 and first.counts.records == 2

    async with running(first):
        await until(is_parked)
        await first.lost([Partition("labeler.retry", n) for n in range(2)])
    assert await everything(log, STATE_TOPIC) == []


async def test_an_erase_that_names_nothing_is_said(log):
    """It becomes a dead letter that tells what to write: a deletion must not get lost."""

    def nameless(record, model):
        raise Erase("gone")

    pipeline = pipeline_of(log, make_task(ScriptedTier(), decode=nameless))
    await log.append([note(1)])
    async with running(pipeline):
        await done(pipeline, 1)
    (letter,) = [read_letter(record) for record in await everything(log, "labeler-dlq")]
    assert (letter.reason, "names no subject" in letter.detail) == ("hook_failed", True)


async def test_the_events_own_id_is_its_subject_unless_the_task_says_otherwise(log):
    """`ce_id` is known before decoding, an id field after it."""

    def by_envelope(record, model):
        if record.value == b"gone":
            raise Erase
        return model.model_validate_json(record.value)

    pipeline = pipeline_of(log, make_task(ScriptedTier(), decode=by_envelope))
    headers = (("ce_id", b"e-1"), ("traceparent", b"00-1-1-01"))
    await log.append([note(1, key="k")._replace(headers=(("ce_id", b"e-1"),))])
    async with running(pipeline):
        await done(pipeline, 1)
        await log.append([NewRecord("notes", b"k", b"gone", headers)])
        await settled(log, pipeline)
    result, erased, _ = await everything(log, "labeler-results")
    assert read_erasure(erased).subject == "e-1"
    assert dict(erased.headers)["traceparent"] == b"00-1-1-01"
    assert json.loads(result.value)["subject"] == json.loads(result.value)["event_id"]


STORY = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "delete", "tombstone"]),
        st.sampled_from(["p1", "p2", "p3"]),
        st.sampled_from(["book", "leaflet"]),
    ),
    min_size=3,
    max_size=25,
)


class FickleTier(ScriptedTier):
    """Answers, fails or asks to be asked much later, each after a time of its own."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def answer(self, task, items):
        await asyncio.sleep(self._chance.choice([0, 0.002, 0.02]))
        return await super().answer(task, items)


def fickle(chance: random.Random):
    def script(tier, items):
        outcomes = []
        for item in items:
            what = chance.choice(["answer", "answer", "later", "again"])
            if what == "answer":
                outcomes.append(tier.answer_of(item))
            else:
                outcomes.append(tier.again("server_error", after_seconds=0.03 if what == "later" else 0.0))
        return outcomes

    return script


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=STORY,
    seed=st.integers(0, 10_000),
    order=st.sampled_from(["none", "key"]),
    restarts=st.integers(0, 2),
    partitions=st.sampled_from([1, 2]),  # two keys never share a partition, or always
)
async def test_nothing_erased_stands_behind_its_last_tombstone(story, seed, order, restarts, partitions):
    """The law: whatever the tiers do, however often the worker stops, each event ends once and no erased one comes back."""
    with TemporaryDirectory() as directory:
        log = await opened(Path(directory), partitions)
        try:
            await _lives(log, story, random.Random(seed), order, restarts)
        finally:
            await log.close()


async def _lives(log, story, chance, order, restarts):
    tier = FickleTier(chance)
    tier._script = fickle(chance)
    events = [
        tombstone(key)
        if what == "tombstone"
        else page(n, name, key=key, kind="deleted" if what == "delete" else "written")
        for n, (what, name, key) in enumerate(story)
    ]
    parts = [events[n :: restarts + 1] for n in range(restarts + 1)]
    broken_off = False
    for part in parts:
        pipeline = pipeline_of(log, pages_of(tier, order=order, max_attempts=6))
        stop = asyncio.Event()
        work = asyncio.create_task(pipeline.run(stop))
        for event in part:
            await log.append([event])
            await asyncio.sleep(chance.choice([0, 0, 0.003]))
        if chance.random() < 0.5:
            work.cancel()  # without a drain: what was asked is asked again
            broken_off = True
        stop.set()
        await asyncio.gather(work, return_exceptions=True)
    pipeline = pipeline_of(log, pages_of(tier, order=order, max_attempts=6))
    async with running(pipeline):
        await settled(log, pipeline)
    await _check_law(log)
    recorded = await recorded_nanousd(log)
    assert recorded <= tier.billed_nanousd if broken_off else recorded == tier.billed_nanousd


async def _check_law(log):
    """From outside: by reading the topics only."""
    endings, erasures = {}, defaultdict(dict)
    for topic in ("labeler-results", "labeler-dlq"):
        for record in await everything(log, topic):
            if erasure := read_erasure(record):
                erasures[erasure][topic] = record
                continue
            source = _source(topic, record)
            assert source not in endings, f"{source} ended twice"
            endings[source] = (topic, record)
    assert all(set(last) == {"labeler-results", "labeler-dlq"} for last in erasures.values()), "both topics are told"
    for event in await everything(log, "notes"):
        place = (event.partition, event.offset)
        if event.value is None or json.loads(event.value)["kind"] == "deleted":
            assert any(erasure.source[1:] == place for erasure in erasures), f"{event} erases nothing"
            continue
        covering = [erasure for erasure in erasures if _covers(erasure, event)]
        assert place in endings or covering, f"{event} is lost"
        if place in endings:
            topic, record = endings[place]
            assert all(record.offset < erasures[erasure][topic].offset for erasure in covering), f"{event} came back"


def _covers(erasure, event):
    is_before = event.partition == erasure.source.partition and event.offset < erasure.source.offset
    return is_before and erasure.covers(event.key, json.loads(event.value)["page"])


def _source(topic, record):
    if topic == "labeler-dlq":
        letter = read_letter(record)
        return letter.source.partition, letter.source.offset
    source = json.loads(record.value)["source"]
    return source["partition"], source["offset"]
