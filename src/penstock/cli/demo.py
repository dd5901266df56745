"""`penstock demo`: the whole system on this machine, nothing to set up.

terminal → [demo] → penstock.demo
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.errors import SettingsError


@command
def demo(
    invocation: Invocation,
    *,
    input_file: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE|-", help="Your own events: JSON lines, .gz, or - for stdin."),
    ] = None,
    events: Annotated[
        int | None, typer.Option(help="How many; a made-up day has 3,000, an input all its lines.", min=1)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long the stream lasts; a day takes 60 here.", min=0)
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes per task.", min=1, max=12)] = 1,
    kills: Annotated[bool, typer.Option("--kill", help="Kill a worker every few seconds.")] = False,
    is_live: Annotated[
        bool, typer.Option("--live", help="Ask the real Claude API; this costs money up to the ceiling.")
    ] = False,
    ceiling_usd: Annotated[
        float, typer.Option("--ceiling-usd", help="With --live: what all workers together may spend.")
    ] = 1.0,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the demo keeps its log; the next run resumes there.")
    ] = Path("penstock-demo"),
    is_plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of a live picture.")] = False,
) -> None:
    """Show the whole system at work: embedded log, offline Claude, two tasks, nothing to set up."""
    if ceiling_usd <= 0:
        raise SettingsError(f"--ceiling-usd {ceiling_usd}: dollars, more than 0")
    from penstock.demo.options import DemoOptions

    system = import_module("penstock.demo")  # it brings the picture and the processes: nothing for --help
    code: int = run_async(
        system.run(
            DemoOptions(
                settings=invocation.settings,
                input_file=input_file,
                events=events,
                seconds=seconds,
                workers=workers,
                kills=kills,
                is_live=is_live,
                ceiling_usd=ceiling_usd,
                directory=directory,
                is_plain=is_plain,
                is_quiet=invocation.is_quiet,
            )
        )
    )
    raise typer.Exit(code)
