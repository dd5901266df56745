"""A worker process for kills: answers every record of a topic with one result, through `KafkaLog` alone.

test → [kafka worker] → broker

    python tests/kafka_worker.py BOOTSTRAP GROUP TOPIC RESULTS SLOT [OPTION=VALUE]…    as in delivery=at_least_once
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from penstock.errors import LogUnavailable, PartitionsLost
from penstock.log.base import Assignment, Consumer, PartProgress, Progress
from penstock.log.kafka import KafkaLog, KafkaOptions
from penstock.log.losses import Loss
from penstock.log.offset_map import OffsetMap
from penstock.record import NewRecord, Partition


class Answering:
    """Takes a few records at a time and commits them at once, so that a kill finds a transaction open."""

    def __init__(self, results: str) -> None:
        self.results = results
        self.done: dict[Partition, OffsetMap] = {}
        self.consumer: Consumer

    async def assigned(self, assignments: Sequence[Assignment]) -> None:
        self.done.update({a.partition: a.done for a in assignments})

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        await self.lost(partitions)

    async def lost(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self.done.pop(partition, None)

    async def passed(self, losses: Sequence[Loss]) -> None:
        pass

    async def work(self) -> None:
        while True:
            answers: dict[Partition, list[NewRecord]] = {}
            for record in await self.consumer.poll(20, 0.05):
                partition = Partition(record.topic, record.partition)
                if partition in self.done and record.offset not in self.done[partition]:
                    bits = self.done[partition].bits | 1 << (record.offset - self.done[partition].base)
                    self.done[partition] = OffsetMap(self.done[partition].base, bits).normalised()
                    answers.setdefault(partition, []).append(NewRecord(self.results, record.key, record.value))
            if answers:
                await self.commit(Progress(tuple(PartProgress(p, self.done[p], tuple(a)) for p, a in answers.items())))

    async def commit(self, progress: Progress) -> None:
        while progress.parts:
            try:
                await self.consumer.commit(progress)
                progress = Progress(())
            except PartitionsLost as lost:
                progress = progress.without(lost.partitions)
            except LogUnavailable:
                await asyncio.sleep(0.1)


async def main(bootstrap: str, group: str, topic: str, results: str, slot: str, *options: str) -> None:
    given: dict[str, Any] = {
        name: True if value == "true" else value for name, _, value in (option.partition("=") for option in options)
    }
    log, worker = KafkaLog(bootstrap, options=KafkaOptions(**given)), Answering(results)
    worker.consumer = await log.join(group, [topic], worker, start_from="earliest", slot=slot)
    print("joined", flush=True)
    await worker.work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
