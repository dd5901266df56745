"""A zombie: a worker that is stopped past its session, loses its partitions meanwhile and then goes on as if nothing had been.

crash → [crash zombie] → crash worker
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.log.base import EventLog
from penstock.log.state import STATE_TOPIC, read_state
from penstock.record import Partition

if TYPE_CHECKING:
    from crash import Stage
    from crash_worker import WorkerProcess

PATIENCE_SECONDS = 240.0
TRIES = 10


@dataclass
class Zombie:
    """One of them, and what became of its partitions and of its late answers."""

    worker: str
    at_risk: int
    """Items asked and not committed when it was stopped."""
    moved: frozenset[Partition] = frozenset()
    """Its partitions: each had another owner while it was stopped, who answered all that stood there."""
    asked: frozenset[str] = frozenset()
    """All calls that it had begun until then: whatever of them was not committed by then may not become a result any more."""
    late: list[str] = field(default_factory=list)
    """Those of which something did."""
    known: int = 0
    """Items of these calls that were waste before it went on."""
    refused: int = 0
    """Answers of these calls that came to nothing since: on waste records, not on results."""

    def assert_refused(self) -> None:
        """Law 3: no progress after a revoke, and law 9: a late answer is waste."""
        assert self.moved
        assert self.late == [], f"{self.worker} committed answers after it had lost its partitions"
        assert 0 < self.refused <= self.at_risk

    async def count(self, log: EventLog) -> int:
        """Look once more what was refused."""
        items = sum(waste["items"] for waste in await wasted(log) if waste["call"] in self.asked)
        self.refused = items - self.known
        return items

    def __str__(self) -> str:
        return (
            f"zombie {self.worker}: {len(self.moved)} partitions moved and went on without it, {self.at_risk} items at risk, "
            f"of these {self.refused} refused and written as waste, {len(self.late)} committed late"
        )


async def make_zombie(stage: Stage, worker: WorkerProcess) -> None:
    """SIGSTOP until its neighbours have its partitions and have answered what stands there; then SIGCONT."""
    fellows = [one for one in stage.workers if one.group == worker.group]
    # One that was killed just before and is not back yet would be taken for the one that lost its partitions.
    for one in fellows:
        await _until(stage, _has_calls(one), f"{one.name} asks something")
    before = await owners(stage, worker.group, len(fellows))
    kill = await stage.freeze(worker)
    for _ in range(TRIES):
        if kill.at_risk:
            break
        worker.signal(signal.SIGCONT)  # its calls came to their end in that moment
        stage.kills.remove(kill)
        await asyncio.sleep(0.3)
        kill = await stage.freeze(worker)
    zombie = Zombie(worker.name, kill.at_risk)
    assert kill.at_risk, f"{worker.name} had nothing in flight: as a zombie it proves nothing"

    async def has_moved() -> bool:
        zombie.moved = await _moved(stage.eyes, worker.group, before)
        return bool(zombie.moved)

    await _until(stage, has_moved, f"the partitions of {worker.name} have other owners")
    reads = worker.task.reads
    ends = {p: bounds.high for p, bounds in (await stage.eyes.bounds(reads)).items() if p in zombie.moved}

    async def is_answered() -> bool:
        done = await stage.eyes.committed(worker.group, reads)
        return all(p in done and all(n in done[p] for n in range(done[p].base, end)) for p, end in ends.items() if end)

    await _until(stage, is_answered, f"others answered what stood in {sorted(ends)}")
    await stage.look()
    zombie.asked = frozenset(call for call, (asker, _) in stage.calls.items() if asker is worker)
    stage.zombies.append(zombie)

    zombie.known = await zombie.count(stage.eyes)
    worker.signal(signal.SIGCONT)

    async def is_refused() -> bool:
        await zombie.count(stage.eyes)
        return zombie.refused > 0

    await _until(stage, is_refused, f"late answers of {worker.name} are on waste records")


def _has_calls(worker: WorkerProcess) -> Callable[[], Awaitable[bool]]:
    """Each has a simulator of its own, so that its calls show that it is up and owns partitions."""

    async def asks() -> bool:
        return bool(worker.simulator.accounts()["in_flight"])

    return asks


async def owners(stage: Stage, group: str, expected: int) -> dict[Partition, str]:
    """Who has which partition, once all of a group's members live, own some and are as many as expected."""
    found: dict[Partition, str] = {}

    async def are_known() -> bool:
        members = (await stage.eyes.groups()).get(group, [])
        found.clear()
        found.update({p: member.member for member in members if member.is_alive for p in member.partitions})
        return len(members) == expected and all(m.is_alive and m.partitions for m in members)

    await _until(stage, are_known, f"the {expected} members of {group} live and own partitions")
    return found


async def _moved(log: EventLog, group: str, before: dict[Partition, str]) -> frozenset[Partition]:
    """What a member had that is gone now, once all of it is another's."""
    members = [member for member in (await log.groups()).get(group, []) if member.is_alive]
    gone = set(before.values()) - {member.member for member in members}
    theirs = {partition for member in members for partition in member.partitions}
    mine = frozenset(partition for partition, member in before.items() if member in gone)
    return mine if mine <= theirs else frozenset()


async def wasted(log: EventLog) -> list[dict[str, Any]]:
    """Money spent for nothing, call by call, and why."""
    found = []
    for partition, bounds in (await log.bounds(STATE_TOPIC)).items():
        at = bounds.low
        while records := await log.read(partition, at, 5_000):
            states = map(read_state, records)
            found += [state.value for state in states if state.kind == "waste" and state.value]
            at = records[-1].offset + 1
    return found


async def _until(stage: Stage, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for it; workers that their client library ends meanwhile are started again. Tells what each did where it never comes."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await is_so():
                await stage.supervise()
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}\n{await stage.last_words()}") from None
