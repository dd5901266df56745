"""`penstock demo`: the whole system on this machine, nothing to set up; or on a cluster, in topics of its own.

terminal → [demo] → penstock.demo
"""

from __future__ import annotations

import os
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.settings import Settings


@command
def demo(
    invocation: Invocation,
    *,
    input_file: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE|-", help="Your own events: JSON lines, .gz, or - for stdin."),
    ] = None,
    events: Annotated[
        int | None, typer.Option(help="Events of a new day (3000 unless given); of an input at most so many.", min=1)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="How long it lasts: a day 60, an input as fast as it is taken unless given.", min=0),
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes per task.", min=1, max=12)] = 1,
    kills: Annotated[bool, typer.Option("--kill", help="kill -9 a worker every few seconds.")] = False,
    is_live: Annotated[
        bool, typer.Option("--live", help="Ask the real Claude API; this costs money up to the ceiling.")
    ] = False,
    ceiling_usd: Annotated[
        float | None, typer.Option("--ceiling-usd", help="With --live: dollars to spend at most ($1 unless given).")
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="On this cluster, in topics of its own, instead of the embedded log."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Where the demo keeps its log; the next run goes on there.", show_default=False),
    ] = None,
    stays: Annotated[
        bool | None,
        typer.Option(
            "--stay/--no-stay",
            help="Run on after a finished day, for events of your own, until Ctrl-C. On a terminal unless --quiet.",
            show_default=False,
        ),
    ] = None,
    is_plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of a live picture.")] = False,
) -> None:
    """Show the whole system at work: log, gateway, two tasks, offline Claude, database, webhook, Slack; nothing to set up.

    Ctrl-C stops cleanly and the next run goes on; after a finished day comes the next one.
    """
    _check(is_live=is_live, kills=kills, ceiling_usd=ceiling_usd, is_timed_stdin=input_file == "-" and bool(seconds))
    brokers = _brokers(invocation, kafka)
    if is_live:
        _need_key(invocation.settings)
    from penstock.demo.lines import Lines
    from penstock.demo.options import CEILING_USD, DIRECTORY, KAFKA_DIRECTORY, DemoOptions
    from penstock.demo.run import run

    with nullcontext() if input_file is None else closing(Lines(input_file)) as lines:
        options = DemoOptions(
            settings=invocation.settings,
            input=lines,
            events=events,
            seconds=seconds,
            workers=workers,
            kills=kills,
            is_live=is_live,
            ceiling_usd=ceiling_usd or CEILING_USD,
            directory=directory or (KAFKA_DIRECTORY if brokers else DIRECTORY),
            kafka=brokers,
            stays=sys.stdout.isatty() and not invocation.is_quiet if stays is None else stays,
            is_plain=is_plain,
            is_quiet=invocation.is_quiet,
        )
        raise typer.Exit(run_async(run(options)))


def _check(*, is_live: bool, kills: bool, ceiling_usd: float | None, is_timed_stdin: bool) -> None:
    if is_timed_stdin:
        raise SettingsError("--seconds with --input -: nobody knows how many events will come; leave --seconds out")
    if ceiling_usd is not None and ceiling_usd <= 0:
        raise SettingsError(f"--ceiling-usd {ceiling_usd}: dollars, more than 0")
    if ceiling_usd is not None and not is_live:
        raise SettingsError("--ceiling-usd is for --live: the offline Claude costs nothing")
    if is_live and kills:
        raise SettingsError("--kill with --live would pay for answers that nobody reads: leave one of them out")


def _brokers(invocation: Invocation, kafka: str | None) -> str:
    from penstock.settings import KafkaAddress, parse_log

    if invocation.loaded.origin("log") == "command line":
        raise SettingsError(
            "the demo keeps a log of its own: --kafka HOST:PORT for a cluster, --dir DIR for a directory"
        )
    if kafka is None:
        return ""
    try:
        address = parse_log(f"kafka:{kafka.removeprefix('kafka:')}")
    except ValueError:
        raise SettingsError(f"--kafka {kafka!r}: write HOST:PORT[,HOST:PORT]") from None
    assert isinstance(address, KafkaAddress)
    return address.brokers


def _need_key(settings: Settings) -> None:
    if not (settings.claude.api_key or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        raise SettingsError(
            "--live asks the real API and finds no key: set ANTHROPIC_API_KEY, PENSTOCK_CLAUDE__API_KEY or "
            "PENSTOCK_CLAUDE__API_KEY_FILE (setting claude.api_key), or leave --live out"
        )
