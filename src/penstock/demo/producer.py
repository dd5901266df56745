"""What writes the events: a made-up day at its own pace, or the user's lines as fast as they are taken.

samples, lines → [producer] → log → intake
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import LogUnavailable, RecordTooLarge
from penstock.record import NewRecord, header_text
from review_moderation.samples import SampleEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.demo.burst import Burst
    from penstock.demo.lines import Lines
    from penstock.log.base import EventLog
    from penstock.record import Partition, Record

MARK = "demo-event"
"""Header of every event of the demo, `stretch/number`: a later run knows by it where to go on."""
KEY_FIELD = "product_id"
TICK_SECONDS = 0.05
BATCH = 500
_LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 30.0
"""A log that takes nothing for so long is no weather any more."""

logger = logging.getLogger("penstock.demo")
HOLD_BACK_ABOVE = 3_000
"""Lines are held back while so many events wait: the log is no place to copy a large file to."""


class Due(NamedTuple):
    """An event and when it is to be sent, in seconds from the beginning of the stream; 0: as soon as it may."""

    number: int
    seconds: float
    record: NewRecord


class Producer:
    """Sends what is due. `progress` shows from 0 to 1 how far the stream is, None where nobody knows."""

    def __init__(
        self,
        log: EventLog,
        stream: Iterator[Due],
        backlog: Callable[[], int],
        *,
        total: int | None,
        sent_before: int = 0,
    ) -> None:
        self.sent = sent_before
        self.total = total
        self.at_seconds = 0.0
        self.is_done = False
        self.too_large: list[int] = []
        """Numbers of lines that no log takes."""
        self._log = log
        self._stream = stream
        self._backlog = backlog
        self._stopped = threading.Event()
        self._ready: queue.Queue[Due | None] = queue.Queue(2 * BATCH)
        self._failure: OSError | None = None
        self._weather_since = time.monotonic()

    def stop(self) -> None:
        """Send no more; what was sent stays."""
        self._stopped.set()

    async def run(self) -> None:
        """Send all of it, in order. Reading may wait (a pipe, a disk): it has a thread of its own."""
        reader = threading.Thread(target=self._read, name="producer", daemon=True)
        reader.start()
        started: float | None = None
        while batch := await asyncio.to_thread(self._next_batch):
            if started is None:  # the first comes at once, also where a stream goes on in its middle
                started = time.monotonic() - batch[0].seconds
            while batch and not self._stopped.is_set():
                batch = await self._send_due(batch, time.monotonic() - started)
        await asyncio.to_thread(reader.join)
        if self._failure is not None:
            raise self._failure
        self.is_done = not self._stopped.is_set()

    def _read(self) -> None:
        try:
            for event in self._stream:
                if not self._hand(event):
                    return
        except OSError as error:
            self._failure = error
        self._hand(None)

    def _hand(self, event: Due | None) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(event, timeout=_LOOK_SECONDS)
                return True
        return False

    def _next_batch(self) -> list[Due]:
        """What is there by now, at least one event; nothing at the end."""
        batch: list[Due] = []
        while not self._stopped.is_set() and len(batch) < BATCH:
            try:
                event = self._ready.get(block=not batch, timeout=_LOOK_SECONDS)
            except queue.Empty:
                if batch:
                    break
                continue
            if event is None:
                self._hand(None)  # seen again once this batch is sent
                break
            batch.append(event)
        return batch

    async def _send_due(self, batch: list[Due], at_seconds: float) -> list[Due]:
        """Send what is due by now; the rest comes back."""
        due = next((i for i, event in enumerate(batch) if event.seconds > at_seconds), len(batch))
        if not due or self._backlog() > HOLD_BACK_ABOVE:
            await asyncio.sleep(TICK_SECONDS)
            return batch
        await self._append(batch[:due])
        self.at_seconds = batch[due - 1].seconds
        return batch[due:]

    async def _append(self, events: Sequence[Due]) -> None:
        try:
            await self._log.append([event.record for event in events])
        except RecordTooLarge:
            if len(events) == 1:
                self.too_large.append(events[0].number)
                return
            middle = len(events) // 2
            await self._append(events[:middle])
            await self._append(events[middle:])
            return
        except LogUnavailable as weather:
            if time.monotonic() > self._weather_since + PATIENCE_SECONDS:
                raise
            logger.warning("producer waits for the log: %s", weather)
            await asyncio.sleep(1.0)
            await self._append(events)
            return
        self._weather_since = time.monotonic()
        self.sent += len(events)


def day_stream(topic: str, stretch: int, events: Sequence[SampleEvent], burst: Burst, first: int) -> Iterator[Due]:
    """A day pressed into seconds, its quiet night and busy noon kept, its evening at once; from event `first` on."""
    for number, event in islice(enumerate(events), first, None):
        headers = (*event.headers, (MARK, f"{stretch}/{number}".encode()))
        yield Due(number, burst.due_seconds(event.at_ms), NewRecord(topic, event.key, event.value, headers))


def line_stream(
    topic: str, stretch: int, lines: Lines, first: int, most: int | None, spacing_seconds: float
) -> Iterator[Due]:
    """Lines from number `first` on, `most` of them altogether; bad lines are events too, for the tasks to bury."""
    for count, (number, line) in enumerate(islice(lines.numbered(), most)):
        if number >= first:
            headers = ((MARK, f"{stretch}/{number}".encode()),)
            yield Due(number, count * spacing_seconds, NewRecord(topic, _key(line), line, headers))


async def sent_before(log: EventLog, topic: str, starts: dict[Partition, int], stretch: int) -> list[int]:
    """Numbers of the events that an earlier run of this stretch sent."""
    found: list[int] = []
    for partition, bounds in (await log.bounds(topic)).items():
        at = max(starts.get(partition, 0), bounds.low)
        while at < bounds.high and (records := await log.read(partition, at, 2_000)):
            found += [number for record in records if (number := _number(record, stretch)) is not None]
            at = records[-1].offset + 1
    return found


def _number(record: Record, stretch: int) -> int | None:
    whose, _, number = (header_text(record.headers, MARK) or "").partition("/")
    return int(number) if whose == str(stretch) and number.isdigit() else None


def _key(line: bytes) -> bytes | None:
    """The product, so that edits of a review follow it; none where there is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    key = event.get(KEY_FIELD) if isinstance(event, dict) else None
    return key.encode("utf-8", "backslashreplace") if isinstance(key, str) and key else None
