"""A role of the demo, as a process of its own: settings come on stdin, and its end is the end of the demo.

crew → [role_process] → wiring → worker, gateway, sinks
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from penstock.demo.names import GATEWAY, REFERENCES, SINKS, task_of, tasks_of
from penstock.errors import PenstockError, UserError
from penstock.settings import Settings

FAILED, MISTAKE = 1, 2
ORPHAN_SECONDS = 2.0


async def work(settings: Settings, reference: str, slot: str, prefix: str = "") -> None:
    """Answer events until SIGTERM, or until the demo is gone."""
    from penstock.wiring import build_worker, open_log  # noqa: PLC0415 - after logging is set up

    others = sum(task.weight for task in map(task_of, REFERENCES.values()) if task.name != task_of(reference).name)
    settings = settings.model_copy(update={"fleet": replace(settings.fleet, weight_of_others=others)})
    worker = build_worker(settings, [task_of(reference, prefix)], open_log(settings), slot=slot)
    _end_with_parent(asyncio.get_running_loop(), worker.stop)
    await worker.run()


async def serve(settings: Settings, prefix: str = "") -> None:
    """Take events over HTTP, as `penstock serve` does."""
    from penstock.wiring import open_log  # noqa: PLC0415 - likewise
    from penstock.wiring_web import build_gateway  # noqa: PLC0415

    server = build_gateway(settings, tasks_of(prefix), open_log(settings))
    _end_with_parent(asyncio.get_running_loop(), server.stop)
    await server.run()


async def deliver(settings: Settings, slot: str, prefix: str = "") -> None:
    """Bring the database up to date, then deliver to all sinks, as `penstock db upgrade` and `penstock deliver` do."""
    from penstock.sinks.reading import feeds_of  # noqa: PLC0415 - likewise
    from penstock.store.schema import connect, upgrade  # noqa: PLC0415
    from penstock.wiring import build_delivery, open_log  # noqa: PLC0415
    from penstock.wiring_sinks import made_sinks  # noqa: PLC0415

    tasks = tasks_of(prefix)
    engine = connect(settings.sinks.database)
    try:
        upgrade(engine)
    finally:
        engine.dispose()
    settings = settings.model_copy(update={"slot": slot})
    sinks = [sink for name in settings.deliver.sinks for sink in made_sinks(name, settings, feeds_of(tasks))]
    worker = build_delivery(settings, sinks, tasks, open_log(settings))
    _end_with_parent(asyncio.get_running_loop(), worker.stop)
    await worker.run()


def _end_with_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """The demo holds the other end of stdin: when it dies, by whatever death, we read its end."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop)
        # The offline Claude and the receiver died with the demo: what waits for their answer waits in vain.
        threading.Event().wait(ORPHAN_SECONDS)
        os._exit(FAILED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main(arguments: list[str]) -> int:
    """Exit code 0 after SIGTERM, 1 where it could not go on, 2 for a mistake of the user's."""
    role, slot, *prefix = arguments
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx2", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    given = bytearray()
    while not given.endswith(b"\n") and (part := os.read(0, 65_536)):
        given += part
    try:
        settings = Settings.model_validate_json(bytes(given))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            if role == GATEWAY:
                runner.run(serve(settings, *prefix))
            elif role == SINKS:
                runner.run(deliver(settings, slot, *prefix))
            else:
                runner.run(work(settings, role, slot, *prefix))
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
