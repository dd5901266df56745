"""What the shell offers after <Tab>. Quick and silent: nothing is imported that a user wrote, nothing fails aloud.

shell → [completion]
"""

from __future__ import annotations

from pathlib import Path


def complete_tasks(incomplete: str) -> list[str]:
    """`MODULE:TASK` of the files in the current directory."""
    from penstock.cli.loading import declared_tasks

    return [reference for reference in declared_tasks(Path.cwd()) if reference.startswith(incomplete)]


def complete_topics(incomplete: str) -> list[str]:
    """Topics of the embedded log; a cluster may be far away, and <Tab> must not wait for it."""
    from penstock.cli.command import Invocation, run_async
    from penstock.errors import PenstockError
    from penstock.settings import SqliteAddress

    async def names(invocation: Invocation) -> list[str]:
        async with invocation.log() as log:
            return list(await log.topics())

    try:
        invocation = Invocation()
        address = invocation.settings.log_address
        if not isinstance(address, SqliteAddress) or not address.path.exists():
            return []
        return sorted(name for name in run_async(names(invocation)) if name.startswith(incomplete))
    except (PenstockError, OSError):
        return []  # the command itself will say what is wrong
