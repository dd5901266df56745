"""What endings become: whatever stands in an event, its record fits into the log, and the worker goes on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes import Label, Note, ScriptedTier, make_task, note, running, until
from penstock import Answer, Charge, Deferred, Erase, Failure, NewRecord, Partition, Record, Responder
from penstock.deadletters.letter import read_letter
from penstock.engine.batcher import BatchLimits
from penstock.engine.cascade import Ending, Erased, HandOver, Skipped
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.publish import Publisher
from penstock.engine.reader import MAX_NAME_CHARS, Reader
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.state import STATE_TOPIC

LEAST = 16 * 1024
"""The smallest that a log's settings allow."""
PLACE = Partition("notes", 0)
LENGTHS = st.sampled_from([0, 1, 30, 1_000, MAX_NAME_CHARS, MAX_NAME_CHARS + 1, 4_000, LEAST - 600, LEAST, 3 * LEAST])
LETTERS = st.sampled_from(["a", "ä", "€", "😀", "\ud800", '"'])
TEXTS = st.builds(lambda letter, length: letter * length, LETTERS, LENGTHS)
WHOLE = st.builds(lambda letter, length: letter * length, LETTERS.filter(lambda letter: letter != "\ud800"), LENGTHS)
BYTES = st.one_of(st.none(), st.builds(lambda length: b"k" * length, LENGTHS))
NAMES = st.sampled_from(["ce_id", "ce_tenant", "traceparent", "penstock-priority", "other", "ce_" + "ü" * 6_000])
HEADERS = st.one_of(
    st.lists(st.tuples(NAMES, BYTES), max_size=4).map(tuple),
    st.integers(0, 1_500).map(lambda count: (("ce_a", b""),) * count),
)


def undo(record: Record, model: type[Note]) -> Note:
    """A decode hook that believes whatever it is told."""
    told = json.loads(record.value or b"{}")
    if told.get("erase") is not None:
        raise Erase("gone", subject=told["erase"])
    return Note(text=told["text"]).model_copy(update={"id": told["id"]})


def ending(item, stop, kind, output, charges):
    """One of each way to end."""
    if stop is not None:
        return Ending(item, stop)
    item.charges = [Charge(f"req_{n:027}", "claude-haiku-4-5", 1_000, 10, 0, 0, 3) for n in range(charges)]
    answer = Answer(Label(echo="").model_copy(update={"echo": output}), "sure", Responder("haiku", "claude-haiku-4-5"))
    outcomes = {
        "answer": answer,
        "deferred": Deferred(answer, "person"),
        "failure": Failure("refused", output),
        "hand_over": HandOver("overloaded", 1),
        "skipped": Skipped(output),
        "erased": Erased(output, item.subject),
    }
    return Ending(item, outcomes[kind])


@given(
    event_id=TEXTS,
    erase=st.one_of(st.none(), st.none(), WHOLE),
    key=BYTES,
    headers=HEADERS,
    kind=st.sampled_from(["answer", "answer", "deferred", "failure", "hand_over", "skipped", "erased"]),
    output=TEXTS,
    charges=st.sampled_from([0, 1, 4, 300]),
    max_bytes=st.sampled_from([LEAST, 2 * LEAST, 1_040_000]),
)
@example("a" * 600_000, None, b"k", (), "answer", "", 1, 1_040_000)
@example("a", None, b"k" * 1_039_000, (), "answer", "", 1, 1_040_000)
@example("a", None, b"k", (("ce_tenant", b"t" * 1_039_000),), "answer", "", 1, 1_040_000)
@example("€" * MAX_NAME_CHARS, None, b"k" * LEAST, (), "failure", "€" * 500, 300, LEAST)
@settings(deadline=None, max_examples=250)
def test_every_record_fits_and_every_item_ends_once(event_id, erase, key, headers, kind, output, charges, max_bytes):
    """Laws 1 and 2: whatever ids, subjects, headers, keys and outputs are, the log takes the one record that ends the event."""
    task = make_task(ScriptedTier(), decode=undo)
    value = json.dumps({"id": event_id, "text": "good", "erase": erase}).encode()
    item, stop = Reader(task).read(Record("notes", 0, 5, key, value, headers, 1), PLACE)
    ended = ending(item, stop, kind, output, charges)
    publisher = Publisher(task, max_bytes)
    records = publisher.encode_all([ended], 9)
    if not isinstance(ended.outcome, Skipped | Erased):  # those write ids that are made anew each time
        assert publisher.encode_all([publisher.pack(ended)], 9) == records
    assert [record.size for record in records if record.size > max_bytes] == []
    topics = Counter(record.topic for record in records if record.topic != STATE_TOPIC)
    if isinstance(ended.outcome, Skipped):
        assert not topics
    elif isinstance(ended.outcome, Erased) and topics[task.writes]:
        assert topics == {task.writes: 1, task.dead_letters: 1, task.retry_topic: 1}
    else:
        assert topics.total() == 1
    for record in records:
        if record.topic == task.dead_letters and record.value is not None:
            letter = read_letter(Record(record.topic, 0, 0, record.key, record.value, record.headers, 9))
            assert (letter.source.offset, letter.nanousd) == (5, sum(charge.nanousd for charge in item.charges))
            if letter.is_pointer:
                assert json.loads(record.value)["sha256"] == hashlib.sha256(value).hexdigest()


def test_an_answer_that_waits_for_its_turn_keeps_no_event_it_does_not_need():
    """What is held by the thousand holds no event and no model; an answer that may yet become a dead letter keeps its event."""
    task = make_task(ScriptedTier(), decode=undo)
    for kind, output, is_kept in [("answer", "x", False), ("answer", "x" * 1_000_000, True), ("failure", "x", True)]:
        value = json.dumps({"id": "n1", "text": "good"}).encode()
        item, stop = Reader(task).read(Record("notes", 0, 5, b"k", value, (), 1), PLACE)
        packed = Publisher(task, 1_040_000).pack(ending(item, stop, kind, output, 1))
        assert packed.item.record.value == (value if is_kept else None)


def test_a_name_of_the_longest_length_is_taken():
    """What is allowed is answered under its own name; one character more is a dead letter that says what to do."""
    reader = Reader(make_task(ScriptedTier()))

    def read(length):
        value = json.dumps({"id": "i" * length, "text": "good"}).encode()
        return reader.read(Record("notes", 0, 5, b"k", value, (), 1), PLACE)

    item, stop = read(MAX_NAME_CHARS)
    assert (item.event_id, item.subject, stop) == ("i" * MAX_NAME_CHARS, "i" * MAX_NAME_CHARS, None)
    item, stop = read(MAX_NAME_CHARS + 1)
    assert (item.event_id, item.subject) == ("notes/0/5", "")
    assert isinstance(stop, Failure)
    assert (stop.reason, stop.detail[:50]) == ("undecodable", "event id has 1,025 characters, at most 1,024: give")


def test_a_deletion_with_an_endless_id_still_erases():
    """The id of a deletion matters to nobody: its subject is erased all the same."""
    task = make_task(ScriptedTier(), decode=undo)
    value = json.dumps({"erase": "page 7"}).encode()
    headers = (("ce_id", b"i" * 500_000),)
    item, stop = Reader(task).read(Record("notes", 0, 5, b"k", value, headers, 1), PLACE)
    assert stop == Erased("gone", "page 7")
    assert item.event_id == "notes/0/5"


def test_a_forged_hand_over_ends_as_a_dead_letter():
    """What stands in the retry topic and is no hand-over of ours stops nobody, whatever is wrong with it."""
    task = make_task(ScriptedTier())
    reader = Reader(task)
    told = {"topic": "notes", "partition": "0", "offset": "3", "timestamp": "1", "attempts": "1", "step": "0"}
    told |= {"charges": "[]", "not-before": "0"}
    wrong = [{"attempts": "x"}, {"charges": "[[1]]"}, {"charges": "{"}, {"topic": "t" * 250}, {"reason": "r" * 70_000}]
    for change in [{}, *wrong]:
        headers = tuple((f"penstock.retry.{name}", text.encode()) for name, text in (told | change).items())
        record = Record(task.retry_topic, 0, 5, b"k", b'{"text": "good"}', headers, 1)
        _, stop = reader.read(record, Partition(task.retry_topic, 0))
        assert (isinstance(stop, Failure) and stop.reason == "undecodable") == bool(change)


async def test_a_worker_goes_on_behind_events_that_no_record_can_carry(tmp_path):
    """Law 1 on the embedded log: endless ids, subjects, keys and headers end as dead letters, their neighbours as results."""
    log = SqliteLog(tmp_path / "events.db", options=SqliteOptions(max_record_bytes=2_000_000))
    names = ("notes", "labeler-results", "labeler-dlq", "labeler.retry")
    await log.create_topics(
        [TopicSpec(name, partitions=1) for name in names] + [TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)]
    )
    long, largest = "i" * 900_000, "k" * 1_900_000
    text = json.dumps({"text": "good"}).encode()
    poison = [
        note(0, id=long),
        NewRecord("notes", b"k", text, (("ce_id", long.encode()),)),
        NewRecord("notes", b"k", text, (("ce_tenant", b"t" * 1_999_500),)),
        NewRecord("notes", largest.encode() + b"k" * 99_500, text),
    ]
    events = [event for number, one in enumerate(poison, start=1) for event in (one, note(number))]
    await log.append(events)
    tier = ScriptedTier()
    quick = PipelineOptions(commit_interval_seconds=0.01, batch=BatchLimits(max_wait_seconds=0.01))
    pipeline = Pipeline(make_task(tier), [tier], log, quick)

    async def ended():
        return pipeline.counts.done >= len(events)

    async with running(pipeline):
        await until(ended)
    results = [json.loads(record.value) for record in await log.read(Partition("labeler-results", 0), 0, 99)]
    letters = [read_letter(record) for record in await log.read(Partition("labeler-dlq", 0), 0, 99)]
    await log.close()
    assert sorted(result["event_id"] for result in results) == ["n1", "n2", "n3", "n4"]
    assert [letter.source.offset for letter in letters] == [0, 2, 4, 6]
    assert [letter.reason for letter in letters] == ["undecodable", "undecodable", "too_large", "too_large"]
