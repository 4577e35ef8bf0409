"""One cascade, with kill -9 at every step: before and after every call, and inside every transaction.

A seed stands for a step: consecutive seeds are steps far apart, and as many seeds as there are steps are all.
`SIMULATION_SEEDS=3000 pytest tests/sim/test_every_step.py` kills at every one, on every store.
"""

# ruff: noqa: S311 - every run follows from its seed

import asyncio
from random import Random

import pytest

from chain.world import edge, external, image, project
from sim.conftest import Stores, cases
from sim.scenes import assert_at_rest, come_to_rest
from sim.virtual import run_virtual
from sim.world import World

NAMES = ("a", "b", "c", "d")
#: A prime: its multiples are all steps, once each, in an order that jumps about.
SPREAD = 7919


def diamond(store: object) -> World:
    sources = [external("base"), *map(project, NAMES)]
    arrows = [("a", image("base")), ("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")]
    return World(sources, [edge(child, parent) for child, parent in arrows], Random(1), store=store)


async def cascade(world: World) -> int:
    """Look at what there is, move the base, let all be built; give the steps that this took."""
    for name in NAMES:
        world.start(name, "push", seconds=1.0)
        await asyncio.sleep(2)
    world.launch()
    await asyncio.sleep(10)
    world.move(image("base"), "v1")
    while not _is_built(world):  # noqa: ASYNC110 - nobody tells; time is virtual
        await asyncio.sleep(1)
    steps = world.calls
    await come_to_rest(world)
    assert_at_rest(world)
    assert [job.source for job in world.jobs.values() if job.by_service][:1] == ["a"]
    assert sorted(job.source for job in world.jobs.values() if job.by_service) == list(NAMES)
    await world.stop()
    return steps


def _is_built(world: World) -> bool:
    done = {job.source for job in world.jobs.values() if job.by_service}
    return done == set(NAMES) and not world.running()


_steps: dict[str, int] = {}


def steps_of(stores: Stores) -> int:
    """Count the steps of a cascade in which nobody is killed."""
    if stores.kind not in _steps:
        world = diamond(stores())

        async def calm() -> None:
            _steps[stores.kind] = await cascade(world)

        run_virtual(calm())
    return _steps[stores.kind]


@pytest.mark.parametrize(("stores", "seed"), cases(memory=40, sqlite=8, postgresql=6), indirect=["stores"])
def test_a_cascade_in_which_the_service_is_killed_at_any_step_builds_each_image_once(
    seed: int, stores: Stores
) -> None:
    killed_at = 1 + seed * SPREAD % steps_of(stores)
    world = diamond(stores())
    # Soon after it has come back, it is killed once more.
    world.kill_at = frozenset({killed_at, killed_at + Random(seed).randint(1, 40)})

    async def killed() -> None:
        await cascade(world)

    run_virtual(killed())
    assert world.crashes == len(world.kill_at)
