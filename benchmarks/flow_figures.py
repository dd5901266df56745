"""What comes out of a run of the model: use, 429s, fairness, how soon it settles, and whether anyone passed its share.

flow_world → [flow_figures] → flow_model
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.flow_world import Task, World

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
    first: float | None = None
    """Of a burst: what was used in its first ten seconds, in times of the limit."""

    def row(self) -> str:
        """For the table."""
        return (
            f"{self.name:44} {self.workers:>3} {self.used:>7.1%} {self.refused:>7.2%} {self.fairness:>6.3f} "
            f"{self.settled_seconds:>6.0f} s {self.above_share_seconds:>6.1f} s"
            + (f" {self.first:>6.2f} x" if self.first is not None else "")
        )


HEAD = f"{'scenario':44} {'n':>3} {'used':>7} {'429':>7} {'Jain':>6} {'settled':>8} {'above':>8} {'first':>8}"


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
