"""The real loop in a faulty world, for many seeds: each image built once per change, in order, none lost.

Every run follows from its seed, which a failure names: `IMAGECHAIN_SIM_SEED=17 pytest tests/sim` replays it,
`IMAGECHAIN_SIM_SEEDS=5000` runs more of them.
"""

import asyncio
import os
from random import Random

import pytest

from chain.world import edge, external, image, project
from imagechain.chain import Dependency, Source, status
from sim.virtual import run_virtual
from sim.world import Faults, World

SEEDS = int(os.environ.get("IMAGECHAIN_SIM_SEEDS", "150"))
ONE_SEED = os.environ.get("IMAGECHAIN_SIM_SEED")
#: Virtual seconds that the world gets to come to rest, once it is calm.
REST_SECONDS = 1_200.0


def random_graph(random: Random) -> tuple[list[Source], list[Dependency]]:
    """Externals, chains, diamonds; some declared dependencies; parents always come first."""
    count = random.randint(2, 9)
    sources: list[Source] = []
    dependencies = []
    for number in range(count):
        name = f"p{number}"
        if number == 0 or random.random() < 0.2:
            sources.append(external(name))
            continue
        sources.append(project(name))
        for parent in random.sample(sources[:-1], k=min(len(sources) - 1, random.randint(0, 3))):
            kind = "declared" if parent.kind == "project" and random.random() < 0.2 else "from"
            dependencies.append(edge(name, parent.id, kind))
    return sources, dependencies


def seeds() -> list[int]:
    return [int(ONE_SEED)] if ONE_SEED is not None else list(range(SEEDS))


def random_world(random: Random, faults: Faults, **options: object) -> World:
    sources, dependencies = random_graph(random)
    names = [source.id for source in sources if source.kind == "project"]
    broken = frozenset(random.sample(names, k=min(len(names), random.choice([0, 0, 0, 1]))))
    constant = frozenset(name for name in names if random.random() < 0.2)
    return World(sources, dependencies, random, faults, broken, constant, **options)  # type: ignore[arg-type]


async def live(world: World, replicas: int, *, noise: bool) -> None:
    """Let things happen for some minutes, with faults; then let the world come to rest without them."""
    random = world.random
    externals = [source.id for source in world.sources if source.kind == "external"]
    for name in world.project_id:
        world.start(name, "push", seconds=1.0, outcome="success")
    await asyncio.sleep(2)
    for _ in range(replicas):
        world.launch()
    for count in range(random.randint(2, 8)):
        await asyncio.sleep(random.uniform(1, 90))
        world.move(random.choice(externals), f"v{count + 1}")
        if noise and world.project_id:
            make_noise(world, random.choice(list(world.project_id)))
    world.faults = Faults(skew=world.faults.skew)
    await asyncio.sleep(REST_SECONDS)
    assert_at_rest(world)
    await world.stop()


def make_noise(world: World, name: str) -> None:
    """Do what people do: push, cancel, retry by hand."""
    jobs = [job for job in world.jobs.values() if job.source == name]
    match world.random.randrange(4):
        case 0:
            world.start(name, "push")
        case 1:
            world.cancel(jobs[-1])
        case 2 if jobs[-1].pipeline.status in {"failed", "canceled"} and name not in world.broken:
            world.retry(jobs[-1])
        case _:
            world.start(name, "merge_request_event", outcome="failed")


def assert_at_rest(world: World) -> None:
    """Each image is built from what is now, or is held up by a project that fails, and that is named."""
    assert not world.complaints, world.complaints
    assert not world.running()
    assert not world.store.intents
    assert not world.store.inbox
    builds = [job for job in world.jobs.values() if job.pipeline.source != "merge_request_event"]
    last = {job.source: job.pipeline.status for job in builds}
    held = world.broken | {source for source, outcome in last.items() if outcome in {"failed", "canceled"}}
    for shown in status(world.leader.chain):
        if shown.kind == "external":
            assert shown.version == world.versions[shown.id]
        elif shown.state == "fresh":
            built = world.images[image(shown.id)].inputs
            assert built == world.inputs_now(shown.id), (shown.id, built, world.inputs_now(shown.id))
        elif shown.state == "failed":
            assert shown.id in held, shown
        else:
            assert shown.state == "blocked", shown
            assert shown.blocked_by
            assert set(shown.blocked_by) <= held, shown


@pytest.mark.parametrize("seed", seeds())
def test_a_faulty_world_ends_with_each_image_built_once_or_blocked_by_name(seed: int) -> None:
    random = Random(seed)
    faults = Faults(
        crash=random.choice([0.0, 0.002, 0.01]),
        unsure=random.choice([0.0, 0.2]),
        busy=random.choice([0.0, 0.05, 0.2]),
        image=random.choice([0.0, 0.1]),
        hook_lost=random.choice([0.0, 0.3, 1.0]),
        hook_doubled=random.choice([0.0, 0.3]),
        hook_delay=random.choice([0.0, 5.0, 60.0]),
        build=random.choice([0.0, 0.0, 0.2]),
        skew=random.choice([0.0, 0.0, 30.0]),
    )
    world = random_world(random, faults)
    run_virtual(live(world, random.choice([1, 1, 2]), noise=random.random() < 0.5))
