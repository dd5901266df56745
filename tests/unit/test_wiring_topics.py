"""What a starting worker says about its topics: refused where work must not begin, told where it is unwise."""

from __future__ import annotations

import logging

import pytest

from fakes import ScriptedTier, make_task
from penstock.errors import SettingsError, TopicMissing
from penstock.log.base import TopicSpec
from penstock.log.kafka.options import RECORD_OVERHEAD_BYTES, KafkaOptions
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from penstock.log.topics import DAY_MS, LARGEST_RECORD_BYTES, Home, days, faults, topic_specs, uses_of
from penstock.settings import load_settings
from penstock.wiring import build_worker, home_of, prepare_topics


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    yield log
    await log.close()


def settings(tmp_path, *assignments):
    return load_settings(assignments=[f"log=sqlite:{tmp_path / 'events.db'}", *assignments]).settings


async def test_topics_as_they_should_be_say_nothing(log, tmp_path):
    """Those that `topics create --task` makes, and those that a worker makes itself."""
    task = make_task(ScriptedTier())
    await log.create_topics(topic_specs(task)[:1])
    assert await prepare_topics(settings(tmp_path), [task], log) == []
    assert set(await log.topics()) == {spec.name for spec in topic_specs(task)}
    assert await prepare_topics(settings(tmp_path), [task], log) == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (TopicSpec("notes", 1), "has one partition"),
        (TopicSpec("notes", 2, retention_ms=DAY_MS // 24), "keeps events 60 minutes"),
        (TopicSpec("notes", 2, settings={"retention.bytes": "5000"}), "keeps 5,000 bytes a partition"),
    ],
)
async def test_what_is_unwise_is_told_and_work_begins(log, tmp_path, caplog, spec, says):
    """One line in the worker's log, with the reason and what to do."""
    task = make_task(ScriptedTier())
    await log.create_topics([spec])
    (found,) = await prepare_topics(settings(tmp_path), [task], log)
    assert (found.topic, found.is_fatal) == ("notes", False)
    caplog.set_level(logging.WARNING, "penstock.wiring")
    worker = build_worker(settings(tmp_path), [task], log)
    worker.stop()
    await worker.run()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "penstock.wiring"]
    assert says in line
    assert found.why in line
    assert found.fix in line


async def test_a_state_topic_that_forgets_is_refused(log, tmp_path):
    """What must survive a restart would be deleted by age."""
    task = make_task(ScriptedTier())
    await log.create_topics([*topic_specs(task)[:4], TopicSpec(STATE_TOPIC, 1)])
    with pytest.raises(SettingsError, match=rf"{STATE_TOPIC} has cleanup\.policy=delete.*Do: "):
        await prepare_topics(settings(tmp_path), [task], log)


async def test_an_input_that_nobody_made_is_refused(log, tmp_path):
    """Its events come from others: made by us it would stay empty unseen."""
    with pytest.raises(TopicMissing, match="penstock topics create notes"):
        await prepare_topics(settings(tmp_path), [make_task(ScriptedTier())], log)


def test_our_largest_record_fits_kafkas_default():
    """Defaults fit each other; a raised limit asks for raised topics."""
    assert KafkaOptions().max_message_bytes == LARGEST_RECORD_BYTES
    raised = load_settings(assignments=["log=kafka:b:9092", "kafka_log.max_record_bytes=2000000"]).settings
    assert home_of(raised, 3) == Home("b:9092", 3, 2_000_000 + RECORD_OVERHEAD_BYTES)


@pytest.mark.parametrize(
    ("assignments", "has_new_protocol", "is_classic"),
    [
        ([], True, False),
        ([], False, True),
        (["kafka_log.group_protocol=classic"], True, True),
        (["kafka_log.group_protocol=consumer"], False, False),
        (["kafka_log.static_membership=true"], True, True),
        (["kafka.session.timeout.ms=6000"], True, True),
    ],
)
def test_which_groups_are_classic(assignments, has_new_protocol, is_classic):
    """Those that are told to be, and those of brokers that have no others: there partitions are shared over all topics together."""
    found = load_settings(assignments=["log=kafka:b:9092", *assignments]).settings
    assert home_of(found, 3, has_new_protocol=has_new_protocol).has_classic_groups == is_classic


def test_a_retry_topic_is_a_quarter_as_wide_as_its_input():
    """Rounded up: it can take the place of few of the input's partitions where a group's assignor evens out the sum of both."""
    task = make_task(ScriptedTier())
    made = {partitions: topic_specs(task, partitions)[3] for partitions in (1, 2, 4, 5, 12, 100)}
    assert {spec.name for spec in made.values()} == {task.retry_topic}
    assert {partitions: spec.partitions for partitions, spec in made.items()} == {
        1: 1,
        2: 1,
        4: 1,
        5: 2,
        12: 3,
        100: 25,
    }


async def test_a_topic_that_several_tasks_use_is_told_once(log):
    """Faults are those of topics, not of tasks."""
    tasks = [make_task(ScriptedTier()), make_task(ScriptedTier(), writes="other", dead_letters="other-dlq")]
    await log.create_topics([TopicSpec("notes", 1)])
    assert len(faults(uses_of(tasks), await log.topics(), Home())) == 1


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(90_000, "90 seconds"), (600_000, "10 minutes"), (6 * 3_600_000, "6 hours"), (7 * DAY_MS, "7 days")],
)
def test_times_are_said_as_people_say_them(milliseconds, said):
    """Two of a unit at least."""
    assert days(milliseconds) == said
