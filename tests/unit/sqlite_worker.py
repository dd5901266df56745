"""A worker process for the crash tests: answers every record of `events` with one in `results`, until it is killed.

`sqlite_worker.py PATH GROUP [hold]`: with `hold` it reads once, says `read`, waits for a line on stdin, and only then commits.
"""

from __future__ import annotations

import asyncio
import sys

from penstock.errors import LogUnavailable, PartitionsLost
from penstock.log.base import PartProgress, Progress
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord, Partition

OPTIONS = SqliteOptions(heartbeat_seconds=0.1, session_timeout_seconds=1.0, revoke_seconds=2.0, lock_wait_seconds=2.0)


class Told:
    def __init__(self) -> None:
        self.lost_partitions: set[Partition] = set()

    async def assigned(self, assignments) -> None:
        self.lost_partitions -= {a.partition for a in assignments}

    async def revoked(self, partitions, deadline) -> None:
        pass

    async def passed(self, losses) -> None:
        pass

    async def lost(self, partitions) -> None:
        self.lost_partitions |= set(partitions)
        print("lost", len(partitions), flush=True)


def answered(records) -> Progress:
    """One result for each record, with its key and value."""
    parts: dict[Partition, list] = {}
    for record in records:
        parts.setdefault(Partition(record.topic, record.partition), []).append(record)
    return Progress(
        tuple(
            PartProgress(p, OffsetMap(read[-1].offset + 1), tuple(NewRecord("results", r.key, r.value) for r in read))
            for p, read in parts.items()
        )
    )


async def commit(consumer, progress: Progress) -> None:
    try:
        await consumer.commit(progress)
        print("committed", flush=True)
    except PartitionsLost as lost:
        print("refused", len(lost.partitions), flush=True)
        rest = progress.without(lost.partitions)
        if rest.parts:
            await commit(consumer, rest)


async def main(path: str, group: str, *, holds: bool) -> None:
    log = SqliteLog(path, options=OPTIONS)
    told = Told()
    consumer = await log.join(group, ["events"], told, start_from="earliest")
    while True:
        records = await consumer.poll(40, 0.2)
        if not records:
            continue
        if holds:
            print("read", len(records), flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        try:
            await commit(consumer, answered(records))
        except LogUnavailable as error:
            print("unavailable", error, flush=True)
            await asyncio.sleep(0.1)
            await commit(consumer, answered(records))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], holds="hold" in sys.argv))
