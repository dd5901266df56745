"""The contract of the event log, third part: several workers of a group, and who may commit (law 3)."""

from __future__ import annotations

import asyncio

import pytest

from contract.log_fixtures import Echo, Worker, all_records, eventually, made_topic, polled_until, unique, values
from penstock.errors import PartitionsLost
from penstock.log.base import EventLog, PartProgress, Progress
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition


async def loaded(log: EventLog, partitions: int, records_each: int) -> str:
    topic = await made_topic(log, partitions)
    for number in range(partitions):
        await log.append([NewRecord(topic, None, b"%d" % n, partition=number) for n in range(records_each)])
    return topic


async def test_two_workers_share_evenly(log, open_log):
    """A second worker gets half; only what it gets moves, and nothing is owned by both."""
    topic, group = await loaded(log, 6, 5), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.owns(6)
    two = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 3, "each owns three", one, two)
    assert not set(one.owned) & set(two.owned)
    assert len(one.revoked_ever) == 3, "the three that stay were not touched"
    assert set(one.revoked_ever) == set(two.owned)


async def test_no_partition_has_two_owners(open_log):
    """While workers come and go, a partition is assigned only after its former owner's revoke has returned."""
    log = open_log()
    topic, group = await loaded(log, 5, 50), unique("g")
    owner: dict[Partition, Worker] = {}

    async def join() -> Worker:
        worker = Worker()

        async def on_assigned(assignments) -> None:
            for assignment in assignments:
                assert owner.get(assignment.partition) is None, "assigned while another owns it"
                owner[assignment.partition] = worker

        async def on_revoked(partitions) -> None:
            await asyncio.sleep(0.1)  # a drain takes its time; the partition is ours until we return
            for partition in partitions:
                assert owner.pop(partition) is worker

        worker.on_assigned, worker.on_revoked = on_assigned, on_revoked
        worker.consumer = await open_log().join(group, [topic], worker, start_from="earliest")
        return worker

    one = await join()
    await polled_until(lambda: len(one.owned) == 5, "one owns all", one)
    two = await join()
    await polled_until(lambda: sorted((len(one.owned), len(two.owned))) == [2, 3], "two share", one, two)
    three = await join()
    await polled_until(
        lambda: sorted(map(len, (one.owned, two.owned, three.owned))) == [1, 2, 2], "three share", one, two, three
    )
    await one.consumer.close()
    await polled_until(lambda: sorted((len(two.owned), len(three.owned))) == [2, 3], "two are left", two, three)
    assert len(owner) == 5


async def test_more_workers_than_partitions(log, open_log):
    """Those for whom there is no partition own none and get no records, and step in when another leaves."""
    topic, group = await loaded(log, 1, 5), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.owns(1)
    two = await Worker.joined(open_log(), group, topic)
    for _ in range(5):
        await asyncio.gather(one.poll(), two.poll())
    assert (len(one.owned), len(two.owned)) in {(1, 0), (0, 1)}
    holder, reserve = (one, two) if one.owned else (two, one)
    await holder.consumer.close()
    await polled_until(lambda: len(reserve.owned) == 1, "the reserve steps in", reserve)


async def test_commit_is_allowed_until_revoke_returns(log, open_log):
    """The old owner commits inside `revoked`; the new one starts exactly there."""
    topic, results, group = await loaded(log, 4, 10), await made_topic(log, 1), unique("g")
    one = await Worker.joined(log, group, topic)

    async def finish(partitions) -> None:
        await one.consumer.commit(one.progress(NewRecord(results, b"k", b"drained"), only=partitions))

    await one.read_count(40)
    one.on_revoked = finish
    two = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 2, "each owns two", one, two)
    assert {a.done for a in two.owned.values()} == {OffsetMap(10)}
    assert two.read == []
    assert values(await all_records(log, results)) == [b"drained"]


async def test_commit_after_revoke_is_refused(log, open_log):
    """Once `revoked` has returned, a commit that names such a partition raises `PartitionsLost` and writes nothing at all."""
    topic, results, group = await loaded(log, 4, 10), await made_topic(log, 1), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.read_count(40)
    progress = Progress(
        tuple(PartProgress(p, OffsetMap(10), (NewRecord(results, b"k", b"%d" % p.number),)) for p in sorted(one.owned)),
        (NewRecord(results, b"k", b"waste"),),
    )
    two = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 2, "each owns two", one, two, max_records=0)
    with pytest.raises(PartitionsLost) as refused:
        await one.consumer.commit(progress)
    assert refused.value.partitions == set(two.owned)
    assert await all_records(log, results) == []
    assert set((await log.committed(group, topic)).values()) == {OffsetMap(0)}

    await one.consumer.commit(progress.without(refused.value.partitions))
    kept = {b"%d" % p.number for p in one.owned} | {b"waste"}

    async def is_visible() -> bool:
        return set(values(await all_records(log, results))) == kept

    await eventually(is_visible, "the part that is still ours was written")
    committed = await log.committed(group, topic)
    assert {p for p, done in committed.items() if done == OffsetMap(10)} == set(one.owned)


async def test_revoked_partitions_return_no_records(log, open_log):
    """From the call of `revoked` on no record of the partition is handed out, even while the drain still runs."""
    topic, group = await loaded(log, 2, 2_000), unique("g")
    leaving: set[Partition] = set()
    one = Worker()

    async def drain(partitions) -> None:
        leaving.update(partitions)
        count = len(one.read)
        await asyncio.sleep(0.2)
        assert not [r for r in one.read[count:] if (r.topic, r.partition) in leaving]

    one.on_revoked = drain
    one.consumer = await log.join(group, [topic], one, start_from="earliest")
    await one.owns(2)
    two = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: bool(leaving) and len(two.owned) == 1, "one partition moved", one, two, max_records=5)


async def test_leaving_hands_over_at_once(log, open_log):
    """A worker that closes revokes what it owns, may commit meanwhile, and its neighbours go on from there."""
    topic, group = await loaded(log, 4, 10), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.read_count(40)

    async def finish(partitions) -> None:
        await one.consumer.commit(one.progress(only=partitions))

    one.on_revoked = finish
    two = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: len(two.owned) == 2, "two got its half", one, two)
    await one.consumer.close()
    assert one.owned == {}
    await polled_until(lambda: len(two.owned) == 4, "two got the rest", two)
    assert {a.done for a in two.owned.values()} == {OffsetMap(10)}


async def test_work_in_flight_moves_without_loss(open_log):
    """A producer, two workers, a third joins and the first leaves: every record is answered by exactly one act."""
    log = open_log()
    topic, results, group = await made_topic(log, 6), await made_topic(log, 3), unique("g")
    total = 600
    seen: list[bytes | None] = []

    async def produce() -> None:
        for first in range(0, total, 20):
            await log.append([NewRecord(topic, b"%d" % n, b"%d" % n) for n in range(first, first + 20)])
            await asyncio.sleep(0.01)

    async def join() -> Echo:
        worker = Echo(results)
        worker.consumer = await open_log().join(group, [topic], worker, start_from="earliest")
        return worker

    async def all_answered() -> bool:
        seen[:] = values(await all_records(log, results))
        return len(seen) >= total

    def is_finished() -> bool:
        return len(seen) >= total

    producing = asyncio.create_task(produce())
    one, two = await join(), await join()
    working = [asyncio.create_task(two.work(is_finished))]
    await one.work(lambda: len(one.read) >= 100)
    three = await join()
    working.append(asyncio.create_task(three.work(is_finished)))
    await one.work(lambda: bool(three.owned))
    await one.consumer.close()
    await producing
    await eventually(all_answered, "all results are there")
    await asyncio.gather(*working)
    assert sorted(int(v) for v in seen) == list(range(total))


async def test_groups_are_told(log, open_log):
    """`groups` names the members that live and what each owns; who left is gone."""
    topic, group = await loaded(log, 4, 1), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.owns(4)
    two = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 2, "each owns two", one, two)

    async def is_told() -> bool:
        members = (await open_log().groups()).get(group, [])
        told = sorted(sorted(member.partitions) for member in members if member.is_alive)
        await asyncio.gather(one.poll(), two.poll())
        return told == sorted([sorted(one.owned), sorted(two.owned)])

    await eventually(is_told, "both members are told with their partitions")
    await one.consumer.close()
    await polled_until(lambda: len(two.owned) == 4, "two owns all", two)

    async def is_gone() -> bool:
        members = [m for m in (await open_log().groups()).get(group, []) if m.is_alive]
        await two.poll()
        return [sorted(member.partitions) for member in members] == [sorted(two.owned)]

    await eventually(is_gone, "the one that left is gone")


async def test_a_groups_topics_are_told(log):
    """`topics_of` names the topics in which the group has progress, and no others; a group that nobody knows has none."""
    read, group = await loaded(log, 2, 3), unique("g")
    await loaded(log, 1, 3)
    assert await log.topics_of(group) == set()
    worker = await Worker.joined(log, group, read)
    await worker.read_count(3)
    await worker.consumer.commit(worker.progress())
    assert await log.topics_of(group) == {read}
    await worker.consumer.close()


async def test_different_subscriptions(log, open_log):
    """Members of one group that read different topics: each topic goes to those who read it, and all of it."""
    first, second, group = await loaded(log, 2, 1), await loaded(log, 2, 1), unique("g")
    one = await Worker.joined(log, group, first)
    two = await Worker.joined(open_log(), group, second)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 2, "each owns its topic", one, two)
    assert {p.topic for p in one.owned} == {first}
    assert {p.topic for p in two.owned} == {second}


async def test_a_pause_holds_through_a_rebalance_and_ends_with_ownership(log, open_log):
    """What stays is still paused when a neighbour has joined; what goes is read by its new owner at once; nothing is lost or doubled."""
    topic, group = await loaded(log, 4, 5), unique("g")
    first = await Worker.joined(log, group, topic)
    await first.owns(4)
    first.consumer.pause(sorted(first.owned))
    second = await Worker.joined(open_log(), group, topic)
    await polled_until(lambda: len(second.read) == 10, "the new owner reads what was paused", first, second)
    assert (len(first.owned), len(second.owned), first.read) == (2, 2, [])
    first.consumer.resume(sorted(first.owned))
    await polled_until(lambda: len(first.read) == 10, "what stayed goes on", first, second)
    places = [(r.partition, r.offset) for r in first.read + second.read]
    assert sorted(places) == [(number, n) for number in range(4) for n in range(5)]
