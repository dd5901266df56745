"""`make bench`: every benchmark in turn, a table each, JSON kept under `benchmarks/out`.

`python -m benchmarks [NAME …]`; names are the modules beside this file. Absolute figures belong to the machine they were
measured on: it is named in each JSON, with the load that was on it before.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

OUT = Path(__file__).parent / "out"
ALL = ("log_sqlite", "claude_tier", "engine", "flow_model")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    OUT.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    worst = 0
    for name in names or ALL:
        print(f"\n== {name}: python -m benchmarks.{name}", flush=True)
        out = OUT / f"{name}-{stamp}.json"
        worst = max(
            worst,
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--out", str(out)], check=False).returncode,
        )
    print(f"\nJSON is kept in {OUT}")
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
