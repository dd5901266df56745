"""`penstock produce`: lines of a file become events of a topic.

file → [produce] → log → intake
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_topics
from penstock.cli.console import emit, err, tell
from penstock.errors import RecordTooLarge, SettingsError

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.record import NewRecord

BATCH_RECORDS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
SHOWN_BAD_LINES = 10


class BadLine(NamedTuple):
    """A line that became no event."""

    number: int
    why: str


@dataclass
class Produced:
    """What came of a file."""

    sent: int = 0
    sent_bytes: int = 0
    without_key: int = 0
    blank: int = 0
    bad: list[BadLine] = field(default_factory=list)


@command
def produce(
    invocation: Invocation,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON lines, also .gz; - reads stdin.")],
    *,
    topic: Annotated[str, typer.Option("--topic", "-t", help="Where they go.", autocompletion=complete_topics)],
    key_field: Annotated[
        str, typer.Option("--key-field", "-k", metavar="F", help="Field that is the key; a.b looks inside an object.")
    ] = "",
    headers: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="On every record. Repeatable.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Events per second at most; 0 as fast as it goes.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="Stop after so many events; 0 for all.", min=0)] = 0,
    is_raw: Annotated[bool, typer.Option("--raw", help="Send lines as they are, also those that are no JSON.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was done as one JSON object.")] = False,
) -> None:
    """Write each line of FILE as one event. Lines that are no JSON are named and left out; then the exit code is 3."""
    reader = LineReader(topic, key_field, _headers(headers or []), is_raw=is_raw)
    run_async(_produce(invocation, reader, file, rate=rate, limit=limit))
    _report(invocation, reader.produced, topic, as_json=as_json)


def count(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _headers(given: list[str]) -> tuple[tuple[str, bytes], ...]:
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise SettingsError(f"--header {name!r}: write NAME=VALUE")
    return tuple((name, value.encode()) for name, _, value in pairs)


class LineReader:
    """Makes records of lines and counts what is wrong with the others."""

    def __init__(self, topic: str, key_field: str, headers: tuple[tuple[str, bytes], ...], *, is_raw: bool) -> None:
        self.produced = Produced()
        self._topic = topic
        self._key_path = key_field.split(".") if key_field else []
        self._headers = headers
        self._is_raw = is_raw

    def records(self, lines: io.BufferedIOBase) -> Iterator[tuple[int, NewRecord]]:
        """Line number and record of every good line."""
        from penstock.record import NewRecord

        for number, line in self._numbered(lines):
            value = line.rstrip(b"\r\n")
            if number == 1:
                value = value.removeprefix(b"\xef\xbb\xbf")
            if not value.strip():
                self.produced.blank += 1
                continue
            try:
                event = json.loads(value)
            except (ValueError, RecursionError) as error:
                if not self._is_raw:
                    self.bad(number, f"no JSON: {error}")
                    continue
                event = None
            yield number, NewRecord(self._topic, self._key(event), value, self._headers)

    def _numbered(self, lines: io.BufferedIOBase) -> Iterator[tuple[int, bytes]]:
        """Up to where the file is damaged: what stands before that is sent."""
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.bad(number + 1, f"the gzip file is damaged from here on: {error}")

    def bad(self, number: int, why: str) -> None:
        """This line became no event."""
        self.produced.bad.append(BadLine(number, why))

    def _key(self, event: Any) -> bytes | None:
        for name in self._key_path:
            event = event.get(name) if isinstance(event, dict) else None
        if not self._key_path:
            return None
        if event is None or isinstance(event, dict | list):
            self.produced.without_key += 1
            return None
        return (event if isinstance(event, str) else json.dumps(event)).encode()


@contextmanager
def opened(file: str) -> Iterator[io.BufferedIOBase]:
    """The lines of a file or of stdin, unpacked where they are packed (told by the first bytes, not by the name)."""
    if file == "-" and sys.stdin.isatty():
        raise SettingsError("- reads stdin, and nothing is piped into it")
    try:
        source = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed below
        buffered = io.BufferedReader(source)  # type: ignore[type-var]  # anything that can be read
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    is_packed = buffered.peek(2)[:2] == b"\x1f\x8b"
    try:
        yield gzip.GzipFile(fileobj=buffered) if is_packed else buffered
    finally:
        if file != "-":
            source.close()


async def _produce(invocation: Invocation, reader: LineReader, file: str, *, rate: float, limit: int) -> None:
    with opened(file) as lines, _progress(invocation, file) as advance:
        async with invocation.log() as log:
            await log.bounds(reader._topic)  # noqa: SLF001 - a missing topic is told before the file is read
            started = time.monotonic()
            batch: list[tuple[int, NewRecord]] = []
            waiting_bytes = 0
            for numbered in reader.records(lines):
                batch.append(numbered)
                waiting_bytes += numbered[1].size
                at_limit = bool(limit) and reader.produced.sent + len(batch) >= limit
                if at_limit or len(batch) >= _batch_records(rate) or waiting_bytes >= BATCH_BYTES:
                    await _send(log, reader, batch)
                    advance(reader.produced)
                    batch, waiting_bytes = [], 0
                    if rate:
                        await asyncio.sleep(started + reader.produced.sent / rate - time.monotonic())
                if at_limit:
                    return
            await _send(log, reader, batch)
            advance(reader.produced)


def _batch_records(rate: float) -> int:
    """With a rate, ten small batches a second look like a stream; without one, large ones are fast."""
    return min(BATCH_RECORDS, max(1, int(rate / 10))) if rate else BATCH_RECORDS


async def _send(log: EventLog, reader: LineReader, batch: list[tuple[int, NewRecord]]) -> None:
    produced = reader.produced
    if not batch:
        return
    try:
        await log.append([record for _, record in batch])
    except RecordTooLarge as error:
        if len(batch) == 1:
            reader.bad(batch[0][0], str(error))
            return
        middle = len(batch) // 2
        await _send(log, reader, batch[:middle])
        await _send(log, reader, batch[middle:])
        return
    produced.sent += len(batch)
    produced.sent_bytes += sum(record.size for _, record in batch)


@contextmanager
def _progress(invocation: Invocation, file: str) -> Iterator[Any]:
    if not invocation.shows_progress:
        with nullcontext():
            yield lambda _: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err()) as progress:
        row = progress.add_task(f"{file}: reading")

        def advance(produced: Produced) -> None:
            progress.update(row, description=f"{file}: {produced.sent:,} events sent, {len(produced.bad):,} bad lines")

        yield advance


def _report(invocation: Invocation, produced: Produced, topic: str, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "topic": topic,
                "sent": produced.sent,
                "bytes": produced.sent_bytes,
                "without_key": produced.without_key,
                "bad": [{"line": line.number, "why": line.why} for line in produced.bad],
            }
        )
    elif not invocation.is_quiet:
        tell(f"{count(produced.sent, 'event')} sent to {topic}")
        if produced.without_key:
            tell(f"{produced.without_key:,} of them without a key: the field is missing or no plain value")
    if not produced.bad:
        return
    for line in produced.bad[:SHOWN_BAD_LINES]:
        tell(f"line {line.number}: {line.why}")
    if len(produced.bad) > SHOWN_BAD_LINES:
        tell(f"… and {len(produced.bad) - SHOWN_BAD_LINES:,} more (--json lists all)")
    from penstock.cli.failures import CheckFailed

    raise CheckFailed(f"{count(len(produced.bad), 'line')} not sent; --raw sends lines as they are")
