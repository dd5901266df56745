"""How long an event takes from its POST to its verdict, its database row and its webhook, through `penstock up` on one machine.

`python -m benchmarks.whole_way [--events N] [--rate N] [--out FILE]`: a table, then JSON. Embedded log, offline simulator, SQLite database;
events are posted one a request, at a steady rate. A row's time is when this process first sees it, looking every 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web
from standardwebhooks import Webhook

from penstock.sinks.webhook.signing import new_secret

TASK = "feedback:sorter"
LOOK_SECONDS = 0.005
WARM_EVENTS = 10
PATIENCE_SECONDS = 120.0
TEXT = "The app crashes when I open the invoice of last month, and the support line is always busy. " * 3
LEGS = ("accepted", "verdict", "row", "webhook")


class Seen:
    """When each event was where."""

    def __init__(self, secret: str) -> None:
        self.posted: dict[str, float] = {}
        self.at: dict[str, dict[str, float]] = {leg: {} for leg in LEGS}
        self._webhook = Webhook(secret)

    async def take(self, request: web.Request) -> web.Response:
        """A message whose signature is wrong ends the benchmark."""
        value = self._webhook.verify(await request.read(), dict(request.headers))
        self.at["webhook"].setdefault(value["data"]["event_id"], time.perf_counter())
        return web.Response(status=204)

    async def look(self, file: Path) -> None:
        """New rows of the database, by rowid."""
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            while True:
                for (name,) in connection.execute("SELECT event_id FROM verdicts ORDER BY rowid DESC LIMIT 200"):
                    self.at["row"].setdefault(name, time.perf_counter())
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            connection.close()

    def is_complete(self, names: list[str]) -> bool:
        return all(name in self.at[leg] for leg in LEGS for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--rate", type=float, default=10.0, help="events per second")
    parser.add_argument("--out", type=Path, help="keep the JSON in this file too")
    given = parser.parse_args()
    load = [round(one, 2) for one in os.getloadavg()]
    with tempfile.TemporaryDirectory() as directory:
        rows = asyncio.run(run(Path(directory), given.events, given.rate))
    machine = {"cpus": os.cpu_count(), "system": f"{platform.system()} {platform.release()}", "load_before": load}
    figures = {"events": given.events, "rate": given.rate, "rows": rows, "machine": machine}
    print(f"{given.events} events at {given.rate:g}/s, {machine['system']}, {machine['cpus']} CPUs, load before {load}")
    print(f"{'from POST to':<14}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for row in rows:
        print(f"{row['leg']:<14}{row['p50_ms']:>9}{row['p99_ms']:>9}{row['max_ms']:>9}")
    print(json.dumps(figures))
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


async def run(directory: Path, events: int, rate: float) -> list[dict]:
    secret = new_secret()
    seen = Seen(secret)
    app = web.Application()
    app.router.add_post("/hooks", seen.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    prepare(directory, secret, runner.addresses[0][1])
    with (directory / "up.log").open("wb") as said:
        up = subprocess.Popen([*penstock(), "up", TASK, "--simulated"], cwd=directory, stderr=said)  # noqa: ASYNC220
    try:
        url = await told(directory / "up.log", up)
        await measure(seen, url, directory, events, rate)
    finally:
        up.terminate()
        up.wait(PATIENCE_SECONDS)
        await runner.cleanup()
    return [row(seen, leg) for leg in LEGS]


def prepare(directory: Path, secret: str, port: int) -> None:
    for arguments in (["init", "--quiet", "."], ["topics", "create", "--task", TASK, "--quiet"]):
        subprocess.run([*penstock(), *arguments], cwd=directory, check=True)
    (directory / "penstock.toml").write_text(
        f"""
        deliver = {{ sinks = ["database", "webhooks"], simulated = "deliver" }}
        gateway = {{ auth = "none", port = 0 }}
        ops = {{ port = "off" }}
        [sinks.webhooks.bench]
        url = "http://127.0.0.1:{port}/hooks"
        secrets = "{secret}"
        allow_http = true
        allow_networks = ["127.0.0.0/8"]
        """,
        encoding="utf-8",
    )


def penstock() -> list[str]:
    return [sys.executable, "-P", "-m", "penstock.cli"]


async def told(file: Path, up: subprocess.Popen[bytes]) -> str:
    """The gateway's address, when it listens."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (found := re.search(r"POST (http://\S+)/v1/events", said := await asyncio.to_thread(file.read_text))):
            if up.poll() is not None:
                raise SystemExit(said)
            await asyncio.sleep(0.05)
    return found[1]


async def measure(seen: Seen, url: str, directory: Path, events: int, rate: float) -> None:
    """First some that do not count: they wake every role."""
    async with aiohttp.ClientSession() as session:
        warm = [f"warm-{n}" for n in range(WARM_EVENTS)]
        await asyncio.gather(*(one(seen, session, url, name) for name in warm))
        looking = asyncio.create_task(seen.look(await database_of(directory)))
        await complete(seen, warm)
        names = [f"e-{n}" for n in range(events)]
        started = time.perf_counter()
        sending = []
        for n, name in enumerate(names):
            await asyncio.sleep(max(0.0, started + n / rate - time.perf_counter()))
            sending.append(asyncio.create_task(one(seen, session, url, name)))
        await asyncio.gather(*sending)
        await complete(seen, names)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    for name in warm:
        del seen.posted[name]


async def database_of(directory: Path) -> Path:
    """The file, when it has its tables."""
    file = directory / "penstock-store.db"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if file.exists():
                connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
                tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'verdicts'").fetchone()
                connection.close()
                if tables[0]:
                    return file
            await asyncio.sleep(0.05)


async def one(seen: Seen, session: aiohttp.ClientSession, url: str, name: str) -> None:
    """POST, then wait for the verdict as a shop would."""
    body = {"id": name, "customer": f"c-{name}", "text": TEXT}
    seen.posted[name] = time.perf_counter()
    async with session.post(f"{url}/v1/events", json=body) as reply:
        if reply.status != 202:
            raise SystemExit(f"{reply.status}: {await reply.text()}")
    seen.at["accepted"][name] = time.perf_counter()
    state = ""
    while state != "answered":
        async with session.get(f"{url}/v1/events/{name}", params={"wait": "20s"}) as reply:
            state = (await reply.json())["state"]
    seen.at["verdict"][name] = time.perf_counter()


async def complete(seen: Seen, names: list[str]) -> None:
    """Every event is everywhere, or the benchmark fails."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not seen.is_complete(names):  # noqa: ASYNC110 - three places tell, one of them a file
            await asyncio.sleep(0.02)


def row(seen: Seen, leg: str) -> dict:
    times = [(seen.at[leg][name] - posted) * 1e3 for name, posted in seen.posted.items()]
    quantiles = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "leg": leg,
        "p50_ms": round(quantiles[49], 1),
        "p99_ms": round(quantiles[98], 1),
        "max_ms": round(max(times), 1),
    }


if __name__ == "__main__":
    main()
