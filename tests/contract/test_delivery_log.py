"""Delivery on every log: groups of its own, progress over restarts, orders of a person, letters in the same act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contract.log_fixtures import unique
from penstock import Delivery, Refused, SinkAway
from penstock.cli.deliver import waiting
from penstock.log.base import EventLog
from penstock.sinks.orders import pause_order, redeliver_order, resume_order
from penstock.sinks.reading import feeds_of
from sink_feed import QUICK, TASK, Feeder, Remembering, deliveries, delivering, letters_in, made_topics, until

COUNT = 200


async def test_results_reach_a_sink_once_over_restarts(log: EventLog) -> None:
    """In the order of each key; what is refused becomes a letter in the act that passes it; nothing comes twice."""
    task = replace(TASK, name=unique("labeler"), writes=unique("labels"), dead_letters=unique("letters"))
    await made_topics(log, task, partitions=3)
    feed, feeds = Feeder(task), feeds_of([task])
    await log.append([feed.result(str(n), key=b"k%d" % (n % 7)) for n in range(COUNT)])
    name = unique("sink")

    def script(batch: Sequence[Delivery]) -> list[Refused]:
        if len(sink.batches) == 1 and not away:
            away.append(1)
            raise SinkAway("for a moment", 0.01)
        return [Refused(one, "odd") for one in batch if one.content.event_id == "13"]

    away: list[int] = []
    sink = Remembering(name, script, max_batch_items=50)
    async with delivering(sink, log, QUICK, feeds) as loop:
        await until(lambda: len(sink.taken) == COUNT - 1 and loop.counts.letters == 1, "all is delivered or buried")
    by_key: dict[bytes | None, list[int]] = {}
    for one in sink.taken:
        by_key.setdefault(one.record.key, []).append(int(one.content.event_id))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert len(await letters_in(log, task.dead_letters)) == 1
    await log.append([feed.result("new")])
    again = Remembering(name)
    async with delivering(again, log, QUICK, feeds) as loop:
        await until(lambda: again.taken, "the new one is delivered")
    assert again.ids() == ["new"]
    assert await waiting(log, [loop]) <= 1  # nothing in the log waits; the loop itself has ended


async def test_a_persons_orders_hold_on_every_log(log: EventLog) -> None:
    """Pause, resume and redelivery go through the state topic, and are obeyed by a process that starts later."""
    task = replace(TASK, name=unique("labeler"), writes=unique("labels"), dead_letters=unique("letters"))
    await made_topics(log, task)
    feed, feeds, name = Feeder(task), feeds_of([task]), unique("sink")
    await log.append([feed.result(str(n), key=b"k") for n in range(10)])
    first = Remembering(name, max_batch_items=4)
    async with delivering(first, log, QUICK, feeds):
        await until(lambda: len(first.taken) == 10, "all is delivered")
    since = deliveries([feed.result("x")])[0].committed_ms - 3_500
    await log.append([pause_order(f"sink.{name}"), redeliver_order(f"sink.{name}", since)])
    second = Remembering(name, max_batch_items=2)
    async with delivering(second, log, QUICK, feeds) as loop:
        await until(lambda: loop.orders.is_paused and loop.positions(), "it knows that it is paused")
        assert second.taken == []
        await log.append([resume_order(f"sink.{name}")])
        await until(lambda: len(second.taken) == 3 and loop.is_settled, "the last three come again")
    assert second.ids() == ["7", "8", "9"]
