"""`penstock topics`: make and list topics.

terminal → [topics] → log
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import emit, out, table, tell
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.log.base import TopicInfo, TopicSpec
    from penstock.log.topics import Fault, Uses
    from penstock.settings import Settings

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
    partitions: Annotated[
        int | None,
        typer.Option(
            help="How many workers may share a topic at most; 12 unless given. A task's retry topic gets a quarter.",
            min=1,
        ),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(help="On Kafka: copies of each partition; the brokers' default unless given.", min=1),
    ] = None,
    retention_days: Annotated[
        float,
        typer.Option("--retention-days", help="How long records of the named topics are kept; 0 for ever.", min=0),
    ] = 7,
    is_compacted: Annotated[bool, typer.Option("--compacted", help="Keep the last record of each key only.")] = False,
    more: Annotated[
        list[str] | None,
        typer.Option("--topic-config", metavar="NAME=VALUE", help="On Kafka: another setting of them. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per topic.")] = False,
) -> None:
    """Make topics. One that exists is left as it is."""
    from penstock.log.topics import Uses, uses_of

    settings = _with_replication(invocation.settings, replication, more)
    specs = _named_specs(names or [], partitions, retention_days, is_compacted=is_compacted)
    uses = {spec.name: Uses() for spec in specs}
    if tasks:
        from penstock.cli.loading import load_tasks
        from penstock.log.topics import PARTITIONS, topic_specs

        loaded = load_tasks(tasks)
        specs += [spec for task in loaded for spec in topic_specs(task, partitions or PARTITIONS)]
        uses |= uses_of(loaded)
    if not specs:
        raise SettingsError("which topics? name them, or give --task MODULE:TASK for all that a task needs")
    for spec in specs:
        if not _NAME.fullmatch(spec.name) or spec.name in (".", ".."):
            raise SettingsError(f"{spec.name!r} is no topic name: use letters, digits, '.', '_', '-', at most 249")
    specs = list({spec.name: replace(spec, settings=_pairs(more or [])) for spec in specs}.values())
    made, remarks = run_async(_create(settings, specs, uses))
    for spec in specs:
        if as_json:
            emit({"topic": spec.name, "created": spec.name in made})
        elif not invocation.is_quiet:
            tell(f"{'made' if spec.name in made else 'was there'}: {spec.name}")
    for remark in remarks:
        tell(f"warning: {remark}")


def _with_replication(settings: Settings, replication: int | None, more: list[str] | None) -> Settings:
    from penstock.settings import SqliteAddress

    if isinstance(settings.log_address, SqliteAddress):
        if replication is not None or more:
            option = "--replication" if replication is not None else "--topic-config"
            raise SettingsError(
                f"{option} is for Kafka, and the log is {settings.log}: leave it out, or give --log kafka:…"
            )
        return settings
    if replication is None:
        return settings
    return settings.model_copy(update={"kafka_log": replace(settings.kafka_log, replication_factor=replication)})


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise SettingsError(f"--topic-config {name!r}: write NAME=VALUE, as in min.insync.replicas=2")
    return {name: value for name, _, value in pairs}


async def _create(
    settings: Settings, specs: list[TopicSpec], uses: Mapping[str, Uses]
) -> tuple[list[str], list[Fault]]:
    from penstock.settings import KafkaAddress
    from penstock.wiring import open_log

    log = open_log(settings)
    try:
        made = await log.create_topics(specs)
    finally:
        await log.close()
    if not isinstance(settings.log_address, KafkaAddress):
        return made, []
    from penstock.doctor.topics import faults_on_cluster

    return made, await faults_on_cluster(settings, uses)


def _named_specs(
    names: Iterable[str], partitions: int | None, retention_days: float, *, is_compacted: bool
) -> list[TopicSpec]:
    from penstock.log.base import TopicSpec
    from penstock.log.topics import PARTITIONS, retry_partitions, state_spec

    def usual(name: str) -> int:  # a worker that lacks its retry topic says: make it by name
        return retry_partitions(PARTITIONS) if name.endswith(".retry") else PARTITIONS

    kept = retention_ms(retention_days)
    state = state_spec()
    return [
        state  # only one shape of it works
        if name == state.name
        else TopicSpec(name, partitions or usual(name), None if is_compacted else kept, is_compacted)
        for name in dict.fromkeys(names)
    ]


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
    from penstock.log.topics import kept

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
                    "replicas": info.replicas or None,
                }
            )
        return
    if not found:
        tell(f"no topics in {invocation.settings.log}: make some with `penstock topics create --task MODULE:TASK`")
        return
    shown = table("topic", "partitions", "replicas", "offsets", "kept", right=("partitions", "replicas", "offsets"))
    for info, held in found:
        shown.add_row(info.name, str(info.partitions), str(info.replicas or "-"), f"{held:,}", kept(info))
    out().print(shown)


async def _list(invocation: Invocation) -> list[tuple[TopicInfo, int]]:
    async with invocation.log() as log:
        found = []
        for info in sorted((await log.topics()).values(), key=lambda info: info.name):
            bounds = await log.bounds(info.name)
            found.append((info, sum(kept.high - kept.low for kept in bounds.values())))
        return found
