"""`penstock serve`: the gateway and the console in the foreground.

terminal → [serve] → wiring → web
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import tell

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.task import Task


@command
def serve(
    invocation: Invocation,
    references: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:TASK...", help="module:name, file.py:name.", autocompletion=complete_tasks),
    ],
) -> None:
    """Take events for these tasks' topics over HTTP and show what became of them, to programs and, at /console/, to people."""
    from penstock.cli.loading import load_tasks
    from penstock.cli.run import patiently, start_logging
    from penstock.wiring import prepare_topics

    settings = invocation.settings
    tasks = load_tasks(references, policy=settings.policy)
    start_logging(is_quiet=invocation.is_quiet)

    async def check() -> None:
        async with invocation.log() as log:
            await prepare_topics(settings, tasks, log)

    run_async(patiently(check))
    run_async(_serve(invocation, tasks))


async def _serve(invocation: Invocation, tasks: Sequence[Task[Any, Any]]) -> None:
    from penstock.wiring import open_log
    from penstock.wiring_web import build_gateway

    server = build_gateway(invocation.settings, tasks, open_log(invocation.settings))
    telling = asyncio.create_task(server.started.wait())
    telling.add_done_callback(
        lambda _: None if invocation.is_quiet else tell(_told(server.url, tasks, invocation.settings))
    )
    try:
        await server.run()
    finally:
        telling.cancel()


def _told(url: str, tasks: Sequence[Task[Any, Any]], settings: Settings) -> str:
    topics = list(dict.fromkeys(task.reads for task in tasks))
    pages = ["/v1/events"] if len(topics) == 1 else [f"/v1/topics/{topic}/events" for topic in topics]
    lines = [f"POST {url}{page} → {topic}" for page, topic in zip(pages, topics, strict=True)]
    if settings.console.enabled:
        lines.append(f"console: {url}/console/{_who_may_look(settings)}")
    return "\n".join([*lines, f"GET  {url}/openapi.json says the rest; Ctrl-C finishes what is in progress and stops"])


def _who_may_look(settings: Settings) -> str:
    """What is missing for a first login; nothing where somebody can."""
    from penstock.web.keys import read_keys
    from penstock.web.pages.session import SCOPE

    if settings.gateway.auth == "none" or any(SCOPE in key.scopes for key in read_keys(settings.gateway.keys_file)):
        return ""
    return f" (no key may look yet: penstock gateway key --name NAME --scope {SCOPE})"
