"""`penstock tail`: what stands in a topic, and what comes.

log → [tail] → terminal
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_topics
from penstock.cli.console import emit, out, tell
from penstock.errors import SettingsError
from penstock.record import Partition, header_text

if TYPE_CHECKING:
    from rich.text import Text

    from penstock.log.base import Bounds, EventLog
    from penstock.record import Record

PAGE_RECORDS = 500
NOTICE_SECONDS = 0.2
"""How often a followed topic is looked at."""


@command
def tail(
    invocation: Invocation,
    topic: Annotated[str, typer.Argument(help="The topic.", autocompletion=complete_topics)],
    *,
    follows: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="earliest|latest|N", help="Where to begin; N: that many records before the end."
        ),
    ] = "10",
    limit: Annotated[int, typer.Option("--limit", "-n", help="Stop after so many records; 0 for all.", min=0)] = 0,
    partition: Annotated[int | None, typer.Option(help="This partition only.", min=0)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per record.")] = False,
) -> None:
    """Print records of TOPIC, the last ten unless told otherwise. Nothing is claimed: groups do not notice."""
    if start not in ("earliest", "latest") and not start.isdigit():
        raise SettingsError(f"--from {start}: write earliest, latest or a number of records")
    if start == "latest" and not follows:
        raise SettingsError("--from latest shows what comes from now on: add --follow")
    run_async(_tail(invocation, Selection(topic, partition, start, limit, follows=follows), as_json=as_json))


class Selection:
    """Which records to show."""

    def __init__(self, topic: str, partition: int | None, start: str, limit: int, *, follows: bool) -> None:
        self.topic = topic
        self.partition = partition
        self.start = start
        self.limit = limit
        self.follows = follows


async def _tail(invocation: Invocation, selection: Selection, *, as_json: bool) -> None:
    shown = 0
    console = out()
    async with invocation.log() as log:
        async for record in _records(log, selection):
            if as_json:
                emit(as_object(record))
            else:
                console.print(_pretty(record), soft_wrap=True)
            shown += 1
            if selection.follows:
                sys.stdout.flush()
            if shown == selection.limit:
                break
    if not shown and not invocation.is_quiet:
        tell(f"{selection.topic} is empty")


async def _records(log: EventLog, selection: Selection) -> AsyncIterator[Record]:
    bounds = await _bounds(log, selection)
    ends = {partition: kept.high for partition, kept in bounds.items()}
    if selection.start == "earliest":
        at = {partition: kept.low for partition, kept in bounds.items()}
        async for record in _until(log, at, ends):
            yield record
    elif selection.start != "latest":
        for record in await _last(log, bounds, int(selection.start)):
            yield record
    if selection.follows:
        async for record in _coming(log, ends):
            yield record


async def _bounds(log: EventLog, selection: Selection) -> dict[Partition, Bounds]:
    bounds = await log.bounds(selection.topic)
    if selection.partition is None:
        return bounds
    chosen = {p: kept for p, kept in bounds.items() if p.number == selection.partition}
    if not chosen:
        raise SettingsError(f"{selection.topic} has no partition {selection.partition}: it has 0 to {len(bounds) - 1}")
    return chosen


async def _until(log: EventLog, at: dict[Partition, int], ends: dict[Partition, int]) -> AsyncIterator[Record]:
    """From `at` to `ends`, a page of every partition at a time."""
    while at := {partition: offset for partition, offset in at.items() if offset < ends[partition]}:
        page, going = await _page(log, at)
        for record in page:
            if record.offset < ends[Partition(record.topic, record.partition)]:
                yield record
        # Where nothing came the rest of the partition is a gap.
        at = {partition: going.get(partition, ends[partition]) for partition in at}


async def _coming(log: EventLog, at: dict[Partition, int]) -> AsyncIterator[Record]:
    while True:
        page, going = await _page(log, at)
        at = {**at, **going}
        for record in page:
            yield record
        if not page:
            await asyncio.sleep(NOTICE_SECONDS)


async def _last(log: EventLog, bounds: dict[Partition, Bounds], count: int) -> list[Record]:
    """The last records of all partitions together."""
    starts = {partition: max(kept.low, kept.high - count) for partition, kept in bounds.items()}
    ends = {partition: kept.high for partition, kept in bounds.items()}
    found = [record async for record in _until(log, starts, ends)]
    return _by_time(found)[-count:] if count else []


async def _page(log: EventLog, at: dict[Partition, int]) -> tuple[list[Record], dict[Partition, int]]:
    """One page of every partition, by time; and where to go on, for partitions that had any."""
    page: list[Record] = []
    going: dict[Partition, int] = {}
    for partition, offset in at.items():
        records = await log.read(partition, offset, PAGE_RECORDS)
        page += records
        if records:
            going[partition] = records[-1].offset + 1
    return _by_time(page), going


def _by_time(records: list[Record]) -> list[Record]:
    """As they came; within a partition the order never changes."""
    return sorted(records, key=lambda r: r.timestamp_ms)


def as_object(record: Record) -> dict[str, Any]:
    """A record for machines: JSON stays JSON, text is text, other bytes are base64."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _text(record.key),
        **_value(record.value),
        "headers": [[name, _text(content)] for name, content in record.headers],
    }


def _value(content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {"value": None}
    try:
        return {"value": json.loads(content)}
    except (ValueError, RecursionError):
        pass
    try:
        return {"value": content.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(content).decode()}


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "backslashreplace")


def _pretty(record: Record) -> Text:
    """One line per record: where, when, key, value. Control characters are escaped, the terminal obeys no event."""
    from rich.text import Text

    when = datetime.fromtimestamp(record.timestamp_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    value = _deleted(record) if record.value is None else printable(_text(record.value) or "")
    return Text.assemble(
        (f"{record.partition}/{record.offset}", "cyan"),
        " ",
        (when, "dim"),
        " ",
        (printable(_text(record.key) or "-"), "green"),
        (_buried(record), "yellow"),
        " ",
        value,
    )


def _deleted(record: Record) -> str:
    """What a record without a value deletes."""
    from penstock.erasure import read_erasure

    try:
        erasure = read_erasure(record)
    except ValueError:  # somebody else's, with a header that looks like ours
        erasure = None
    if erasure is None:
        return "(tombstone)"
    what = "everything under this key" if erasure.subject is None else erasure.subject
    return printable(f"(erased for {erasure.task}: {what})")


def _buried(record: Record) -> str:
    """Why a dead letter is one; its value is the event, byte for byte."""
    from penstock.deadletters.letter import PREFIX

    reason, detail = (header_text(record.headers, PREFIX + name) for name in ("reason", "message"))
    return f" {printable(reason)}: {printable(detail or '')}" if reason else ""


def printable(text: str) -> str:
    """Text as a terminal may show it: what would move the cursor or hide text is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
