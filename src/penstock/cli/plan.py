"""`penstock plan`: what answering will cost, how long it takes and what binds, before anything is spent.

topic or file → [plan] → terminal
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import emit_page
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.planning.known import Known
    from penstock.planning.sample import Sample
    from penstock.record import Record
    from penstock.settings import Settings
    from penstock.task import Task

MOST_SAMPLE = 100_000
MOST_RATE = 10_000_000.0
MOST_EVENTS = 10**12
DEFAULT_PARTITIONS = 12
"""As `penstock topics create` makes them."""
LOOKS = "What is looked at"
SAID = "What you know better"


class Source(NamedTuple):
    """The events that a plan is for."""

    events: int
    partitions: int
    records: list[Record]
    told: str


_Reference = Annotated[
    str, typer.Argument(metavar="MODULE:TASK", help="module:name, file.py:name.", autocompletion=complete_tasks)
]
_Topic = Annotated[
    str, typer.Option("--topic", "-t", help="Another topic than the task reads, all of it.", rich_help_panel=LOOKS)
]
_File = Annotated[
    str,
    typer.Option(
        "--file", "-f", metavar="FILE|-", help="JSON lines instead of a topic, also .gz.", rich_help_panel=LOOKS
    ),
]
_Sample = Annotated[
    int, typer.Option("--sample", "-n", help="Events to look at.", min=1, max=MOST_SAMPLE, rich_help_panel=LOOKS)
]
_Asks = Annotated[
    bool,
    typer.Option(
        "--ask", help="Ask the API about some of them: measures replies and limits, costs cents.", rich_help_panel=LOOKS
    ),
]
_Events = Annotated[
    int | None,
    typer.Option(help="So many events, instead of those that wait.", min=0, max=MOST_EVENTS, rich_help_panel=SAID),
]
_Rate = Annotated[float, typer.Option(help="Events that come per second.", min=0, max=MOST_RATE, rich_help_panel=SAID)]
_Workers = Annotated[int, typer.Option(help="Processes of `penstock run`.", min=1, max=10_000, rich_help_panel=SAID)]
_Partitions = Annotated[
    int | None, typer.Option(help="Of the topic, where there is none yet.", min=1, max=100_000, rich_help_panel=SAID)
]
_Account = Annotated[str, typer.Option(help="Account class: start, build or scale.", rich_help_panel=SAID)]
_Share = Annotated[
    float,
    typer.Option(help="Part of the account's limits that this task gets.", min=0.0, max=1.0, rich_help_panel=SAID),
]
_Mix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEP=SHARE", help="Part of all events that a step answers. Repeatable.", rich_help_panel=SAID
    ),
]
_Budget = Annotated[float | None, typer.Option(help="Dollars there are for it.", min=0.0, rich_help_panel=SAID)]


@command
def plan(
    invocation: Invocation,
    reference: _Reference,
    *,
    topic: _Topic = "",
    file: _File = "",
    sample: _Sample = 2_000,
    asks: _Asks = False,
    events: _Events = None,
    rate: _Rate = 0.0,
    workers: _Workers = 1,
    partitions: _Partitions = None,
    account: _Account = "",
    share: _Share = 1.0,
    mix: _Mix = None,
    budget: _Budget = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what a task will cost, how fast it can go and what binds, from a sample of its events. Spends nothing without --ask."""
    from penstock.claude.accounts import account_of
    from penstock.cli.loading import load_tasks
    from penstock.cli.planned import as_object, show
    from penstock.planning.known import answers_of, read_mix
    from penstock.planning.plan import make_plan
    from penstock.planning.sample import sample_of
    from penstock.wiring import with_codec

    if topic and file:
        raise SettingsError("--topic and --file exclude each other")
    _check(share=share, budget=budget, rate=rate)
    settings = invocation.settings
    chosen = account_of(account) if account else None
    (loaded,) = load_tasks([reference], policy=settings.policy)
    task = with_codec(settings, loaded)
    source, known = run_async(_look(invocation, task, topic=topic, file=file, most=sample))
    looked = sample_of(task, source.records)
    _need_events(looked, file or topic or task.reads, is_file=bool(file))
    if asks:
        known = run_async(_ask(settings, task, looked, known))
    if mix:
        steps = [step.name for step in task.route.steps]
        known.answers, known.answers_from = answers_of(read_mix(mix, steps), steps), "--mix"
    made = make_plan(
        settings,
        task,
        looked,
        known,
        source.events if events is None else events,
        partitions=partitions or source.partitions,
        workers=workers,
        account=chosen,
        account_share=share,
        arrival_per_second=rate,
        budget_usd=budget,
        notes=[source.told],
    )
    if as_json:
        emit_page(as_object(made))
    else:
        show(made)


def _check(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise SettingsError(f"--{name} {value}: write a number")
    for name in ("share", "budget"):
        if numbers[name] == 0:
            raise SettingsError(f"--{name} 0: with nothing of it nothing would ever be answered")


def _need_events(sample: Sample, place: str, *, is_file: bool) -> None:
    """A plan of nothing would be a guess with figures."""
    if sample.items:
        return
    if is_file and not sample.records:
        raise SettingsError(
            f"{'stdin' if place == '-' else place} is empty: write an event on each line, as JSON, or leave out --file to look at the topic"
        )
    if not sample.records:
        raise SettingsError(f"{place} is empty: produce some events, or plan from a file: --file events.jsonl")
    why = ", ".join(f"{count:,} {reason}" for reason, count in sample.unasked.most_common())
    raise SettingsError(
        f"none of the {sample.records:,} events looked at in {place} would be asked about ({why})"
        + (f": {sample.example}" if sample.example else "")
    )


async def _look(
    invocation: Invocation, task: Task[Any, Any], *, topic: str, file: str, most: int
) -> tuple[Source, Known]:
    """A sample of the events, and what earlier results tell."""
    from penstock.flow.backlog import measure
    from penstock.planning.known import Known
    from penstock.planning.measured import measured
    from penstock.planning.steps import prompts_of
    from penstock.wiring import check_codecs

    await check_codecs([task])
    if file:
        return _from_file(task, file, most), Known()
    async with invocation.log() as log:
        backlog = await measure(log, task, topic=topic, sample=most, takes_past=True)
        known = await measured(log, task, prompts_of(invocation.settings, task))
    name = topic or task.reads
    waits = f"{backlog.events:,} events stand in {name}" if topic else f"{backlog.events:,} events wait in {name}"
    if backlog.is_past:
        waits = f"nothing waits in {name}: the sample is of what it keeps"
    told = f"{waits}; {len(backlog.sample):,} of them were looked at"
    return Source(backlog.events, backlog.partitions, backlog.sample, told), known


def _from_file(task: Task[Any, Any], file: str, most: int) -> Source:
    """All lines are counted; each has the same chance to be looked at."""
    from penstock.cli.produce import LineReader, opened
    from penstock.record import Record

    reader, dice = LineReader(task.reads, "", (), is_raw=False), random.Random(0)
    records: list[Record] = []
    events = 0
    with opened(file) as lines:
        for number, new in reader.records(lines):
            events += 1
            place = len(records) if len(records) < most else dice.randrange(events)
            if place < most:
                records[place : place + 1] = [Record(task.reads, 0, number, new.key, new.value, new.headers, 0)]
    bad = reader.produced.bad
    if bad and not events:
        raise SettingsError(f"{file} holds no JSON lines: line {bad[0].number}: {bad[0].why}")
    told = f"{events:,} events in {file}; {len(records):,} of them were looked at"
    if bad:
        told += f"; {len(bad):,} lines are no JSON and left out (the first is line {bad[0].number}: {bad[0].why})"
    return Source(events, DEFAULT_PARTITIONS, records, told)


async def _ask(settings: Settings, task: Task[Any, Any], sample: Sample, known: Known) -> Known:
    """A trial's tokens, times and limits are of now; how often a step answers is better known from many results."""
    from penstock.cli.answering import need_credentials
    from penstock.planning.trial import try_out

    need_credentials(settings, "leave out --ask to plan without any call")
    trial = await try_out(settings, task, sample)
    found = trial.known
    found.notes = [
        f"asked: {trial.events} events in {trial.calls} calls for ${trial.usd:.4f}"
        + (", answered by a simulator" if trial.is_simulated else ""),
        *([] if trial.families else ["the replies named no limits"]),
        *known.notes,
    ]
    if known.answers:
        found.answers, found.answers_from = known.answers, known.answers_from
    return found
