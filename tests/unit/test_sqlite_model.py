"""The embedded log against a model of a few lines: any mix of appends, polls, commits and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contract.log_fixtures import Worker, all_records
from penstock.log.base import PartProgress, Progress, TopicSpec
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.record import NewRecord, Partition

pytestmark = pytest.mark.slow

OPTIONS = SqliteOptions(heartbeat_seconds=0.05, session_timeout_seconds=5.0, synchronous="normal")
PARTITIONS = 2


class LogMachine(RuleBasedStateMachine):
    """What was appended, handed out and done, partition by partition; the log must agree after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.path = Path(self.directory.name) / "log.db"
        self.appended: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self.done: list[set[int]] = [set() for _ in range(PARTITIONS)]
        self.read_to = [0] * PARTITIONS
        self.results: list[bytes] = []
        self.runner.run(self._open())
        self.runner.run(self.log.create_topics([TopicSpec("events", PARTITIONS), TopicSpec("results", 1)]))
        self.runner.run(self._join())

    async def _open(self) -> None:
        self.log = SqliteLog(self.path, options=OPTIONS)

    async def _join(self) -> None:
        self.worker = await Worker.joined(self.log, "g", "events")
        await self.worker.owns(PARTITIONS)

    def base(self, number: int) -> int:
        base = 0
        while base in self.done[number]:
            base += 1
        return base

    def map_of(self, number: int) -> OffsetMap:
        base = self.base(number)
        return OffsetMap(base, sum(1 << offset - base for offset in self.done[number] if offset > base))

    @rule(number=st.integers(0, PARTITIONS - 1), values=st.lists(st.binary(max_size=5), min_size=1, max_size=12))
    def append(self, number: int, values: list[bytes]) -> None:
        new = [NewRecord("events", None, value, partition=number) for value in values]
        positions = self.runner.run(self.log.append(new))
        assert [p.offset for p in positions] == list(
            range(len(self.appended[number]), len(self.appended[number]) + len(values))
        )
        self.appended[number] += values

    @rule(max_records=st.integers(1, 10))
    def poll(self, max_records: int) -> None:
        for record in self.runner.run(self.worker.poll(max_records, 0.0)):
            number = record.partition
            assert record.offset == self.read_to[number], "the next one in order, no other"
            assert record.value == self.appended[number][record.offset]
            self.read_to[number] += 1

    @rule(data=st.data())
    def commit(self, data) -> None:
        parts = []
        for number in range(PARTITIONS):
            open_offsets = sorted(set(range(self.read_to[number])) - self.done[number])
            ended = data.draw(st.sets(st.sampled_from(open_offsets))) if open_offsets else set()
            if ended:
                self.done[number] |= ended
                values = [b"%d:%d" % (number, offset) for offset in sorted(ended)]
                self.results += values
                appends = tuple(NewRecord("results", b"k", value) for value in values)
                parts.append(PartProgress(Partition("events", number), self.map_of(number), appends))
        if parts:
            self.runner.run(self.worker.consumer.commit(Progress(tuple(parts))))

    @rule(leaves=st.booleans())
    def restart(self, leaves: bool) -> None:
        if leaves:
            self.runner.run(self.worker.consumer.close())
        self.runner.run(self.log.close())
        self.runner.run(self._open())
        self.runner.run(self._join())
        for number in range(PARTITIONS):
            assert self.worker.owned[Partition("events", number)].done == self.map_of(number)
            self.read_to[number] = self.base(number)

    @invariant()
    def agrees(self) -> None:
        committed = self.runner.run(self.log.committed("g", "events"))
        assert committed == {Partition("events", number): self.map_of(number) for number in range(PARTITIONS)}
        results = self.runner.run(all_records(self.log, "results"))
        assert [record.value for record in results] == self.results

    def teardown(self) -> None:
        self.runner.run(self.log.close())
        self.runner.close()
        self.directory.cleanup()


TestLogModel = LogMachine.TestCase
TestLogModel.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
