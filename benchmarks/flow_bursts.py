"""A fleet that has little to do, an account with a full minute saved up, and then a backlog for all at once.

flow_world, flow_figures → [flow_bursts] → flow_model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.flow_figures import Figures, figures, fleet, use
from benchmarks.flow_world import Load, Worker, World

BEGIN_SECONDS = 100.0
EVERY_SECONDS = 10.0
"""While there is little to do every worker makes a call so often."""


def at_rest(count: int, load: Load | None = None) -> tuple[World, list[str]]:
    """A world in which nobody has a backlog until the burst begins."""
    world = World(load=load)
    equal = fleet(world, count, busy=0)

    def call(worker: Worker) -> None:
        if world.now < BEGIN_SECONDS:
            worker.ask_once()
            world.at(world.now + EVERY_SECONDS, lambda: call(worker))

    for worker in world.workers.values():
        world.at(world.random.uniform(0.0, EVERY_SECONDS), lambda worker=worker: call(worker))
    world.run(BEGIN_SECONDS)
    for worker in world.workers.values():
        worker.tasks["m"].has_backlog = True
        worker.work()
    return world, equal


def burst(count: int, *, rivalled: bool = False) -> Figures:
    """What is saved up is spent on it, by everybody's share. `rivalled`: a foreign user spends it in the same ten seconds."""
    world, equal = at_rest(count)
    if rivalled:
        world.foreigner(3.0, BEGIN_SECONDS, BEGIN_SECONDS + 10.0)
    world.run(BEGIN_SECONDS + 240.0)
    name = f"{count} workers, a burst" if count > 1 else "one worker, a burst"
    made = figures(
        name + (" as a foreign user has one" if rivalled else ""), world, BEGIN_SECONDS, world.now, equal=equal
    )
    if rivalled:  # its burst is not our use
        return made
    return replace(made, first=sum(use(world, BEGIN_SECONDS, BEGIN_SECONDS + 10.0).values()))


SCENARIOS: tuple[Callable[[], Figures], ...] = (
    *(lambda count=count: burst(count) for count in (1, 4, 8, 32)),
    lambda: burst(8, rivalled=True),
    lambda: burst(32, rivalled=True),
)
