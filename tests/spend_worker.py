"""A worker whose calendar is ahead by TEST_AHEAD_SECONDS: so that an hour turns when a test needs it.

test → [spend worker] → log
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time

from penstock.cli.failures import settle
from penstock.cli.loading import load_tasks
from penstock.settings import load_settings
from penstock.wiring import build_worker, open_log


async def main(reference: str, ahead_seconds: float) -> None:
    """As `penstock run` does it."""
    settings = load_settings().settings
    worker = build_worker(
        settings, load_tasks([reference]), open_log(settings), unix=lambda: time.time() + ahead_seconds
    )
    await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(main(sys.argv[1], float(os.environ["TEST_AHEAD_SECONDS"])))
    except Exception as error:  # noqa: BLE001 - as the command line does
        sys.exit(settle(error))
