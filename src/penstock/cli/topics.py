"""`penstock topics`: make and list topics.

terminal → [topics] → log
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import emit, out, table, tell
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.log.base import TopicInfo, TopicSpec

app = typer.Typer(help="Make and list topics.", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
DAY_MS = 24 * 3600 * 1000


@app.command("create")
@command
def create(
    invocation: Invocation,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Topics to make.")] = None,
    *,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="MODULE:TASK",
            help="Every topic this task needs. Repeatable.",
            autocompletion=complete_tasks,
        ),
    ] = None,
    partitions: Annotated[int, typer.Option(help="How many workers may share a topic at most.", min=1)] = 12,
    retention_days: Annotated[
        float,
        typer.Option("--retention-days", help="How long records of the named topics are kept; 0 for ever.", min=0),
    ] = 7,
    is_compacted: Annotated[bool, typer.Option("--compacted", help="Keep the last record of each key only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per topic.")] = False,
) -> None:
    """Make topics. One that exists is left as it is."""
    specs = _named_specs(names or [], partitions, retention_days, is_compacted=is_compacted)
    if tasks:
        from penstock.cli.loading import load_tasks
        from penstock.wiring import topic_specs

        specs += [spec for task in load_tasks(tasks) for spec in topic_specs(task, partitions)]
    if not specs:
        raise SettingsError("which topics? name them, or give --task MODULE:TASK for all that a task needs")
    for spec in specs:
        if not _NAME.fullmatch(spec.name) or spec.name in (".", ".."):
            raise SettingsError(f"{spec.name!r} is no topic name: use letters, digits, '.', '_', '-', at most 249")
    specs = list({spec.name: spec for spec in specs}.values())
    made = run_async(_create(invocation, specs))
    for spec in specs:
        if as_json:
            emit({"topic": spec.name, "created": spec.name in made})
        elif not invocation.is_quiet:
            tell(f"{'made' if spec.name in made else 'was there'}: {spec.name}")


async def _create(invocation: Invocation, specs: list[TopicSpec]) -> list[str]:
    async with invocation.log(makes_file=True) as log:
        return await log.create_topics(specs)


def _named_specs(
    names: Iterable[str], partitions: int, retention_days: float, *, is_compacted: bool
) -> list[TopicSpec]:
    from penstock.log.base import TopicSpec

    kept = retention_ms(retention_days)
    return [TopicSpec(name, partitions, None if is_compacted else kept, is_compacted) for name in dict.fromkeys(names)]


def retention_ms(days: float) -> int | None:
    """0 days mean: kept for ever."""
    return int(days * DAY_MS) or None


@app.command("list")
@command
def list_topics(
    invocation: Invocation,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per topic.")] = False,
) -> None:
    """List topics with their partitions and how many offsets they hold."""
    found = run_async(_list(invocation))
    if as_json:
        for info, held in found:
            emit(
                {
                    "topic": info.name,
                    "id": info.id,
                    "partitions": info.partitions,
                    "offsets": held,
                    "compacted": info.is_compacted,
                }
            )
        return
    if not found:
        tell(f"no topics in {invocation.settings.log}: make some with `penstock topics create --task MODULE:TASK`")
        return
    shown = table("topic", "partitions", "offsets", "kept", right=("partitions", "offsets"))
    for info, held in found:
        shown.add_row(info.name, str(info.partitions), f"{held:,}", "last of a key" if info.is_compacted else "by time")
    out().print(shown)


async def _list(invocation: Invocation) -> list[tuple[TopicInfo, int]]:
    async with invocation.log() as log:
        found = []
        for info in sorted((await log.topics()).values(), key=lambda info: info.name):
            bounds = await log.bounds(info.name)
            found.append((info, sum(kept.high - kept.low for kept in bounds.values())))
        return found
