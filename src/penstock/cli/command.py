"""What all commands share: the options for settings, and an end without a traceback.

terminal → [command] → settings, log → what the command does
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from penstock.cli.completion import complete_tasks
from penstock.cli.failures import hush_stdout, settle
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.settings import LoadedSettings, Settings

PANEL = "Settings and output"
T = TypeVar("T")
TasksOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="MODULE:TASK",
        help="Whose results and dead letters. Repeatable; deliver.tasks unless given.",
        autocompletion=complete_tasks,
    ),
]
"""For commands about sinks."""


class Invocation:
    """One call of one command: where its settings come from, and how loud it is."""

    def __init__(
        self,
        config: Path | None = None,
        log: str | None = None,
        settings: list[str] | None = None,
        *,
        is_quiet: bool = False,
    ) -> None:
        self.is_quiet = is_quiet
        self._config = config
        self._assignments = [*(settings or []), *([f"log={log}"] if log else [])]

    def arguments(self) -> list[str]:
        """The same settings and the same quiet for a child process."""
        config = ["--config", str(self._config)] if self._config else []
        return [*config, *(p for one in self._assignments for p in ("-X", one)), *["--quiet"][: self.is_quiet]]

    @functools.cached_property
    def loaded(self) -> LoadedSettings:
        """The settings and where each came from."""
        from penstock.settings import load_settings

        return load_settings(self._config, self._assignments)

    @property
    def settings(self) -> Settings:
        """All settings, checked."""
        return self.loaded.settings

    @asynccontextmanager
    async def log(self, *, makes_file: bool = False) -> AsyncIterator[EventLog]:
        """The log of these settings, closed at the end. Looking at an embedded log must not make one."""
        from penstock.settings import SqliteAddress
        from penstock.wiring import open_log

        address = self.settings.log_address
        if not makes_file and isinstance(address, SqliteAddress) and not address.path.exists():
            raise SettingsError(
                f"there is no log {address.path} (setting log, {self.loaded.origin('log')}): "
                "make topics first, as with `penstock topics create --task MODULE:TASK`"
            )
        log = open_log(self.settings)
        try:
            yield log
        finally:
            await log.close()

    @property
    def shows_progress(self) -> bool:
        """Whether a person watches stderr and wants to."""
        return sys.stderr.isatty() and not self.is_quiet


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on the fastest event loop there is."""
    import asyncio

    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):  # there is none on Windows
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


_Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file instead of ./penstock.toml.", rich_help_panel=PANEL),
]
_Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="LOG",
        help="The log: sqlite:FILE or kafka:HOST:PORT[,HOST:PORT].",
        rich_help_panel=PANEL,
    ),
]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-X",
        metavar="NAME=VALUE",
        help="Any setting, e.g. -X spend.day_usd=5. Repeatable.",
        rich_help_panel=PANEL,
    ),
]
_Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no hints on stderr.", rich_help_panel=PANEL)
]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=PANEL)]

_SETTINGS = {"config": (_Config, None), "log": (_Log, None), "settings": (_Set, None)}
_OUTPUT = {"quiet": (_Quiet, False), "debug": (_Debug, False)}


def command(body: Callable[..., None]) -> Callable[..., None]:
    """Make a command of `body(invocation, …)`: it takes the shared options as well, and errors become exit codes."""
    shared = {**_SETTINGS, **_OUTPUT}
    own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in shared.items()
    ]

    def run(*, config: Path | None, log: str | None, settings: list[str] | None, quiet: bool, debug: bool, **rest: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202
        invocation = Invocation(config, log, settings, is_quiet=quiet)
        finish(functools.partial(body, invocation, **rest), is_debug=debug)

    run.__name__, run.__doc__, run.__module__ = body.__name__, body.__doc__, body.__module__
    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *added]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def finish(action: Callable[[], None], *, is_debug: bool) -> None:
    """Do it and flush what was printed; whatever goes wrong ends in one text and an exit code."""
    try:
        action()
        sys.stdout.flush()
    except typer.Exit:
        raise
    except BrokenPipeError:
        hush_stdout()
    except BaseException as error:
        if is_debug or isinstance(error, SystemExit):
            raise
        raise typer.Exit(settle(error)) from None
