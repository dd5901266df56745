"""Which stream this run is about: the rest of the last one, the next day, or the user's own events.

place → [stretch] → producer, judge
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.demo.burst import Burst, burst_of
from penstock.demo.lines import Lines
from penstock.demo.names import fresh_prefix, specs_of
from penstock.demo.options import DAY_EVENTS, DAY_SECONDS, DemoOptions
from penstock.demo.place import Place, Stretch
from penstock.demo.producer import Due, day_stream, line_stream, sent_before
from penstock.log.unresolved import unresolved
from review_moderation.samples import FIRST_DAY, SampleEvent, day

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.log.base import EventLog
    from penstock.task import Task

DAY = "day"


@dataclass(frozen=True, slots=True)
class Stream:
    """The events of this run, ready to be sent."""

    title: str
    events: Iterator[Due]
    total: int | None
    sent: int
    """By earlier runs of the same stretch."""
    planted: Sequence[SampleEvent] | None
    """The whole day, where it is one."""
    burst: Burst | None
    """Of a day: when its events come."""
    remarks: tuple[str, ...] = ()


async def open_place(place: Place, log: EventLog) -> str:
    """Decide by which names the demo works on its log; what an earlier run left elsewhere is told and not touched.

    On a cluster every demo has topics of its own. It goes on with those of its last run where all of them are still
    there, and none has begun to lose what was not answered.
    """
    last = place.stretch
    if not place.kafka:
        if last.log:
            place.begin_anew()
        return _left_at(last) if last.log else ""
    known = await log.topics()
    if last.prefix and all(spec.name in known for spec in specs_of(last.prefix)) and not await _is_trimmed(last, log):
        last.log = place.log
        return ""
    place.begin_anew(fresh_prefix(known))
    return _left_at(last) if any(name.startswith(last.prefix) for name in known if last.prefix) else ""


async def _is_trimmed(last: Stretch, log: EventLog) -> bool:
    """Whether retention has deleted records of the stretch."""
    lows = {p: b.low for spec in specs_of(last.prefix) for p, b in (await log.bounds(spec.name)).items()}
    return any(lows.get(partition, 0) > first for partition, first in last.starts().items() if not last.is_finished)


def _left_at(last: Stretch) -> str:
    return f"Topics of an earlier demo stay as they are: {last.prefix}* at {last.log}"


async def open_stretch(
    place: Place, log: EventLog, topics: Sequence[str], tasks: Sequence[Task[Any, Any]], options: DemoOptions
) -> None:
    """Decide what this run is about and write it down. What an earlier run left unended always comes first.

    A finished day may have been followed by events of others: while one of them waits, the judge reads from where it did.
    """
    ends = {f"{p.topic}/{p.number}": b.high for topic in topics for p, b in (await log.bounds(topic)).items()}
    last = place.stretch
    source = options.input.identity if options.input is not None else DAY
    is_open = not last.is_finished or (bool(last.first) and await _waits(tasks, log))
    is_rest = is_open and all(last.first.get(name, 0) <= end for name, end in ends.items())
    if not is_rest:
        place.ledger.unlink(missing_ok=True)
    if not is_rest or last.is_finished or source != last.source or source == "-":
        place.stretch = Stretch(
            log=last.log,
            prefix=last.prefix,
            number=last.number + 1,
            day=last.day + (source == DAY),
            source=source,
            events=options.events or DAY_EVENTS if source == DAY else 0,
            first=last.first if is_rest else ends,
        )
    place.stretch.is_finished = False
    place.stretch.is_running = True
    place.save()


async def _waits(tasks: Sequence[Task[Any, Any]], log: EventLog) -> bool:
    """Whether one of the groups has an event before it."""
    for task in tasks:
        for topic in task.topics:
            done = await log.committed(task.group, topic)
            for partition, kept in (await log.bounds(topic)).items():
                known = done.get(partition)
                if known is not None and (await unresolved(log, partition, known, kept))[0]:
                    return True
                if known is None and kept.low < kept.high:
                    return True
    return False


async def stream_of(place: Place, log: EventLog, topic: str, options: DemoOptions) -> Stream:
    """The events still to be sent."""
    stretch = place.stretch
    numbers = await sent_before(log, topic, stretch.starts(), stretch.number)
    first = max(numbers, default=-1) + 1
    if options.input is not None:
        return _lines(options.input, topic, stretch, options, first=first, sent=len(numbers))
    seconds = DAY_SECONDS if options.seconds is None else options.seconds
    planted = list(day(stretch.day, stretch.events, FIRST_DAY + timedelta(days=stretch.day - 1)))
    remarks = []
    if first and options.events not in (None, stretch.events):
        remarks.append(f"--events {options.events} is for a new day: this one has {stretch.events:,} and goes on")
    burst = burst_of(planted, seconds)
    events = day_stream(topic, stretch.number, planted, burst, first)
    title = f"Day {stretch.day} of a shop's reviews"
    return Stream(title, events, len(planted), len(numbers), planted, burst, tuple(remarks))


def _lines(lines: Lines, topic: str, stretch: Stretch, options: DemoOptions, *, first: int, sent: int) -> Stream:
    total, spacing = options.events, 0.0
    if options.seconds:
        counted = Lines(lines.file)
        there = counted.count()
        counted.close()
        total = min(there, total or there)
        spacing = options.seconds / total
    events = line_stream(topic, stretch.number, lines, first, options.events, spacing)
    name = lines.name if len(lines.name) <= 40 else f"…{lines.name[-39:]}"
    return Stream(f"Your events from {name}", events, total, sent, None, None)
