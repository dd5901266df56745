"""How somebody ends the demo: Ctrl-C, SIGTERM, a closed terminal.

terminal → [ending] → run
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Interruption:
    """The first signal asks for a clean stop, the second calls `on_second`. Takes the signals while it is entered."""

    def __init__(self) -> None:
        self.on_second: Callable[[], None] | None = None
        self.is_urgent = False
        """Somebody has asked twice."""
        self._event = asyncio.Event()
        self._taken: list[signal.Signals] = []

    @property
    def happened(self) -> bool:
        """Whether anybody wants the end."""
        return self._event.is_set()

    async def wait(self, seconds: float) -> None:
        """Sleep, unless it happens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None:
                loop.add_signal_handler(number, self._happen, number)
                self._taken.append(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._taken:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _happen(self, number: signal.Signals) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _forget_terminal()
        if self._event.is_set():
            self.is_urgent = True
            if self.on_second is not None:
                self.on_second()
        self._event.set()


def _forget_terminal() -> None:
    """Nobody reads any more; a write to a terminal that is gone would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
