"""The embedded log's file: opened, shared, locked, full, damaged."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from contract.log_fixtures import Worker, all_records, made_topic, numbered, polled_until, unique, values
from penstock.errors import LogDamaged, LogError, LogUnavailable, SettingsError, TopicMissing, UserError
from penstock.log.base import PartProgress, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.sqlite.database import Database, translated
from penstock.record import NewRecord, Partition

QUICK = SqliteOptions(heartbeat_seconds=0.05, session_timeout_seconds=1.0, lock_wait_seconds=0.3, synchronous="normal")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path):
    log = SqliteLog(path, options=QUICK)
    yield log
    await log.close()


async def test_opening_touches_nothing(path) -> None:
    """A log that is only opened and closed leaves no file."""
    log = SqliteLog(path)
    await log.close()
    assert not path.exists()


async def test_many_open_a_new_file_at_once(path) -> None:
    """Dozens of handles that meet at a file which nobody made yet all work, and see one another's records."""
    logs = [SqliteLog(path, options=SqliteOptions(lock_wait_seconds=20, synchronous="normal")) for _ in range(24)]
    await asyncio.gather(*(log.create_topics([TopicSpec("t", 2)]) for log in logs))
    await asyncio.gather(*(log.append([NewRecord("t", b"k", b"%d" % n)]) for n, log in enumerate(logs)))
    assert sorted(int(v) for v in values(await all_records(logs[0], "t"))) == list(range(24))
    await asyncio.gather(*(log.close() for log in logs))


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be read as one" * 40, b"SQLite format 3\x00" + b"\xff" * 5000]
)
async def test_a_file_that_is_no_log_is_named(path, content) -> None:
    """Any other file is `LogDamaged` with its name and what to do, and stays as it was."""
    path.write_bytes(content)
    log = SqliteLog(path)
    with pytest.raises(LogDamaged, match=f"{path}.*move it away"):
        await log.topics()
    with pytest.raises(UserError):
        await log.append([NewRecord("t", b"k", b"v")])
    await log.close()
    assert path.read_bytes() == content


async def test_a_foreign_database_is_left_alone(path) -> None:
    """A database of another program is refused and not changed."""
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    log = SqliteLog(path)
    with pytest.raises(LogDamaged, match="something else"):
        await log.create_topics([TopicSpec("t")])
    await log.close()
    assert path.read_bytes() == before


async def test_another_format_is_refused(log, path) -> None:
    """A file of a newer format says so."""
    await made_topic(log)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    other = SqliteLog(path)
    with pytest.raises(LogDamaged, match="format 99"):
        await other.topics()
    await other.close()


async def test_damage_within_the_file_is_told(path) -> None:
    """Pages overwritten by something else raise `LogDamaged`, never wrong records."""
    log = SqliteLog(path, options=QUICK)
    topic = await made_topic(log, 1)
    await log.append([NewRecord(topic, b"k", b"v" * 500)] * 400)
    await log.close()
    content = bytearray(path.read_bytes())
    content[4096 * 8 :] = b"\xa5" * (len(content) - 4096 * 8)
    path.write_bytes(content)
    again = SqliteLog(path, options=QUICK)
    with pytest.raises(LogDamaged, match=str(path)):
        await all_records(again, topic)
    await again.close()


async def test_a_replaced_file_stops_writers(log, path) -> None:
    """Deleting the file under a running process would swallow its writes: they are refused instead."""
    topic = await made_topic(log)
    path.unlink()
    with pytest.raises(LogDamaged, match="deleted or replaced"):
        await log.append([NewRecord(topic, b"k", b"v")])


async def test_paths_that_cannot_be(tmp_path) -> None:
    """A folder that does not exist, or a folder as the file, is a mistake in the settings and named."""
    for wrong, said in ((tmp_path / "no" / "log.db", "does not exist"), (tmp_path, "is a folder")):
        log = SqliteLog(wrong)
        with pytest.raises(SettingsError, match=said):
            await log.topics()
        await log.close()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that even root cannot write")
async def test_a_place_that_cannot_be_written() -> None:
    """Where the file cannot be made the log is unavailable, with the file's name."""
    log = SqliteLog("/proc/penstock.db")
    with pytest.raises(LogUnavailable, match=r"/proc/penstock\.db"):
        await log.topics()
    await log.close()


async def test_read_only_is_weather(log, path) -> None:
    """SQLite's refusal to write a read-only file becomes `LogUnavailable` that says what to check."""
    await made_topic(log)
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as refused:
        reader.execute("DELETE FROM topics")
    reader.close()
    error = translated(refused.value, path)
    assert isinstance(error, LogUnavailable)
    assert "check its permissions" in str(error)


async def test_a_locked_file_is_weather(log, path) -> None:
    """While another process holds the lock, appends and commits are `LogUnavailable`; afterwards the same ones pass."""
    topic = await made_topic(log, 1)
    await log.append(numbered(topic, 3))
    worker = await Worker.joined(log, unique("g"), topic)
    await worker.read_count(3)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    progress = worker.progress(NewRecord(topic, b"k", b"result"))
    with pytest.raises(LogUnavailable, match="another process holds its lock"):
        await worker.consumer.commit(progress)
    with pytest.raises(LogUnavailable):
        await log.append(numbered(topic, 1))
    assert await log.read(Partition(topic, 0), 0, 10) == worker.read, "readers do not wait for writers"
    holder.execute("ROLLBACK")
    holder.close()
    await worker.consumer.commit(progress)
    assert values(await log.read(Partition(topic, 0), 3, 10)) == [b"result"]


async def test_a_full_disk_is_weather(path) -> None:
    """At the file's ceiling a commit is refused whole; what is committed stays readable, and room makes it pass."""
    log = SqliteLog(path, options=SqliteOptions(max_file_bytes=400_000, heartbeat_seconds=0.05))
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 5))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(5)
    large = worker.progress(*[NewRecord(topic, b"k", b"x" * 100_000)] * 5)
    with pytest.raises(LogUnavailable, match="max_file_bytes, is full"):
        await worker.consumer.commit(large)
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(0)}
    assert len(await all_records(log, topic)) == 5
    await worker.consumer.close()
    await log.close()
    roomy = SqliteLog(path, options=QUICK)
    again = await Worker.joined(roomy, group, topic)
    await again.read_count(5)
    await again.consumer.commit(large)
    assert len(await all_records(roomy, topic)) == 10
    await roomy.close()


async def test_one_refused_append_harms_no_neighbour(log) -> None:
    """Appends that share a transaction are judged one by one."""
    topic = await made_topic(log, 1)
    calls = [log.append([NewRecord("missing" if n == 7 else topic, b"k", b"%d" % n)]) for n in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, TopicMissing)] == [7]
    assert sorted(int(v) for v in values(await all_records(log, topic))) == [n for n in range(20) if n != 7]


async def test_a_cancelled_append_is_whole_or_absent(log) -> None:
    """An append whose caller gave up is written whole or not at all, and the next ones pass."""
    topic = await made_topic(log, 1)
    appending = [asyncio.create_task(log.append(numbered(topic, 10))) for _ in range(10)]
    await asyncio.sleep(0)
    for task in appending[::2]:
        task.cancel()
    await asyncio.gather(*appending, return_exceptions=True)
    await log.append(numbered(topic, 1))
    count = len(await all_records(log, topic))
    assert count % 10 == 1
    assert count >= 51


async def test_a_cancelled_commit_is_whole(log) -> None:
    """A commit whose caller gave up ends as one act; progress afterwards goes on from what it wrote."""
    topic, group = await made_topic(log, 1), unique("g")
    await log.append(numbered(topic, 10))
    worker = await Worker.joined(log, group, topic)
    await worker.read_count(10)
    committing = asyncio.create_task(worker.consumer.commit(worker.progress(NewRecord(topic, b"k", b"result"))))
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await worker.read_count(11)
    await worker.consumer.commit(worker.progress())
    assert await log.committed(group, topic) == {Partition(topic, 0): OffsetMap(11)}


async def test_progress_cannot_pass_what_was_read(log) -> None:
    """An offset that was never handed out cannot be done."""
    topic = await made_topic(log, 1)
    await log.append(numbered(topic, 10))
    worker = await Worker.joined(log, unique("g"), topic)
    while len(worker.read) < 4:
        await worker.poll(2)
    for done in (OffsetMap(5), OffsetMap(3, 0b100)):
        with pytest.raises(LogError, match="was not read yet"):
            await worker.consumer.commit(Progress((PartProgress(Partition(topic, 0), done),)))
    await worker.consumer.commit(Progress((PartProgress(Partition(topic, 0), OffsetMap(4)),)))


async def test_a_topic_made_again_is_another(log) -> None:
    """Deleted and made again: another id, empty, and no group's progress of the old one counts; its reader moves over."""
    group = unique("g")
    await log.create_topics([TopicSpec("t", 2)])
    first_id = (await log.topics())["t"].id
    await log.append(numbered("t", 50))
    worker = await Worker.joined(log, group, "t")
    await worker.read_count(50)
    await worker.consumer.commit(worker.progress())
    assert await log.delete_topics(["t", "never"]) == ["t"]
    assert "t" not in await log.topics()
    await log.create_topics([TopicSpec("t", 3)])
    assert (await log.topics())["t"].id != first_id
    assert await all_records(log, "t") == []
    await log.append(numbered("t", 2))
    await polled_until(lambda: len(worker.owned) == 3, "the reader moved over", worker)
    assert len(worker.lost_ever) == 2
    await worker.read_count(52)
    assert {a.done for a in worker.owned.values()} == {OffsetMap(0)}
    await log.enforce_retention()
    assert len(await all_records(log, "t")) == 2


async def test_the_write_ahead_log_is_bounded(path) -> None:
    """A reader that holds an old state lets it grow; once that reader is gone it is emptied, while others poll on."""
    limit = 1_000_000
    log = SqliteLog(path, options=SqliteOptions(max_wal_bytes=limit, synchronous="normal"))
    topic = await made_topic(log, 2)
    worker = await Worker.joined(log, unique("g"), topic)
    wal = Path(f"{path}-wal")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN")
    holder.execute("SELECT count(*) FROM records").fetchone()

    async def write(count: int) -> None:
        for _ in range(count):
            await asyncio.gather(log.append([NewRecord(topic, None, b"x" * 1_000)] * 50), worker.poll(50, 0.0))

    await write(40)
    assert size_of(wal) > limit, "the test must see it grow"
    holder.execute("COMMIT")
    holder.close()
    other = SqliteLog(path, options=SqliteOptions(max_wal_bytes=limit, synchronous="normal"))
    for _ in range(40):
        await other.append([NewRecord(topic, None, b"x")])
    assert size_of(wal) <= limit
    await other.close()
    await log.close()


def size_of(file: Path) -> int:
    return file.stat().st_size


async def test_a_read_sees_one_state(log, path) -> None:
    """What is committed between two statements of one read is not seen by it: bounds and records belong together."""
    topic = await made_topic(log, 1)
    await log.append(numbered(topic, 3))
    reader = Database(path, QUICK, for_writing=False)

    def act(connection: sqlite3.Connection) -> list[int]:
        def count() -> int:
            return connection.execute("SELECT count(*) FROM records").fetchone()[0]

        first = count()
        hand = sqlite3.connect(path)
        with hand:
            hand.execute("DELETE FROM records WHERE id IN (SELECT min(id) FROM records)")
        hand.close()
        return [first, count()]

    assert await reader.run(act) == [3, 3]
    assert await reader.run(act) == [2, 2]
    await reader.close()


async def test_a_poll_is_bounded_in_bytes(path) -> None:
    """Large records come a few at a time, and one that is larger than the bound still comes."""
    options = SqliteOptions(max_poll_bytes=300_000, heartbeat_seconds=0.05, synchronous="normal")
    log = SqliteLog(path, options=options)
    topic = await made_topic(log, 2)
    await log.append([NewRecord(topic, None, b"x" * 100_000, partition=n % 2) for n in range(20)])
    await log.append([NewRecord(topic, None, b"y" * 1_000_000, partition=0)])
    worker = await Worker.joined(log, unique("g"), topic)
    most = 0
    while len(worker.read) < 21:
        polled = await worker.poll(500)
        most = max(most, sum(record.size for record in polled if record.size < 1_000_000))
    assert 100_000 <= most <= 400_000
    assert len(await log.read(Partition(topic, 0), 0, 100)) <= 3
    await log.close()
