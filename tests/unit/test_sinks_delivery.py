"""The delivery loop: its own group, in order, at least once; a person's orders; faults taken apart; what becomes a letter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock import Delivery, NewRecord, Partition, Refused, SinkAway, UserError
from penstock.deadletters.letter import read_letter
from penstock.errors import LogUnavailable, SettingsError
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.state import STATE_TOPIC
from penstock.ops.deliveries import DeliveryOps, held_by
from penstock.ops.server import OpsOptions
from penstock.sinks.batch import Batch
from penstock.sinks.delivery import DeliveryLoop
from penstock.sinks.orders import Orders, pause_order, redeliver_order, resume_order
from penstock.sinks.reading import feeds_of, read_delivery
from sink_feed import QUICK, TASK, Feeder, Remembering, deliveries, delivering, letters_in, made_topics, until

OPTIONS = SqliteOptions(heartbeat_seconds=0.05, session_timeout_seconds=2.0, synchronous="normal")


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    made = SqliteLog(tmp_path / "log.db", options=OPTIONS)
    await made_topics(made, partitions=2)
    yield made
    await made.close()


async def test_each_sink_gets_everything_once_and_in_order(log: SqliteLog) -> None:
    """Two sinks are two groups; a second run begins where the first has ended."""
    feed = Feeder()
    await log.append([feed.result(str(n), key=b"k") for n in range(50)])
    one, two = Remembering("one", max_batch_items=7), Remembering("two")
    for sink in (one, two):
        async with delivering(sink, log):
            await until(lambda sink=sink: len(sink.taken) == 50, "all is delivered")
        assert sink.ids() == [str(n) for n in range(50)]
        assert (sink.opened, sink.closed) == (1, 1)
    assert max(map(len, one.batches)) == 7
    await log.append([feed.result("more", key=b"k")])
    again = Remembering("one")
    async with delivering(again, log):
        await until(lambda: again.taken, "what is new is delivered")
    assert again.ids() == ["more"]


async def test_what_is_read_is_what_was_written() -> None:
    """Every field of a result, a dead letter and an erasure comes through."""
    feed = Feeder()
    result, letter, erasure = deliveries([feed.result("a", "bad"), feed.letter("b"), feed.erasure("c", "a")[0]])
    assert [one.kind for one in (result, letter, erasure)] == ["result", "letter", "erasure"]
    assert (result.content.output, result.content.nanousd, result.content.usage) == (
        {"label": "bad", "echo": ""},
        70,
        (10, 0, 0, 3),
    )
    assert result.content.times.committed == result.committed_ms > 0
    assert (letter.content.reason, letter.task, erasure.content.subject) == ("refused", "labeler", "a")
    assert len({one.id for one in (result, letter, erasure)}) == 3


@pytest.mark.parametrize("value", [b"{}", b"[]", b"no json", None, b'{"id":1,"task":[]}', b'"x"'])
async def test_what_is_nothing_of_ours_is_told(log: SqliteLog, value: bytes | None) -> None:
    """It becomes a dead letter and holds nothing up."""
    sink = Remembering()
    await log.append([NewRecord(TASK.writes, b"k", value, partition=0), replace_partition(Feeder().result("a"))])
    async with delivering(sink, log) as loop:
        await until(lambda: sink.taken and loop.counts.letters, "its neighbour is delivered")
    (record,) = await letters_in(log)
    letter = read_letter(record)
    assert (letter.stage, letter.reason, letter.task, letter.nanousd) == ("deliver", "undecodable", TASK.name, 0)
    assert record.value is not None  # without one it would erase
    assert sink.ids() == ["a"]


def replace_partition(record: NewRecord) -> NewRecord:
    return record._replace(partition=0)


async def test_weather_is_waited_out_with_the_rest_of_the_batch(log: SqliteLog) -> None:
    """What a sink has taken before it went away is not offered again; nothing is committed before all is taken."""
    feed = Feeder()
    await log.append([feed.result(str(n), key=b"k") for n in range(4)])
    offered: list[list[str]] = []

    def script(batch: Sequence[Delivery]) -> None:
        offered.append([one.content.event_id for one in batch])
        if len(offered) < 3:
            raise SinkAway("closed", 0.01, delivered=batch[:1])

    sink = Remembering(script=script)
    async with delivering(sink, log) as loop:
        await until(lambda: sink.taken, "the rest is delivered")
        assert not loop.trouble.why
    assert offered == [["0", "1", "2", "3"], ["1", "2", "3"], ["2", "3"]]
    assert loop.counts.troubles == {"away": 2}
    assert await letters_in(log) == []


async def test_an_outage_of_one_sink_holds_no_other(log: SqliteLog) -> None:
    """The other's group goes on, and a stop does not wait for the one that is away."""
    feed = Feeder()
    await log.append([feed.result(str(n)) for n in range(3)])

    def away(_: Sequence[Delivery]) -> None:
        raise SinkAway("gone for long", 3600)

    gone, fine = Remembering("gone", away), Remembering("fine")
    async with delivering(gone, log) as loop, delivering(fine, log):
        await until(lambda: loop.trouble.why and len(fine.taken) == 3, "one is away, the other is served")
        assert held_by(loop) == "away"
        await log.append([feed.result("4")])
        await until(lambda: len(fine.taken) == 4, "it goes on")
    assert gone.taken == []


async def test_a_culprit_is_found_and_its_neighbours_pass(log: SqliteLog) -> None:
    """A delivery that fails alone again and again, while others pass, becomes a letter; those of its key wait for it."""
    feed = Feeder()
    await log.append([feed.result(name, key=key)._replace(partition=0) for name, key in
                      (("a", b"1"), ("bad", b"2"), ("b", b"3"), ("behind", b"2"))])  # fmt: skip

    def script(batch: Sequence[Delivery]) -> None:
        if any(one.content.event_id == "bad" for one in batch):
            raise RuntimeError("a fault")

    sink = Remembering(script=script)
    async with delivering(sink, log, replace(QUICK, max_attempts=2)) as loop:
        await until(lambda: loop.counts.letters == 1 and len(sink.taken) == 3, "only the culprit is buried")
    assert sink.ids() == ["a", "b", "behind"]
    letter = read_letter((await letters_in(log))[0])
    assert (letter.reason, letter.event_id, letter.attempts, letter.stage) == ("sink_failed", "bad", 2, "deliver")


async def test_a_fault_that_hits_all_is_the_sinks_own(log: SqliteLog) -> None:
    """No delivery is buried for it, however often it is tried; when it is over everything is delivered."""
    feed = Feeder()
    await log.append([feed.result(str(n)) for n in range(30)])
    broken = True

    def script(_: Sequence[Delivery]) -> None:
        if broken:
            raise RuntimeError("nothing works")

    sink = Remembering(script=script)
    async with delivering(sink, log, replace(QUICK, max_attempts=1)) as loop:
        await until(lambda: loop.counts.troubles["fault"] > 30, "it was tried again and again")
        assert not loop.counts.refused
        broken = False
        await until(lambda: len(sink.taken) == 30, "all is delivered")
    assert await letters_in(log) == []


async def test_a_sink_that_recovers_among_lone_offers_buries_none(log: SqliteLog) -> None:
    """What failed before the first delivery of a batch passed was the sink's fault, even where one failure is enough."""
    feed = Feeder()
    await log.append([feed.result(str(n)) for n in range(8)])
    offers: list[int] = []

    def script(batch: Sequence[Delivery]) -> None:
        offers.append(len(batch))
        if len(offers) <= 5:
            raise RuntimeError("not yet")

    sink = Remembering(script=script)
    async with delivering(sink, log, replace(QUICK, max_attempts=1)) as loop:
        await until(lambda: len(sink.taken) == 8, "all is delivered")
        assert not loop.counts.refused
    assert await letters_in(log) == []


async def test_a_refused_letter_is_not_buried_again(log: SqliteLog) -> None:
    """Dead letters about dead letters would never end; it stands among them already."""
    feed = Feeder()
    await log.append([feed.letter("a"), feed.letter("b")])
    sink = Remembering(script=lambda batch: [Refused(one, "never") for one in batch])
    sink.reads = frozenset({"letters"})
    async with delivering(sink, log) as loop:
        await until(lambda: loop.counts.refused["refused"] == 2, "both are refused")
    assert len(await letters_in(log)) == 2


async def test_orders_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """Somebody may have made the state topic with several partitions: an order in any of them is obeyed."""
    log = SqliteLog(tmp_path / "log.db", options=SqliteOptions(synchronous="normal"))
    await log.create_topics([TopicSpec(STATE_TOPIC, 3, retention_ms=None, is_compacted=True)])
    groups = [f"sink.{number}" for number in range(8)]
    await log.append([pause_order(group) for group in groups])
    assert min(kept.high for kept in (await log.bounds(STATE_TOPIC)).values()) > 0
    for group in groups:
        orders = Orders(log, group)
        await orders.look()
        assert orders.is_paused
    await log.close()


async def test_a_pause_holds_over_restarts(log: SqliteLog) -> None:
    """A paused sink gets nothing until a person says so, whoever starts it; another one is not touched."""
    feed = Feeder()
    await log.append([pause_order("sink.one")])
    await log.append([feed.result("a")])
    for _ in range(2):
        one, two = Remembering("one"), Remembering(f"two-{_}")
        async with delivering(one, log) as loop, delivering(two, log):
            await until(lambda loop=loop, two=two: held_by(loop) == "paused" and two.taken, "the other one is served")
            assert one.taken == []
    one = Remembering("one")
    async with delivering(one, log) as loop:
        await until(lambda: held_by(loop) == "paused", "it knows")
        await log.append([resume_order("sink.one")])
        await until(lambda: one.taken, "it goes on")
        await log.append([pause_order("sink.one")])
        await until(lambda: loop.orders.is_paused, "it waits again")


@pytest.mark.parametrize("is_running", [True, False])
async def test_redelivery_repeats_what_was_written_since_a_time(log: SqliteLog, is_running: bool) -> None:
    """Once, before anything newer of the partition, and not again at the next start."""
    feed = Feeder()
    await log.append([feed.result(str(n), key=b"k") for n in range(20)])
    from_ms = deliveries([feed.result("later", key=b"k")])[0].committed_ms - 5_500
    first = Remembering("one", max_batch_items=3)
    order = redeliver_order("sink.one", from_ms)
    async with delivering(first, log):
        await until(lambda: len(first.taken) == 20, "all is delivered")
        if is_running:
            await log.append([order])
            await until(lambda: len(first.taken) == 25, "the last five come again")
    if not is_running:
        await log.append([order])
        await log.append([feed.result("new", key=b"k")])
        first = Remembering("one", max_batch_items=3)
        async with delivering(first, log):
            await until(lambda: len(first.taken) == 6, "the last five come again, then the new one")
        assert first.ids() == ["15", "16", "17", "18", "19", "new"]
    else:
        assert first.ids()[20:] == ["15", "16", "17", "18", "19"]
    next_one = Remembering("one")
    await log.append([feed.result("end", key=b"k")])
    async with delivering(next_one, log):
        await until(lambda: next_one.taken, "the next start")
    assert next_one.ids() == ["end"]


async def test_a_rebalance_takes_nothing_away_and_ends_a_call_that_hangs(log: SqliteLog, tmp_path: Path) -> None:
    """A second process takes partitions while the first one's call hangs: what was not committed is delivered there."""
    feed = Feeder()
    await log.append([feed.result(str(n), key=str(n).encode()) for n in range(20)])
    hanging = asyncio.Event()

    async def hang(_: Sequence[Delivery]) -> None:
        hanging.set()
        await asyncio.Event().wait()

    first, second = Remembering("one", hang), Remembering("one")
    log_2 = SqliteLog(
        tmp_path / "log.db",
        options=OPTIONS,
    )
    quick = replace(QUICK, drain_seconds=0.2)
    try:
        async with AsyncExitStack() as other:
            async with delivering(first, log, quick):
                await asyncio.wait_for(hanging.wait(), 30)
                await other.enter_async_context(delivering(second, log_2, quick))
                await until(lambda: second.taken, "the other one has its part")
            await until(lambda: set(second.ids()) == {str(n) for n in range(20)}, "the other one has it all")
    finally:
        await log_2.close()
    assert first.taken == []


async def test_a_sink_that_cannot_be_opened_yet_is_waited_for(log: SqliteLog) -> None:
    """Whatever it raises but a person's mistake; it joins its group only then, so that another process has the work."""

    class Slow(Remembering):
        async def open(self) -> None:
            await super().open()
            if self.opened < 3:
                raise SinkAway("not yet", 0.01) if self.opened < 2 else OSError("a fault")

    await log.append([Feeder().result("a")])
    sink = Slow()
    async with delivering(sink, log):
        await until(lambda: sink.taken, "it was opened at last")
    assert sink.opened == 3


async def test_a_users_mistake_stops_the_sink(log: SqliteLog) -> None:
    """A `UserError` needs a person: the loop ends with it, and says that it has stopped."""

    def script(_: Sequence[Delivery]) -> None:
        raise UserError("the token was revoked: make another")

    await log.append([Feeder().result("a")])
    loop = DeliveryLoop(Remembering(script=script), feeds_of([TASK]), log, QUICK)
    with pytest.raises(UserError, match="revoked"):
        await loop.run(asyncio.Event())
    assert held_by(loop) == "stopped"


async def test_a_log_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Join, poll and commit are tried again; a delivery may come twice, none is lost."""

    class Away(SqliteLog):
        misses = 2

        async def join(self, *arguments: Any, **settings: Any) -> Any:
            if self.misses:
                self.misses -= 1
                raise LogUnavailable("no answer")
            consumer = await super().join(*arguments, **settings)
            commit = consumer.commit

            async def unsteady(progress: Any) -> None:
                if loop.counts.log_errors["commit"] < 1:
                    raise LogUnavailable("no answer")
                await commit(progress)

            consumer.commit = unsteady  # type: ignore[method-assign]
            return consumer

    log = Away(tmp_path / "log.db", options=OPTIONS)
    await made_topics(log)
    await log.append([Feeder().result("a")])
    sink = Remembering()
    async with delivering(sink, log) as loop:
        await until(lambda: loop.counts.log_errors["commit"] == 1 and loop.positions(), "the commit failed once")
        await until(lambda: any(done.base for done in loop.positions().values()), "and passed then")
    assert sink.ids() == ["a"]
    assert loop.counts.log_errors["join"] == 2
    await log.close()


async def test_results_wait_for_company(log: SqliteLog) -> None:
    """A sink that wants many at once gets them at once, or after its time; the test never looks at a clock."""
    feed = Feeder()
    sink = Remembering(max_batch_items=5, max_wait_seconds=0.2)
    async with delivering(sink, log):
        for n in range(3):
            await log.append([feed.result(str(n), key=b"k")])
        await until(lambda: len(sink.taken) == 3, "the time is over")
    assert sum(map(len, sink.batches)) == 3


async def test_foreign_tasks_in_one_topic_are_passed_over(log: SqliteLog) -> None:
    """Two tasks may write to one topic: a sink fed with one of them does not get the other's."""
    other = replace(TASK, name="other")
    await log.append([Feeder(other).result("theirs"), Feeder().result("ours")])
    sink = Remembering()
    async with delivering(sink, log):
        await until(lambda: sink.taken, "ours is delivered")
    assert sink.ids() == ["ours"]


async def test_progress_goes_up_to_the_first_that_is_open() -> None:
    """Behind it nothing is committed, neither offsets nor letters, whatever has been settled there."""
    batch = Batch()
    all_of = [read_delivery(one.record) for one in deliveries([Feeder().result(str(n)) for n in range(4)])]
    for one in all_of:
        batch.add(one.record, one)
    partition = Partition(TASK.writes, 0)
    letter = NewRecord("letters", None, b"")
    batch.settle(all_of[:1])
    batch.bury(all_of[2].record, letter)
    assert batch.progress() == {partition: (1, ())}
    batch.settle(all_of[1:2])
    assert batch.progress() == {partition: (3, (letter,))}
    batch.drop({partition})
    assert (batch.progress(), batch.is_open) == ({}, False)


async def test_the_port_tells_of_every_sink(log: SqliteLog) -> None:
    """Deliveries, lag, what holds a sink; a sink that is away makes nobody unready, one that stopped does."""
    await log.append([Feeder().result("a"), Feeder().result("b", simulated=True)])
    sink = Remembering()
    async with delivering(sink, log) as loop:
        ops = DeliveryOps(OpsOptions(port="off"), [loop], log)
        await until(lambda: sink.taken and sum(done.base for done in loop.positions().values()) == 2, "delivered")
        await ops.look()
        page = ops.exposition.page()[0].decode()
        assert 'penstock_sink_delivered_total{kind="result",sink="memory"} 1.0' in page
        assert 'penstock_sink_refused_total{reason="simulated",sink="memory"} 1.0' in page
        assert 'penstock_sink_lag_records{sink="memory"} 0.0' in page
        assert all(check.is_ok for check in [*ops.readiness(), *ops.liveness(), *ops.start()])
        loop.trouble.begin("closed on Sundays")
        assert all(check.is_ok for check in ops.readiness())
        loop.fault = SettingsError("a person must act")
        assert not all(check.is_ok for check in ops.readiness())
        loop.fault = None


@pytest.mark.parametrize("wrong", [{"first_wait_seconds": 0}, {"group_prefix": "a b"}, {"max_attempts": 0}])
def test_options_that_cannot_work_are_told(wrong: dict[str, Any]) -> None:
    """By the name of the setting."""
    with pytest.raises(SettingsError, match=f"deliver.{next(iter(wrong))}"):
        replace(QUICK, **wrong)


def test_a_sink_needs_a_name_that_can_name_a_group(tmp_path: Path) -> None:
    """It is the consumer group."""
    log = SqliteLog(tmp_path / "log.db", options=OPTIONS)
    with pytest.raises(SettingsError, match="name='a b'"):
        DeliveryLoop(Remembering("a b"), feeds_of([TASK]), log)
