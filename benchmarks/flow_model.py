"""Flow control on a virtual clock: many workers, one account, nobody between them. Minutes of it in seconds.

`python -m benchmarks.flow_model` prints the table; `--svg FILE` draws the run of the documentation; `--out FILE` keeps JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.flow_picture import picture
from benchmarks.flow_world import START, Load, Task, World
from penstock.simulator.limiter import Ramp, Rates

WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class Figures:
    """What came out of one scenario."""

    name: str
    workers: int
    used: float
    """Of the binding limit, foreign use included, after the first minute (or after the change)."""
    refused: float
    """Calls of the fleet answered 429, of all its calls from the first second on."""
    fairness: float
    """Jain's index over the workers that are equal."""
    settled_seconds: float
    """From the last change until use and fairness stay where they must be."""
    above_share_seconds: float
    """The most that any worker was ever above its granted share, as time of that share."""

    def row(self) -> str:
        """For the table."""
        return (
            f"{self.name:44} {self.workers:>3} {self.used:>7.1%} {self.refused:>7.2%} {self.fairness:>6.3f} "
            f"{self.settled_seconds:>6.0f} s {self.above_share_seconds:>6.1f} s"
        )


HEAD = f"{'scenario':44} {'n':>3} {'used':>7} {'429':>7} {'Jain':>6} {'settled':>8} {'above':>8}"


def use(world: World, begin: float, end: float, column: int = 3) -> dict[str, float]:
    """What each one used of a limit in a span of time, as a part of the limit."""
    limit = (world.rates.requests, world.rates.input_tokens, world.rates.output_tokens)[column - 1] / 60.0
    found: dict[str, float] = {}
    for entry in world.account.used:
        if begin <= entry[0] < end:
            found[entry[4]] = found.get(entry[4], 0.0) + float(entry[column]) / (limit * (end - begin))  # type: ignore[arg-type]
    return found


def jain(values: list[float]) -> float:
    """1 where all have the same, 1/n where one has all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def figures(
    name: str, world: World, changed: float, end: float, *, equal: list[str] | None = None, column: int = 3
) -> Figures:
    """Measured from the minute after `changed` on; how long it took to settle from `changed` on."""
    whole = use(world, changed + 60.0, end, column)
    names = equal if equal is not None else [key for key in whole if key != "foreign"]
    settled, begin = 0.0, changed
    while begin + WINDOW_SECONDS <= min(end, changed + 180.0):
        window = use(world, begin, begin + WINDOW_SECONDS, column)
        # One window holds few calls of each of many workers: fairness is judged more mildly in it.
        if sum(window.values()) < 0.9 or (names and jain([window.get(key, 0.0) for key in names]) < 0.85):
            settled = begin + WINDOW_SECONDS / 2 - changed
        begin += 5.0
    return Figures(
        name,
        len([worker for worker in world.workers.values() if worker.alive]),
        sum(whole.values()),
        world.account.refused / max(1, world.account.calls),
        jain([whole.get(key, 0.0) for key in names]) if names else 1.0,
        settled,
        max(0.0, *(worker.worst_excess for worker in world.workers.values())),
    )


def fleet(world: World, count: int, *, busy: int | None = None, parts: list[int] | None = None) -> list[str]:
    """Workers of one task, all with a backlog unless only some are."""
    parts = parts or [1] * count
    for at, part in enumerate(parts):
        has_backlog = busy is None or at < busy
        world.join(f"w{at}", Task("m", part, sum(parts), has_backlog=has_backlog))
    return [f"w{at}/m" for at in range(len(parts))]


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


def slow_calls() -> Figures:
    """Calls of 10 s: everything that is known of the account is that old."""
    world = World(load=Load(seconds=10.0))
    equal = fleet(world, 8)
    world.run(400.0)
    return figures("8 workers, calls of 10 s", world, 100.0, 400.0, equal=equal)


def small_buckets() -> Figures:
    """An account that enforces its limits per five seconds."""
    world = World(burst_seconds=5.0)
    equal = fleet(world, 8)
    world.run(300.0)
    return figures("8 workers, buckets of 5 s", world, 0.0, 300.0, equal=equal)


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
    slow_calls,
    small_buckets,
)
"""These must hold what law 6 says."""
OTHERS: tuple[Callable[[], Figures], ...] = (ramp_limited, deaf)


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
    for scenario in (*SCENARIOS, *OTHERS):
        made.append(scenario())
        print(made[-1].row(), flush=True)
    if options.out:
        options.out.write_text(json.dumps([asdict(one) for one in made], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
