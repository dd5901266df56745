"""A worker under cProfile: where the CPU of its event loop's thread goes. Other threads (librdkafka's, its callers) are not in it.

`python -m benchmarks.profiled FILE ARGUMENTS…` runs `penstock ARGUMENTS…` and leaves the statistics in FILE; `report` reads it.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

HEAVY = ("aiohttp", "anthropic", "anthropic.types", "confluent_kafka", "httpx2", "penstock.wiring", "penstock.cli.run")
"""Imported first: starting is not what is measured."""
KINDS = {
    "anthropic": "SDK and HTTP",
    "httpx": "SDK and HTTP",
    "aiohttp": "SDK and HTTP",
    "multidict": "SDK and HTTP",
    "yarl": "SDK and HTTP",
    "json": "JSON and pydantic",
    "pydantic": "JSON and pydantic",
    "penstock/claude": "Penstock: prompt, reply, costs",
    "penstock/engine": "Penstock: engine",
    "penstock/log": "Penstock: Kafka",
    "kafka": "Penstock: Kafka",
    "penstock": "Penstock: the rest",
}


def report(path: Path, most: int = 20) -> dict[str, Any]:
    """Shares of the thread's CPU: by kind, and the functions with the most of their own."""
    found: dict[Any, Any] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    own = {_name(key): row[2] for key, row in found.items()}
    total = sum(own.values())
    kinds: Counter[str] = Counter()
    for name, seconds in own.items():
        kinds[_kind(name)] += seconds
    top = sorted(own.items(), key=lambda one: -one[1])[:most]
    return {
        "cpu_seconds": round(total, 2),
        "kinds": {kind: round(seconds / total, 3) for kind, seconds in kinds.most_common()},
        "top": [(name, round(seconds / total, 3)) for name, seconds in top],
    }


def _name(key: tuple[str, int, str]) -> str:
    file, _, function = key
    at = max(file.rfind("site-packages/"), file.rfind("/src/"), file.rfind("/python3"))
    return f"{file[at + 1 :].partition('/')[2]}:{function}" if at >= 0 else function


def _kind(name: str) -> str:
    return next((kind for part, kind in KINDS.items() if part in name), "Python, uvloop, asyncio")


def main() -> None:
    for name in HEAVY:
        __import__(name)
    from penstock.cli import main as penstock

    target, sys.argv = sys.argv[1], ["penstock", *sys.argv[2:]]
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    try:
        penstock()
    finally:
        profile.disable()
        profile.dump_stats(target)


if __name__ == "__main__":
    main()
