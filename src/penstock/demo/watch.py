"""Looks from outside, about once a second, and says what there is to show.

judge, tally, offline, deliveries, guests → [watch] → board, plain lines, summary
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.demo.deliveries import Delivered

if TYPE_CHECKING:
    from penstock.demo.burst import Burst
    from penstock.demo.deliveries import Deliveries
    from penstock.demo.findings import Findings, TaskFindings
    from penstock.demo.guests import Guests
    from penstock.demo.judge import Judge
    from penstock.demo.offline import OfflineClaude
    from penstock.demo.pressure import Absorbed, Pressure
    from penstock.demo.producer import Producer
    from penstock.demo.tally import Tally
    from penstock.record import Partition

RATE_SECONDS = 4.0
KEPT_NOTES = 100


@dataclass(slots=True)
class TaskRow:
    """One group at one moment."""

    task: str
    """Its name, as on its results."""
    name: str
    """As it is shown."""
    per_second: float
    lag: int
    found: TaskFindings


@dataclass(slots=True)
class Picture:
    """Everything that is shown of one moment."""

    title: str
    seconds: float
    sent: int
    total: int | None
    day_time: str
    rows: list[TaskRow]
    tally: Tally
    findings: Findings
    calls_in_flight: int | None
    """None where nobody outside the workers can tell (the real API)."""
    spent_nanousd: int
    ceiling_usd: float | None
    notes: list[str] = field(default_factory=list)
    noted: int = 0
    """How many there were; the latest are kept."""
    limit: str = ""
    """Which of the account's limits is used most, and whether it binds; empty where nobody outside can tell."""
    absorbed: Absorbed | None = None
    gateway: str = ""
    """Where events come in over HTTP."""
    guests: int = 0
    """Events besides the demo's own."""
    delivered: Delivered = field(default_factory=Delivered)

    @property
    def lost(self) -> int:
        return sum(task.lost for task in self.findings.tasks.values())

    @property
    def doubled(self) -> int:
        return sum(task.doubled for task in self.findings.tasks.values())

    @property
    def unproduced(self) -> int:
        """Of all tasks."""
        return sum(task.unproduced for task in self.findings.tasks.values())

    @property
    def dead_letters(self) -> int:
        return sum(task.dead_letters for task in self.findings.tasks.values())

    @property
    def paid_again(self) -> int | None:
        """Only the API's own accounts tell; the real API keeps none for us."""
        return self.findings.paid_again if self.calls_in_flight is not None else None

    @property
    def is_simulated(self) -> bool:
        """Whether a stand-in answers: ours, or one that the settings name in place of the real API."""
        return self.calls_in_flight is not None or any(task.simulated for task in self.findings.tasks.values())


class Watch:
    """Keeps what is needed from one look to the next."""

    def __init__(
        self,
        title: str,
        judge: Judge,
        tally: Tally,
        producer: Producer,
        offline: OfflineClaude | None,
        *,
        burst: Burst | None = None,
        pressure: Pressure | None = None,
        ceiling_usd: float | None = None,
        prefix: str = "",
        gateway: str = "",
        deliveries: Deliveries,
        guests: Guests,
    ) -> None:
        self.title = title
        self.tally = tally
        self.notes: list[str] = []
        self.noted = 0
        """Since the start; the latest of them are kept."""
        self.judge = judge
        self._producer = producer
        self._offline = offline
        self._burst = burst
        self._pressure = pressure
        self._ceiling_usd = ceiling_usd
        self._prefix = prefix
        self._gateway = gateway
        self._deliveries = deliveries
        self._guests = guests
        self._day_ends: dict[Partition, int] | None = None
        self._started = time.monotonic()
        self._sent_at_look = producer.sent
        self._before: deque[tuple[float, dict[str, int]]] = deque()

    def note(self, text: str) -> None:
        """Something happened that a viewer must know."""
        self.notes.append(f"{self._seconds():4.0f} s  {text}")
        self.noted += 1
        del self.notes[:-KEPT_NOTES]

    @property
    def backlog(self) -> int:
        """Events that the slowest group still has to end, as of the last look."""
        found = self.judge.findings
        sent_since = self._producer.sent - self._sent_at_look
        return sent_since + max((self._lag(task) for task in found.tasks.values()), default=0)

    def end_day(self) -> None:
        """All of the stream was sent before the last look: what comes later is not of it."""
        self._day_ends = self._day_ends or self.judge.read_to()

    @property
    def is_day_over(self) -> bool:
        """Every event up to the end of the stream has its ending, or was seen to be lost."""
        ends = self._day_ends
        found = self.judge.findings.tasks
        return ends is not None and all(self.judge.unended(name, ends) <= task.lost for name, task in found.items())

    def begin(self) -> None:
        """The stream begins now."""
        self._started = time.monotonic()

    async def look(self) -> Picture:
        """Read what is new."""
        sent = self._producer.sent
        findings = await self.judge.look()
        self._sent_at_look = sent
        await self._deliveries.look()
        await self._guests.look()
        now = time.monotonic()
        done = {name: task.ended + task.skipped for name, task in findings.tasks.items()}
        self._before.append((now, done))
        while now - self._before[0][0] > RATE_SECONDS and len(self._before) > 2:
            self._before.popleft()
        if self._pressure is not None:
            self._follow(self._pressure)
        return self._picture(findings, now, done)

    def _follow(self, pressure: Pressure) -> None:
        """The burst's begin and end are told once."""
        before = pressure.absorbed
        was_open = before is not None and before.drained_seconds is None
        pressure.look(time.time(), self._producer.at_seconds, self.backlog)
        found = pressure.absorbed
        if before is None and found is not None:
            self.note(
                f"burst: {found.events:,} events in {found.seconds:.1f} s, {found.times:.0f} times as many as before"
            )
        if was_open and found is not None and found.drained_seconds is not None:
            self.note(
                f"burst absorbed: {found.most_waiting:,} waited at most, drained in {found.drained_seconds:.0f} s"
            )

    def _picture(self, findings: Findings, now: float, done: dict[str, int]) -> Picture:
        then, before = self._before[0]
        span = max(now - then, 0.001)
        rows = [
            TaskRow(name, name.removeprefix(self._prefix), (done[name] - before[name]) / span, self._lag(task), task)
            for name, task in findings.tasks.items()
        ]
        billed = findings.billed_nanousd if self._offline is not None else findings.recorded_nanousd
        return Picture(
            title=self.title,
            seconds=self._seconds(),
            sent=self._sent_at_look,
            total=self._producer.total,
            day_time=self._day_time(),
            rows=rows,
            tally=self.tally,
            findings=findings,
            calls_in_flight=self._offline.in_flight if self._offline is not None else None,
            spent_nanousd=billed,
            ceiling_usd=self._ceiling_usd,
            notes=[*self.notes],
            noted=self.noted,
            limit=self._pressure.line if self._pressure is not None else "",
            absorbed=self._pressure.absorbed if self._pressure is not None else None,
            gateway=self._gateway,
            guests=self._guests.count,
            delivered=self._deliveries.now,
        )

    def _lag(self, task: TaskFindings) -> int:
        return max(0, self.judge.findings.events - task.ended - task.skipped)

    def _day_time(self) -> str:
        if self._burst is None or not self._burst.stream_seconds:
            return ""
        minutes = min(24 * 60 - 1, int(self._burst.day_ms(self._producer.at_seconds) / 60_000))
        return f"{minutes // 60:02}:{minutes % 60:02}"

    def _seconds(self) -> float:
        return time.monotonic() - self._started
