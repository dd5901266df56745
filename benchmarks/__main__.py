"""`make bench`: Penstock on a real Kafka beside its rivals; tables, and JSON kept under `benchmarks/out`.

`python -m benchmarks [NAME[:PART] …]`; names are the modules beside this file, `all` is every one of them. Absolute figures
belong to the machine they were measured on: it is named in each JSON, with the load that was on it before.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

OUT = Path(__file__).parent / "out"
ALL = (
    "kafka",
    "flow",
    "classes",
    "engine",
    "claude_tier",
    "log_sqlite",
    "database",
    "gateway",
    "whole_way",
    "flow_model",
)
DEFAULT = ("kafka",)


def main(names: list[str]) -> int:
    wanted = [*ALL] if "all" in names else names or [*DEFAULT]
    unknown = [name for name in wanted if name.partition(":")[0] not in ALL]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}, and all", file=sys.stderr)
        return 2
    OUT.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    worst = 0
    for wish in wanted:
        name, _, part = wish.partition(":")
        print(f"\n== {name}: python -m benchmarks.{name}", flush=True)
        out = OUT / f"{name}{'-' * bool(part)}{part.replace(' ', '_')}-{stamp}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(out), *(["--only", part] if part else [])]
        worst = max(worst, subprocess.run(command, check=False).returncode)
    print(f"\nJSON is kept in {OUT}")
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
