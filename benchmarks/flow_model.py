"""Flow control on a virtual clock: many workers, one account, nobody between them. Minutes of it in seconds.

`python -m benchmarks.flow_model` prints the table; `--svg FILE` draws the run of the documentation; `--out FILE` keeps JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import flow_bursts as bursts
from benchmarks.flow_figures import HEAD, Figures, figures, fleet, jain, use
from benchmarks.flow_picture import picture
from benchmarks.flow_world import START, Load, Task, World
from penstock.simulator.limiter import Ramp, Rates


def steady(count: int, **options: object) -> Figures:
    """All have a backlog from the start."""
    world = World(**options)  # type: ignore[arg-type]
    equal = fleet(world, count)
    world.run(300.0)
    return figures(f"{count} equal workers" if count > 1 else "one worker", world, 0.0, 300.0, equal=equal)


def skewed() -> Figures:
    """Shares follow partitions: 1 to 9 of 32; fairness is measured per partition."""
    world, parts = World(), [1, 2, 2, 3, 4, 5, 6, 9]
    fleet(world, 8, parts=parts)
    world.run(300.0)
    made = figures("8 workers with 1 to 9 of 32 partitions", world, 0.0, 300.0, equal=[])
    got = use(world, 60.0, 300.0)
    per_partition = [got[f"w{at}/m"] / part for at, part in enumerate(parts)]
    return Figures(**{**asdict(made), "fairness": jain(per_partition)})


def one_busy() -> Figures:
    """31 of 32 have nothing to do: the one that has uses the whole account."""
    world = World()
    equal = fleet(world, 32, busy=1)
    world.run(300.0)
    return figures("1 of 32 has a backlog", world, 0.0, 300.0, equal=equal[:1])


def all_wake() -> Figures:
    """After a time in which two of 16 had everything, all have a backlog at once."""
    world = World()
    equal = fleet(world, 16, busy=2)
    world.run(200.0)
    for worker in world.workers.values():
        worker.tasks["m"].has_backlog = True
        worker.work()
    world.run(440.0)
    return figures("14 of 16 wake at once", world, 200.0, 440.0, equal=equal)


def joining() -> Figures:
    """Four become twelve; each rebalance tells everybody a little later."""
    world = World()
    fleet(world, 4)

    def grow() -> None:
        for at in range(4, 12):
            world.join(f"w{at}", Task("m", 1, 12))
        for at in range(4):
            world.workers[f"w{at}"].assign(1, 12)

    world.at(200.0, grow)
    world.run(440.0)
    return figures("4 workers become 12", world, 200.0, 440.0, equal=[f"w{at}/m" for at in range(12)])


def dying() -> Figures:
    """Five of eight are killed; their partitions find new owners 45 s later. Measured from the kill on."""
    world = World()
    fleet(world, 8)

    def kill() -> None:
        for at in range(3, 8):
            world.workers[f"w{at}"].die()

    def rebalance() -> None:
        for at in range(3):
            world.workers[f"w{at}"].assign(1, 3)

    world.at(200.0, kill)
    world.at(245.0, rebalance)
    world.run(440.0)
    return figures("5 of 8 die, rebalance 45 s later", world, 200.0, 440.0, equal=[f"w{at}/m" for at in range(3)])


def foreigner(share: float) -> Figures:
    """Someone else takes a part of the account, with no regard for anybody."""
    world = World()
    equal = fleet(world, 6)
    world.foreigner(share, 150.0, 400.0)
    world.run(400.0)
    return figures(f"6 workers and a foreign user of {share:.0%}", world, 150.0, 400.0, equal=equal)


def weights() -> Figures:
    """Two tasks, 4 to 1; fairness is measured per weight."""
    world = World(weights={"moderator": 4.0, "analyzer": 1.0})
    for at in range(4):
        world.join(f"w{at}", Task("moderator", 1, 4), Task("analyzer", 1, 4))
    world.run(300.0)
    made = figures("4 workers, two tasks of weight 4 and 1", world, 0.0, 300.0, equal=[])
    got = use(world, 60.0, 300.0)
    per_weight = [value / (4.0 if name.endswith("moderator") else 1.0) for name, value in got.items()]
    return Figures(**{**asdict(made), "fairness": jain(per_weight)})


def limits_change(times: float) -> Figures:
    """The account's limits change while everybody works."""
    world = World()
    equal = fleet(world, 4)
    rates = Rates(*(round(value * times) for value in (START.requests, START.input_tokens, START.output_tokens)))
    world.at(200.0, lambda: world.set_limits(rates))
    world.run(440.0)
    return figures(f"4 workers, limits x {times:g} in mid-run", world, 200.0, 440.0, equal=equal)


def requests_bind() -> Figures:
    """Small batches: the limit of requests binds."""
    world = World(load=Load(items=5))
    equal = fleet(world, 8)
    world.run(200.0)
    return figures("8 workers, requests bind", world, 0.0, 200.0, equal=equal, column=1)


def slow_calls(count: int) -> Figures:
    """Calls of 10 s: everything that is known of the account is that old."""
    world = World(load=Load(seconds=10.0))
    equal = fleet(world, count)
    world.run(400.0)
    return figures(f"{count} workers, calls of 10 s", world, 100.0, 400.0, equal=equal)


def small_buckets() -> Figures:
    """An account that enforces its limits per five seconds."""
    world = World(burst_seconds=5.0)
    equal = fleet(world, 8)
    world.run(300.0)
    return figures("8 workers, buckets of 5 s", world, 0.0, 300.0, equal=equal)


def strict_foreigner() -> Figures:
    """An account that enforces its limits per five seconds, and someone who takes 40 % of it whatever others are told."""
    world = World(burst_seconds=5.0)
    equal = fleet(world, 8)
    world.foreigner(0.4, 150.0, 400.0)
    world.run(400.0)
    return figures("8 workers, buckets of 5 s, foreign user", world, 150.0, 400.0, equal=equal)


def ramp_limited() -> Figures:
    """An account on which use may at most double each minute; the first minutes are its own."""
    world = World(ramp=Ramp(100, 2.0))
    equal = fleet(world, 4)
    world.run(900.0)
    return figures("4 workers, growth limited to x 2 a minute", world, 540.0, 900.0, equal=equal)


def deaf() -> Figures:
    """For comparison: every worker keeps to the account's limit by itself and hears nothing, as rivals do."""
    world = World(is_deaf=True)
    equal = fleet(world, 4)
    world.run(300.0)
    return figures("(4 workers that know of no others)", world, 0.0, 300.0, equal=equal)


SCENARIOS: tuple[Callable[[], Figures], ...] = (
    *(lambda count=count: steady(count) for count in (1, 2, 4, 8, 16, 32)),
    skewed,
    one_busy,
    all_wake,
    joining,
    dying,
    lambda: foreigner(0.3),
    lambda: foreigner(0.6),
    weights,
    lambda: limits_change(0.5),
    lambda: limits_change(3.0),
    requests_bind,
    small_buckets,
    *bursts.SCENARIOS,
)
"""These must hold what law 6 says."""
SLOW: tuple[Callable[[], Figures], ...] = (lambda: slow_calls(8), lambda: slow_calls(32))
"""These too, but that shares settle later than within a minute: what is known of the account is old."""
OTHERS: tuple[Callable[[], Figures], ...] = (ramp_limited, strict_foreigner, deaf)
"""These show where it is weak, and that the model condemns what others do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path, help="draw a run: idle neighbours, a wake-up, a foreign user")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    options = parser.parse_args()
    if options.svg:
        options.svg.write_text(picture(), encoding="utf-8")
        return 0
    print(HEAD)
    made = []
    for scenario in (*SCENARIOS, *SLOW, *OTHERS):
        made.append(scenario())
        print(made[-1].row(), flush=True)
    if options.out:
        options.out.write_text(json.dumps([asdict(one) for one in made], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
