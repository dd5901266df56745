"""`python gateway_process.py LOG DIRECTORY TOPIC`: a gateway of the tests in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway_calls import options_in, order_task, started
from penstock.settings import load_settings
from penstock.web.build import build_server
from penstock.wiring import open_log


async def main(log: str, directory: str, topic: str) -> None:
    settings = load_settings(assignments=[f"log={log}"]).settings
    server = build_server([order_task(reads=topic)], open_log(settings), options_in(Path(directory)))
    running = asyncio.create_task(server.run())
    await started(server, running)
    print(server.url, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
