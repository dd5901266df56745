"""The embedded log's groups: the dead, the stopped, the late, and who may commit (law 3)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from contract.log_fixtures import Worker, all_records, made_topic, numbered, polled_until, unique, values
from penstock.errors import LogError, PartitionsLost, SettingsError
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord, Partition

QUICK = SqliteOptions(
    heartbeat_seconds=0.05, session_timeout_seconds=0.6, revoke_seconds=0.3, lock_wait_seconds=0.5, synchronous="normal"
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path):
    log = SqliteLog(path, options=QUICK)
    yield log
    await log.close()


@pytest.fixture
async def other(path):
    log = SqliteLog(path, options=QUICK)
    yield log
    await log.close()


def expel(path: Path, group: str) -> None:
    """Do to all members of a group what a neighbour does to the dead."""
    hand = sqlite3.connect(path)
    with hand:
        hand.execute("UPDATE leases SET owner = NULL WHERE group_name = ?", (group,))
        hand.execute("DELETE FROM members WHERE group_name = ?", (group,))
        hand.execute("UPDATE counters SET groups = groups + 1")
    hand.close()


def bury_alive(path: Path, group: str) -> None:
    """Put a member into the group that never beats: what a killed process leaves behind."""
    hand = sqlite3.connect(path)
    with hand:
        hand.execute("INSERT INTO members VALUES (?, 'ghost', '', '[]', 1, 0)", (group,))
        hand.execute("UPDATE leases SET owner = 'ghost' WHERE group_name = ?", (group,))
        topics = hand.execute(
            "SELECT topics FROM members WHERE group_name = ? AND member != 'ghost'", (group,)
        ).fetchone()
        if topics:
            hand.execute("UPDATE members SET topics = ? WHERE member = 'ghost'", topics)
    hand.close()


async def test_the_partitions_of_the_dead_move(log, path) -> None:
    """A member whose heartbeat stands still loses its partitions to the living; the start is where it had committed."""
    topic, group = await made_topic(log, 2), unique("g")
    await log.append(numbered(topic, 6))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(6)
    await worker.consumer.commit(worker.progress())
    bury_alive(path, group)
    await polled_until(lambda: len(worker.lost_ever) == 2, "the ghost took both", worker)
    await polled_until(lambda: len(worker.owned) == 2, "the ghost is dead", worker)
    assert worker.owned[Partition(topic, 0)].done == OffsetMap(6)
    assert [member.member for member in (await log.groups())[group]] != ["ghost"]
    assert len((await log.groups())[group]) == 1


async def test_who_was_taken_for_dead_cannot_commit(log, other, path) -> None:
    """A member that was expelled and whose partitions moved gets `PartitionsLost` for its old work; it joins again."""
    topic, results, group = await made_topic(log, 2), await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 6) + numbered(topic, 6, partition=1))
    one = await Worker.joined(log, group, topic)
    await one.read_count(12)
    progress = one.progress(NewRecord(results, b"k", b"stale"))
    expel(path, group)
    with pytest.raises(PartitionsLost) as refused:
        await one.consumer.commit(progress)
    assert len(refused.value.partitions) == 2
    assert await all_records(log, results) == []
    two = await Worker.joined(other, group, topic)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 1, "both are back and share", one, two)
    assert len(one.lost_ever) == 2
    assert {a.done for w in (one, two) for a in w.owned.values()} == {OffsetMap(0)}


async def test_a_loss_between_a_commit_and_its_act_is_told_as_one(log, path) -> None:
    """What is lost after a commit was asked for and before its act begins is `PartitionsLost`, like any other loss: the worker goes on."""
    topic, results, group = await made_topic(log, 2), await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 6))
    one = await Worker.joined(log, group, topic)
    await one.read_count(6)
    progress = one.progress(NewRecord(results, b"k", b"stale"))
    expel(path, group)
    committing = asyncio.ensure_future(one.consumer.commit(progress))
    await asyncio.sleep(0)  # the commit is asked for, the act has not begun
    one.consumer.held.clear()  # as when the membership hears of it
    with pytest.raises(PartitionsLost):
        await committing
    assert await all_records(log, results) == []


async def test_a_partition_that_went_and_came_back_is_not_the_same(log, path) -> None:
    """Work begun under an older lease is refused even if the same worker owns the partition again: the epoch tells."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 6))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(6)
    hand = sqlite3.connect(path)
    with hand:
        hand.execute("UPDATE leases SET epoch = epoch + 2")
    hand.close()
    with pytest.raises(PartitionsLost):
        await worker.consumer.commit(worker.progress())
    await polled_until(lambda: worker.lost_ever == [Partition(topic, 0)], "told", worker)


async def test_a_slow_drain_ends_at_the_deadline(log, other) -> None:
    """A listener that does not finish in time loses the partitions; the newcomer does not wait for ever."""
    topic, group = await made_topic(log, 2), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.owns(2)

    async def never_ends(partitions) -> None:
        await asyncio.Event().wait()

    one.on_revoked = never_ends
    two = await Worker.joined(other, group, topic)
    await polled_until(lambda: len(two.owned) == 1, "the newcomer got its half", one, two)
    assert one.lost_ever == list(two.owned)
    one.on_revoked = None


@pytest.mark.slow
async def test_a_long_drain_keeps_the_heart_beating(log, other, path) -> None:
    """While `revoked` works longer than the session time-out nobody takes the worker for dead, and it still commits."""
    patient = SqliteOptions(
        heartbeat_seconds=0.05, session_timeout_seconds=0.4, revoke_seconds=30, synchronous="normal"
    )
    logs = [SqliteLog(path, options=patient) for _ in range(2)]
    topic, group = await made_topic(log, 2), unique("g")
    await log.append(numbered(topic, 4) + numbered(topic, 4, partition=1))
    one = await Worker.joined(logs[0], group, topic)
    await one.read_count(8)

    async def long(partitions) -> None:
        await asyncio.sleep(1.0)
        await one.consumer.commit(one.progress(only=partitions))

    one.on_revoked = long
    two = await Worker.joined(logs[1], group, topic)
    await polled_until(lambda: len(two.owned) == 1, "handed over", one, two)
    assert one.lost_ever == []
    assert {a.done for a in two.owned.values()} == {OffsetMap(4)}
    one.on_revoked = None
    for each in logs:
        await each.close()


async def test_a_worker_that_comes_back_takes_its_place(log, other) -> None:
    """Under its slot a restarted worker owns everything at once; the older one stops with an error that names the slot."""
    topic, group = await made_topic(log, 3), unique("g")
    one = await Worker.joined(log, group, topic, slot="w-1")
    await one.owns(3)
    two = await Worker.joined(other, group, topic, slot="w-1")
    await two.owns(3)
    with pytest.raises(SettingsError, match="slot 'w-1'"):
        await polled_until(lambda: False, "the older one stops", one)
    await one.consumer.close()
    assert len(one.lost_ever) == 3
    assert len(two.owned) == 3


async def test_the_reserve_says_so(log, other, caplog) -> None:
    """A worker without a partition says in the log that it waits."""
    caplog.set_level(logging.INFO, "penstock.log")
    topic, group = await made_topic(log, 1), unique("g")
    one = await Worker.joined(log, group, topic)
    await one.owns(1)
    two = await Worker.joined(other, group, topic)
    await polled_until(lambda: "more workers than partitions" in caplog.text, "it says so", one, two)


async def test_a_listener_that_fails_stops_the_consumer(log) -> None:
    """An exception in a listener is not swallowed: the next poll and commit raise it."""
    topic = await made_topic(log, 1)
    worker = Worker()

    async def fail(assignments) -> None:
        raise RuntimeError("listener's fault")

    worker.on_assigned = fail
    worker.consumer = await log.join(unique("g"), [topic], worker)
    with pytest.raises(RuntimeError, match="listener's fault"):
        await polled_until(lambda: False, "poll raises", worker)


async def test_a_closed_consumer_is_closed(log) -> None:
    """After `close` neither poll nor commit does anything but say so; a second close is harmless."""
    topic = await made_topic(log, 1)
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.owns(1)
    await worker.consumer.close()
    await worker.consumer.close()
    with pytest.raises(LogError, match="has left"):
        await worker.consumer.poll(1, 0)
    with pytest.raises(LogError, match="has left"):
        await worker.consumer.commit(worker.progress())


@pytest.mark.slow
async def test_a_lock_that_is_held_long_kills_nobody(log, other, path) -> None:
    """While a stopped process holds the file's lock nobody can beat; when it is gone all are still members."""
    topic, group = await made_topic(log, 2), unique("g")
    one, two = await Worker.joined(log, group, topic), await Worker.joined(other, group, topic)
    await polled_until(lambda: len(one.owned) == len(two.owned) == 1, "each owns one", one, two)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await asyncio.sleep(3 * QUICK.session_timeout_seconds)
    holder.execute("ROLLBACK")
    holder.close()
    await log.append([NewRecord(topic, None, b"%d" % n, partition=n) for n in (0, 1)])
    await polled_until(lambda: len(one.read) == len(two.read) == 1, "both read on", one, two)
    assert (one.lost_ever, two.lost_ever) == ([], [])
    assert values(one.read + two.read) != []


@pytest.mark.slow
async def test_groups_forget_nobody_by_the_wall_clock(path) -> None:
    """A wall clock that jumps by hours, back and forth, expires no member: liveness is counted, not dated."""
    jumps = iter(range(10_000))

    def jumping() -> int:
        return 1_700_000_000_000 + (next(jumps) % 7 - 3) * 3_600_000

    logs = [SqliteLog(path, options=QUICK, wall_ms=jumping) for _ in range(2)]
    topic, group = await made_topic(logs[0], 4), unique("g")
    one, two = [await Worker.joined(log, group, topic) for log in logs]
    await polled_until(lambda: len(one.owned) == len(two.owned) == 2, "each owns two", one, two)
    revoked = len(one.revoked_ever)
    for _ in range(24):  # twice the session time-out
        await asyncio.gather(one.poll(), two.poll())
    assert (len(one.revoked_ever), two.revoked_ever, one.lost_ever, two.lost_ever) == (revoked, [], [], [])
    for log in logs:
        await log.close()
