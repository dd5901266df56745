"""What the committer has done on the consumer's thread: committing progress without a transaction is a consumer's call.

committer → [errands] → consumer's thread
"""

from __future__ import annotations

from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from penstock.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor


class Errands:
    """Calls for the consumer's thread. It serves them between its own, and also while it waits for the listener."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._calls: SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = SimpleQueue()

    def run(self, call: Callable[[], None]) -> None:
        """From any other thread: returns or raises what the call did there."""
        done: Future[None] = Future()
        self._calls.put((call, done))
        try:
            self._thread.submit(self.serve)
        except RuntimeError as error:  # the thread is shut down
            raise LogError("this consumer is closed") from error
        done.result()

    def serve(self, wait_seconds: float = 0.0) -> None:
        """Do what waits; without any, wait so long for the first or for a nudge."""
        try:
            errand = self._calls.get(block=wait_seconds > 0, timeout=wait_seconds or None)
            while True:
                if errand is not None:
                    _do(*errand)
                errand = self._calls.get_nowait()
        except Empty:
            return

    def nudge(self) -> None:
        """Whoever waits in `serve` looks up."""
        self._calls.put(None)


def _do(call: Callable[[], None], done: Future[None]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whoever asked for it is told
        done.set_exception(error)
    else:
        done.set_result(None)
