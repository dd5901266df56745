"""How a command ends: an exit code and one clear text, never a traceback for a user's mistake.

exception → [failures] → exit code
"""

from __future__ import annotations

import errno
import os
import sys

from penstock.cli.console import complain, tell
from penstock.errors import BudgetSpent, PenstockError, UserError

OK, FAILED, USAGE, CHECK_FAILED, BUDGET_SPENT, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Documented in docs/reference/cli.md."""

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted",
    errno.ENOENT: "no such file or directory",
    errno.EISDIR: "this is a directory",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EADDRINUSE: "the address is in use: choose another port",
}


class CheckFailed(PenstockError):
    """The command did its work, and what it checked is not as it should be."""


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (CheckFailed, CHECK_FAILED),
    (BudgetSpent, BUDGET_SPENT),
    (UserError, USAGE),
)


def settle(error: BaseException) -> int:
    """Say what happened and return the exit code."""
    if isinstance(error, BaseExceptionGroup):
        return max(settle(inner) for inner in error.exceptions)
    if isinstance(error, KeyboardInterrupt):
        tell("interrupted")
        return INTERRUPTED
    complain(_text_of(error))
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def _text_of(error: BaseException) -> str:
    if isinstance(error, PenstockError):
        return str(error)
    if isinstance(error, OSError):
        return explain_os_error(error)
    return (
        f"{type(error).__name__}: {error}\nThis was not foreseen. Run it again with --debug and report what it prints."
    )


def explain_os_error(error: OSError) -> str:
    """The file or address, and the reason in plain words."""
    reason = _DISK.get(error.errno or 0) or error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def hush_stdout() -> None:
    """Whoever read our output has gone (`| head`): the interpreter's last flush must not complain."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)
