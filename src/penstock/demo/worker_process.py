"""A worker of the demo, as a process of its own: settings come on stdin, and its end is the end of the demo.

demo → [worker_process] → wiring → worker
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.demo.names import REFERENCES, task_of
from penstock.errors import PenstockError, UserError
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.worker import Worker

FAILED, MISTAKE = 1, 2
ORPHAN_SECONDS = 2.0


async def work(settings: Settings, reference: str, slot: str, prefix: str = "") -> None:
    """Answer events until SIGTERM, or until the demo is gone."""
    from penstock.wiring import build_worker, open_log  # noqa: PLC0415 - after logging is set up

    others = sum(task.weight for task in map(task_of, REFERENCES.values()) if task.name != task_of(reference).name)
    settings = settings.model_copy(update={"fleet": replace(settings.fleet, weight_of_others=others)})
    worker = build_worker(settings, [task_of(reference, prefix)], open_log(settings), slot=slot)
    _end_with_parent(asyncio.get_running_loop(), worker)
    await worker.run()


def _end_with_parent(loop: asyncio.AbstractEventLoop, worker: Worker[Any]) -> None:
    """The demo holds the other end of stdin: when it dies, by whatever death, we read its end."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(worker.stop)
        # The offline Claude died with the demo: what waits for its answer waits in vain.
        threading.Event().wait(ORPHAN_SECONDS)
        os._exit(FAILED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main(arguments: list[str]) -> int:
    """Exit code 0 after SIGTERM, 1 where it could not go on, 2 for a mistake of the user's."""
    reference, slot, *prefix = arguments
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    given = bytearray()
    while not given.endswith(b"\n") and (part := os.read(0, 65_536)):
        given += part
    try:
        settings = Settings.model_validate_json(bytes(given))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(work(settings, reference, slot, *prefix))
    except PenstockError as error:
        sys.stderr.write(f"error: {error}\n")
        return MISTAKE if isinstance(error, UserError) else FAILED
    return 0


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
