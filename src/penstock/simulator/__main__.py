"""`python -m penstock.simulator`: arguments to options, mistakes to one clear line and exit code 2.

[__main__] → server
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from typing import Any

from penstock.simulator.limiter import CLASSES
from penstock.simulator.options import OptionError, SimulatorOptions
from penstock.simulator.server import main
from penstock.simulator.spend import KINDS

HELP: dict[str, str] = {
    "host": "address to listen on",
    "port": "0: a free port",
    "seed": "verdicts, latencies and drawn faults follow from it",
    "answer_book": 'JSONL of recorded answers: {"sha256": …, "answer": {…}}',
    "latency_ms": "time before a reply",
    "per_item_ms": "time added per event of a call",
    "jitter": "spread of the latency, e.g. 0.15",
    "schema_compile_ms": "time added at the first use of a schema",
    "requests_per_minute": "instead of the usage tier's",
    "input_tokens_per_minute": "instead of the usage tier's",
    "output_tokens_per_minute": "instead of the usage tier's",
    "burst_seconds": "seconds of its limit that a bucket holds",
    "ramp_floor_requests": "requests a minute below which usage may grow freely; 0: no ramp limit",
    "ramp_growth": "how much more than in the minute before is allowed above the floor",
    "max_in_flight": "more calls at once are answered 529; 0: no limit",
    "spend_cap_usd": "calls are turned away once the month has cost this",
    "refusal_marker": "calls whose text contains this are refused",
    "stall_seconds": "how long a stalled reply keeps its connection",
    "drip_ms": "pause between the pieces of a dripping reply",
}
WHOLE = frozenset({"port", "seed", "requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "ramp_floor_requests", "max_in_flight"})  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """One argument per option."""
    made = argparse.ArgumentParser(prog="python -m penstock.simulator", description="A stand-in for the Claude API, for work without network or key.")  # fmt: skip
    defaults = SimulatorOptions()
    for field in fields(SimulatorOptions):
        if field.name not in HELP:
            continue
        default = getattr(defaults, field.name)
        kind: Any = int if field.name in WHOLE else str if isinstance(default, str) else float
        made.add_argument("--" + field.name.replace("_", "-"), type=kind, default=default, help=HELP[field.name])
    made.add_argument("--usage-tier", choices=[*CLASSES], default=defaults.usage_tier)
    made.add_argument("--spend-cap-kind", choices=KINDS, default=defaults.spend_cap_kind, help="who set the cap")
    made.add_argument(
        "--api-key", action="append", default=[], dest="api_keys", help="accept only this key (repeatable)"
    )
    made.add_argument("--fault-rates", type=json.loads, default={}, help="e.g. '{\"529\": 0.01}'")
    made.add_argument(
        "--fault-script", type=json.loads, default=[], help='e.g. \'["500", {"kind": "400", "match": "x"}]\''
    )
    made.add_argument("--exit-with-parent", action="store_true", help="end when standard input ends")
    return made


def run(arguments: list[str] | None = None) -> int:
    """Serve; 2 for a mistake of the caller's."""
    given = vars(parser().parse_args(arguments))
    given["api_keys"] = tuple(given["api_keys"])
    given["fault_script"] = (
        tuple(given["fault_script"]) if isinstance(given["fault_script"], list) else (given["fault_script"],)
    )
    try:
        if not isinstance(given["fault_rates"], dict):
            raise OptionError("--fault-rates: an object of kind to share of all calls")
        main(SimulatorOptions(**given))
    except OptionError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run())
