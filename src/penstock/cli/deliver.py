"""`penstock deliver` and `penstock redeliver`: results to sinks, and a person's orders to them.

terminal → [deliver] → wiring → worker → sinks
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import Invocation, TasksOption, command, run_async
from penstock.cli.console import tell
from penstock.cli.run import IDLE_LOOK_SECONDS, patiently, start_logging
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.log.base import EventLog
    from penstock.record import NewRecord
    from penstock.settings import Settings
    from penstock.sinks.delivery import DeliveryLoop
    from penstock.worker import Worker

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@command
def deliver(
    invocation: Invocation,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SINK]...",
            help="database, webhooks, webhook.NAME, slack, slack.NAME, or MODULE:SINK for one of your own.",
        ),
    ] = None,
    *,
    references: TasksOption = None,
    pauses: Annotated[
        bool, typer.Option("--pause", help="Let these sinks wait, wherever they run and over restarts, and end.")
    ] = False,
    resumes: Annotated[bool, typer.Option("--resume", help="Let them go on, and end.")] = False,
    is_simulated: Annotated[
        bool, typer.Option("--simulated", help="Deliver made-up verdicts of the offline simulator too.")
    ] = False,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Stop when everything is delivered.")] = False,
) -> None:
    """Deliver results to these sinks until Ctrl-C or SIGTERM. Start as many as the topics have partitions."""
    settings = invocation.settings
    wanted = names or list(settings.deliver.sinks)
    if not wanted:
        raise SettingsError("deliver to what? name a sink, such as `penstock deliver database`, or set deliver.sinks")
    if pauses or resumes:
        if pauses and resumes:
            raise SettingsError("--pause and --resume: one of them")
        run_async(_order_each(invocation, wanted, is_pause=pauses))
        return
    if is_simulated:
        settings = settings.model_copy(update={"deliver": replace(settings.deliver, simulated="deliver")})
    start_logging(is_quiet=invocation.is_quiet)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    run_async(_work(invocation, settings, wanted, references or [], until_idle=until_idle))


@command
def redeliver(
    invocation: Invocation,
    name: Annotated[
        str,
        typer.Argument(
            metavar="SINK",
            help="database, webhooks, webhook.NAME, slack, slack.NAME, or MODULE:SINK for one of your own.",
        ),
    ],
    *,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="2026-11-03T14:00, with or without a zone (UTC), or 90m, 6h, 2d ago."
        ),
    ],
) -> None:
    """Deliver once more what was written since a time. Runs where the sink runs, before anything newer."""
    from penstock.cli.loading_sinks import names_of
    from penstock.sinks.orders import redeliver_order

    settings = invocation.settings
    groups = [settings.deliver.group_prefix + one for one in names_of(name, settings)]
    from_ms = moment_of(start, time.time())
    run_async(_append(invocation, [redeliver_order(group, from_ms) for group in groups]))
    told = datetime.fromtimestamp(from_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    for group in groups:
        tell(f"{group} delivers again what was written since {told}: at once where it runs, else when it starts")


def moment_of(text: str, now: float) -> int:
    """A time as people write it, in Unix milliseconds."""
    if (ago := _AGO.fullmatch(text.strip())) is not None:
        return int((now - float(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise SettingsError(
            f"--from {text}: write a time such as 2026-11-03T14:00, or how long ago: 90m, 6h, 2d"
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


async def _order_each(invocation: Invocation, names: Sequence[str], *, is_pause: bool) -> None:
    from penstock.cli.loading_sinks import names_of
    from penstock.sinks.orders import pause_order, resume_order

    settings = invocation.settings
    groups = [settings.deliver.group_prefix + one for name in names for one in names_of(name, settings)]
    order = pause_order if is_pause else resume_order
    await _append(invocation, [order(group) for group in groups])
    for group in groups:
        tell(f"{group} {'waits, until --resume' if is_pause else 'goes on'}")


async def _append(invocation: Invocation, orders: list[NewRecord]) -> None:
    async with invocation.log() as log:
        await log.append(orders)


async def _work(
    invocation: Invocation, settings: Settings, names: Sequence[str], references: Sequence[str], *, until_idle: bool
) -> None:
    from penstock.cli.loading_sinks import known_tasks, load_sinks
    from penstock.wiring import build_delivery, open_log, prepare_delivery, spend_options
    from penstock.wiring_sinks import with_alarms

    tasks = known_tasks(settings, references)
    sinks = load_sinks(settings, names, tasks)
    log = open_log(settings)
    with_alarms(settings, sinks, tasks, log, list(spend_options(settings).ceilings()))
    await patiently(lambda: prepare_delivery(settings, tasks, log))
    process = build_delivery(settings, sinks, tasks, log, ops=settings.ops)
    if not invocation.is_quiet:
        topics = ", ".join(dict.fromkeys(topic for loop in process.pipelines for topic in loop.topics))
        tell(f"delivering {topics} to {', '.join(sink.name for sink in sinks)}; Ctrl-C finishes the batch and stops")
    watch = asyncio.create_task(_stop_when_idle(invocation, process)) if until_idle else None
    try:
        await process.run()
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        if not invocation.is_quiet:
            for loop in process.pipelines:
                tell(_told(loop))


def _told(loop: DeliveryLoop) -> str:
    counts = loop.counts
    refused = "".join(f", {count:,} refused ({reason})" for reason, count in sorted(counts.refused.items()))
    return f"{loop.name}: {counts.delivered.total():,} delivered{refused}"


async def _stop_when_idle(invocation: Invocation, process: Worker[DeliveryLoop]) -> None:
    async with invocation.log() as log:
        while await patiently(lambda: waiting(log, process.pipelines)):  # noqa: ASYNC110 - the log is what tells
            await asyncio.sleep(IDLE_LOOK_SECONDS)
    process.stop()


async def waiting(log: EventLog, loops: Sequence[DeliveryLoop]) -> int:
    """Partitions in which something is not delivered; one that a group has not touched yet counts too."""
    count = 0
    for loop in loops:
        count += not loop.is_settled
        for topic in loop.topics:
            done = await log.committed(loop.group, topic)
            for partition, kept in (await log.bounds(topic)).items():
                known = done.get(partition)
                is_behind = known is None or (known.base < kept.high and await log.read(partition, known.base, 1))
                count += bool(is_behind)
    return count
