"""The list of commands.

terminal → [app] → one command
"""

from __future__ import annotations

import typer

from penstock.cli import config, demo, init, produce, run, simulate, status, tail, topics, try_one, version
from penstock.cli.failures import settle

app = typer.Typer(
    name="penstock",
    help="Run a Claude task over every event of a topic: in real time, inside limits and a budget, "
    "nothing lost, nothing paid twice.",
    epilog="Exit codes: 0 done · 1 failed · 2 wrong usage or settings · 3 a check failed · 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

START, WORK, LOOK = "Start here", "Work", "Look"

app.command("demo", rich_help_panel=START)(demo.demo)
app.command("init", rich_help_panel=START)(init.init)
app.command("try", rich_help_panel=START)(try_one.try_one)
app.command("run", rich_help_panel=WORK)(run.run)
app.command("produce", rich_help_panel=WORK)(produce.produce)
app.add_typer(topics.app, name="topics", rich_help_panel=WORK)
app.command("simulate", rich_help_panel=WORK)(simulate.simulate)
app.command("status", rich_help_panel=LOOK)(status.status)
app.command("tail", rich_help_panel=LOOK)(tail.tail)
app.add_typer(config.app, name="config", rich_help_panel=LOOK)
app.command("version", rich_help_panel=LOOK)(version.version)


@app.callback(invoke_without_command=True)
def _root(
    *, shows_version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True)
) -> None:
    if shows_version:
        version.print_version()
        raise typer.Exit


def main() -> None:
    """The console script."""
    try:
        app(prog_name="penstock")
    except KeyboardInterrupt as error:
        raise SystemExit(settle(error)) from None
