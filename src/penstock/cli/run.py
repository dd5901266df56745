"""`penstock run`: a worker in the foreground.

terminal → [run] → wiring → worker
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import tell
from penstock.errors import CodecUnavailable, LogUnavailable

if TYPE_CHECKING:
    from penstock.engine.pipeline import Pipeline
    from penstock.log.base import EventLog
    from penstock.settings import Settings
    from penstock.task import Task
    from penstock.worker import Worker

IDLE_LOOK_SECONDS = 0.3
IDLE_LOOKS = 2
REPORT_SECONDS = 10.0
PATIENCE_SECONDS = 30.0
"""How long `run` waits for a log or a registry that cannot be reached when it starts."""
T = TypeVar("T")

logger = logging.getLogger("penstock.run")


@command
def run(
    invocation: Invocation,
    references: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:TASK...", help="module:name, file.py:name.", autocompletion=complete_tasks),
    ],
    *,
    says_yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer a long backlog without asking.")] = False,
    is_simulated: Annotated[
        bool, typer.Option("--simulated", help="Made-up answers of the offline simulator: no key, no cost.")
    ] = False,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Stop when no event waits any more.")] = False,
) -> None:
    """Answer the events of these tasks' topics until Ctrl-C or SIGTERM. Start as many as the topics have partitions."""
    from penstock.cli.answering import answering, need_credentials
    from penstock.cli.loading import load_tasks
    from penstock.wiring import with_codec

    settings = invocation.settings
    tasks = [with_codec(settings, task) for task in load_tasks(references, policy=settings.policy)]
    if not is_simulated and any(isinstance(step.tier, str) for task in tasks for step in task.route.steps):
        need_credentials(settings)
    start_logging(is_quiet=invocation.is_quiet)
    run_async(patiently(lambda: check_start(invocation, tasks, says_yes=says_yes or is_simulated)))
    with answering(settings, is_simulated=is_simulated) as answers:
        if answers.is_simulated and not invocation.is_quiet:
            tell("SIMULATED: an offline stand-in answers; results are marked simulated")
        run_async(_work(invocation, answers.settings, tasks, until_idle=until_idle))


def start_logging(*, is_quiet: bool) -> None:
    """What a long-lived command says of its work, on stderr."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING if is_quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    # One line per call would be most of what a worker says.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


async def patiently(
    act: Callable[[], Awaitable[T]], *, patience_seconds: float = PATIENCE_SECONDS, pause_seconds: float = 1.0
) -> T:
    """Workers and brokers are often started together: weather is waited for, but not for ever."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return await act()
        except (LogUnavailable, CodecUnavailable) as weather:
            if time.monotonic() > deadline:
                raise
            logger.warning("%s; trying again", weather)
            await asyncio.sleep(pause_seconds)


async def check_start(invocation: Invocation, tasks: Sequence[Task[Any, Any]], *, says_yes: bool) -> None:
    """Everything that can be known to go wrong is told before the first call."""
    from penstock.cli.backlog import need_yes, plans_of
    from penstock.wiring import check_codecs, prepare_topics

    await check_codecs(tasks)
    async with invocation.log() as log:
        await prepare_topics(invocation.settings, tasks, log)
        need_yes(await plans_of(invocation.settings, tasks, log), invocation.settings.spend, says_yes=says_yes)


async def _work(
    invocation: Invocation, settings: Settings, tasks: Sequence[Task[Any, Any]], *, until_idle: bool
) -> None:
    from penstock.log.guarantee import label
    from penstock.wiring import build_worker, open_log

    log = open_log(settings)
    worker = build_worker(settings, tasks, log, ops=settings.ops)
    if not invocation.is_quiet:
        topics = ", ".join(f"{task.name} ({task.reads} → {task.writes})" for task in tasks)
        delivery = ", delivery at least once" if log.delivery == "at_least_once" else ""
        tell(f"running {topics} on {settings.log}{delivery}; Ctrl-C finishes what is in flight and stops")
        if warning := label(log.delivery):
            tell(warning)
    report = asyncio.create_task(_report(worker))
    try:
        await (_until_idle(invocation, tasks, worker) if until_idle else worker.run())
    finally:
        report.cancel()
        await asyncio.gather(report, return_exceptions=True)
    if not invocation.is_quiet:
        for pipeline in worker.pipelines:
            tell(_told(pipeline))


async def _report(worker: Worker[Pipeline]) -> None:
    """A line per task now and then, while there is something new to say."""
    told: dict[str, str] = {}
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        for pipeline in worker.pipelines:
            text = _told(pipeline)
            if told.get(pipeline.task.name) != text:
                told[pipeline.task.name] = text
                logger.info(text)


def _told(pipeline: Pipeline) -> str:
    counts = pipeline.counts
    return (
        f"{pipeline.task.name}: {counts.results:,} results, {counts.dead_letters:,} dead letters, "
        f"{counts.skipped:,} skipped, {counts.calls:,} calls, ${counts.nanousd / 1e9:,.4f}"
    )


async def _until_idle(invocation: Invocation, tasks: Sequence[Task[Any, Any]], worker: Worker[Pipeline]) -> None:
    watch = asyncio.create_task(_idle(invocation, tasks))
    watch.add_done_callback(lambda _: worker.stop())
    try:
        await worker.run()
    finally:
        watch.cancel()
        (ended,) = await asyncio.gather(watch, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended


async def _idle(invocation: Invocation, tasks: Sequence[Task[Any, Any]]) -> None:
    """Looks at the log, not at the worker: what is not committed is not done."""
    async with invocation.log() as log:
        idle_looks = 0
        # Kafka shows the records of an act one by one: what was handed over may appear just after the progress.
        while idle_looks < IDLE_LOOKS:
            idle_looks = 0 if await patiently(lambda: waiting(log, tasks)) else idle_looks + 1
            await asyncio.sleep(IDLE_LOOK_SECONDS)


async def waiting(log: EventLog, tasks: Sequence[Task[Any, Any]]) -> int:
    """Events that the tasks' groups have not resolved; a partition that no group has touched yet counts as one."""
    from penstock.log.unresolved import unresolved

    count = 0
    for task in tasks:
        for topic in task.topics:
            done = await log.committed(task.group, topic)
            for partition, kept in (await log.bounds(topic)).items():
                known = done.get(partition)
                count += (await unresolved(log, partition, known, kept))[0] if known else 1
    return count
