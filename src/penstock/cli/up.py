"""`penstock up`: workers, sinks and the gateway of one machine in one process tree.

terminal → [up] → tree → run, deliver, serve
"""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import tell
from penstock.errors import BudgetSpent, SettingsError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.settings import Settings
    from penstock.tree import Role

MOST_WORKERS = 64
LAST_PORT = 65_535


@command
def up(
    invocation: Invocation,
    references: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:TASK...", help="module:name, file.py:name.", autocompletion=complete_tasks),
    ],
    *,
    workers: Annotated[int, typer.Option(help="Processes that answer events.", min=1, max=MOST_WORKERS)] = 1,
    sinks: Annotated[
        list[str] | None,
        typer.Option("--sink", metavar="SINK", help="Deliver to this sink. Repeatable; deliver.sinks unless given."),
    ] = None,
    has_gateway: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Take events over HTTP.")] = True,
    says_yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer a long backlog without asking.")] = False,
    is_simulated: Annotated[
        bool, typer.Option("--simulated", help="Made-up answers of the offline simulator: no key, no cost.")
    ] = False,
) -> None:
    """Everything on one machine: answer, deliver and take events over HTTP, until Ctrl-C or SIGTERM."""
    from penstock.cli.answering import answering

    settings = invocation.settings
    wanted = list(dict.fromkeys(sinks or settings.deliver.sinks))
    _check(invocation, references, wanted, says_yes=says_yes or is_simulated, is_simulated=is_simulated)
    with answering(settings, is_simulated=is_simulated) as answers:
        if is_simulated and not invocation.is_quiet:
            refused = wanted and settings.deliver.simulated != "deliver"
            tell(
                "SIMULATED: an offline stand-in answers; results are marked simulated"
                + (", and sinks refuse them unless deliver.simulated=deliver" if refused else "")
            )
        claude = answers.settings.claude
        offline = [f"claude.base_url={claude.base_url}", "claude.api_key=offline"] if is_simulated else []
        roles = [
            *(worker_roles(invocation, references, workers, offline)),
            *(sink_roles(invocation, references, wanted, after=workers)),
            *([gateway_role(invocation, references)] if has_gateway else []),
        ]
        run_async(_run(invocation, roles))


def _check(
    invocation: Invocation, references: Sequence[str], sinks: Sequence[str], *, says_yes: bool, is_simulated: bool
) -> None:
    """What can be known to go wrong is told once, before there are processes that would each say it."""
    from penstock.cli.answering import need_credentials
    from penstock.cli.loading import load_tasks
    from penstock.cli.loading_sinks import load_sinks
    from penstock.cli.run import check_start, patiently, start_logging
    from penstock.wiring import with_codec

    settings = invocation.settings
    tasks = [with_codec(settings, task) for task in load_tasks(references, policy=settings.policy)]
    if not is_simulated and any(isinstance(step.tier, str) for task in tasks for step in task.route.steps):
        need_credentials(settings)
    load_sinks(settings, sinks, tasks)
    start_logging(is_quiet=invocation.is_quiet)
    run_async(patiently(lambda: check_start(invocation, tasks, says_yes=says_yes)))


async def _run(invocation: Invocation, roles: Sequence[Role]) -> None:
    from penstock.tree import BUDGET_SPENT, MISTAKE, RoleEnded, Tree

    width = max(len(role.name) for role in roles)

    def hear(name: str, text: str) -> None:
        tell(f"{name:<{width}} | {text}")

    def warn(text: str) -> None:
        hear("up", text)

    def say(text: str) -> None:
        if not invocation.is_quiet:
            warn(text)

    try:
        await Tree(roles, say, hear, warn=warn).run()
    except RoleEnded as ended:
        kinds: dict[int, type[Exception]] = {MISTAKE: UserError, BUDGET_SPENT: BudgetSpent}
        raise kinds[ended.code](str(ended)) from None


def worker_roles(
    invocation: Invocation, references: Sequence[str], count: int, assignments: Sequence[str]
) -> list[Role]:
    """Each runs all tasks, under a name that its successor bears too."""
    from penstock.tree import WORK

    settings = invocation.settings
    names = ["worker"] if count == 1 else [f"worker-{n}" for n in range(1, count + 1)]
    run = uuid.uuid4().hex[:8]
    return [
        _role(
            invocation, name, ["run", *references, "--yes"],
            [*_slot(settings, name, run), *_ops(settings, n), *assignments], WORK, settings.drain_seconds,
        )
        for n, name in enumerate(names)
    ]  # fmt: skip


def sink_roles(invocation: Invocation, references: Sequence[str], sinks: Sequence[str], *, after: int) -> list[Role]:
    """A process per sink: what ends one ends no other."""
    from penstock.tree import DELIVER

    settings = invocation.settings
    tasks = [part for reference in references for part in ("--task", reference)]
    run = uuid.uuid4().hex[:8]
    return [
        _role(
            invocation, name, ["deliver", name, *tasks],
            [*_slot(settings, name, run), *_ops(settings, after + n)], DELIVER, settings.deliver.drain_seconds,
        )
        for n, name in enumerate(sinks)
    ]  # fmt: skip


def gateway_role(invocation: Invocation, references: Sequence[str]) -> Role:
    """One: several would want several ports."""
    from penstock.tree import TAKE

    return _role(invocation, "gateway", ["serve", *references], [], TAKE, invocation.settings.gateway.drain_seconds)


def _role(
    invocation: Invocation,
    name: str,
    command: Sequence[str],
    assignments: Sequence[str],
    stage: int,
    drain_seconds: float,
) -> Role:
    from penstock.tree import Role, TreeOptions

    limit_seconds = drain_seconds + TreeOptions().kill_seconds
    settings = [part for one in assignments for part in ("-X", one)]
    child = [sys.executable, "-P", "-m", "penstock.cli.role", str(limit_seconds), *command]
    return Role(name, (*child, *invocation.arguments(), *settings), stage, drain_seconds)


def _slot(settings: Settings, name: str, run: str) -> list[str]:
    """The successor of one that died frees at once what it held. Without a name of the machine's, that of this start."""
    if settings.slot:
        return [f"slot={settings.slot}.{name}"]
    return [] if settings.kafka_log.static_membership else [f"slot={run}.{name}"]


def _ops(settings: Settings, number: int) -> list[str]:
    """A port that was chosen is the first one's, and the others have those after it."""
    port = settings.ops.port
    if not isinstance(port, int) or port == 0:
        return []
    if port + number > LAST_PORT:
        raise SettingsError(f"ops.port={port}: the roles need {number + 1} ports from there on; choose a lower one")
    return [f"ops.port={port + number}"]
