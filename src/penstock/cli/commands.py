"""The list of commands.

terminal → [commands] → one command
"""

from __future__ import annotations

import typer

from penstock.cli import config, db, gateway, slack, topics, webhook
from penstock.cli.command import finish
from penstock.cli.deliver import deliver, redeliver
from penstock.cli.demo import demo
from penstock.cli.doctor import doctor
from penstock.cli.init import init
from penstock.cli.plan import plan
from penstock.cli.produce import produce
from penstock.cli.run import run
from penstock.cli.schema import schema
from penstock.cli.serve import serve
from penstock.cli.simulate import simulate
from penstock.cli.status import status
from penstock.cli.tail import tail
from penstock.cli.try_one import try_one
from penstock.cli.up import up
from penstock.cli.version import print_version, version

app = typer.Typer(
    name="penstock",
    help="Run a Claude task over every event of a topic: in real time, inside limits and a budget, "
    "nothing lost, nothing paid twice.",
    epilog="Exit codes: 0 done · 1 failed · 2 wrong usage or settings · 3 a check failed · 4 a ceiling stopped it · 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

START, WORK, LOOK = "Start here", "Work", "Look"

app.command("demo", rich_help_panel=START)(demo)
app.command("init", rich_help_panel=START)(init)
app.command("try", rich_help_panel=START)(try_one)
app.command("doctor", rich_help_panel=START)(doctor)
app.command("plan", rich_help_panel=START)(plan)
app.command("up", rich_help_panel=WORK)(up)
app.command("run", rich_help_panel=WORK)(run)
app.command("deliver", rich_help_panel=WORK)(deliver)
app.command("redeliver", rich_help_panel=WORK)(redeliver)
app.command("serve", rich_help_panel=WORK)(serve)
app.add_typer(gateway.app, name="gateway", rich_help_panel=WORK)
app.command("produce", rich_help_panel=WORK)(produce)
app.add_typer(topics.app, name="topics", rich_help_panel=WORK)
app.add_typer(db.app, name="db", rich_help_panel=WORK)
app.add_typer(webhook.app, name="webhook", rich_help_panel=WORK)
app.add_typer(slack.app, name="slack", rich_help_panel=WORK)
app.command("simulate", rich_help_panel=WORK)(simulate)
app.command("schema", rich_help_panel=LOOK)(schema)
app.command("status", rich_help_panel=LOOK)(status)
app.command("tail", rich_help_panel=LOOK)(tail)
app.add_typer(config.app, name="config", rich_help_panel=LOOK)
app.command("version", rich_help_panel=LOOK)(version)


@app.callback(invoke_without_command=True)
def _root(
    *, shows_version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True)
) -> None:
    if shows_version:
        finish(print_version, is_debug=False)
        raise typer.Exit


def main() -> None:
    """The console script."""
    app(prog_name="penstock")
