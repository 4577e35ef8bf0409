"""The real loop in a faulty world, for many seeds: each image built once per change, in order, none lost.

Every run follows from its seed, which a failure names: `SIMULATION_SEED=17 pytest tests/sim` replays it,
`SIMULATION_SEEDS=5000` runs more of them.
"""

# ruff: noqa: S311 - every run follows from its seed

import asyncio
import os
from dataclasses import replace
from random import Random

import pytest

from chain.world import edge, external, image, project
from imagechain.chain import Dependency, DependencyKind, Source, status
from imagechain.store import Hint
from sim.memory_store import MemoryStore
from sim.virtual import run_virtual
from sim.world import Faults, World

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "150"))
ONE_SEED = os.environ.get("SIMULATION_SEED")
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
            kind: DependencyKind = (
                "declared" if parent.kind == "project" and random.random() < 0.2 else "from"
            )
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
    chain = world.leader.chain
    assert chain is not None
    for shown in status(chain):
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


def test_the_faults_do_happen() -> None:
    """Otherwise the simulation would prove nothing."""
    faults = Faults(
        crash=0.01, unsure=0.3, busy=0.2, image=0.1, hook_lost=0.3, hook_doubled=0.3, hook_delay=5.0
    )
    worlds = [random_world(Random(seed), replace(faults)) for seed in range(5)]
    for world in worlds:
        run_virtual(live(world, 1, noise=False))
    assert sum(world.crashes for world in worlds) > 10
    assert sum(job.by_service for world in worlds for job in world.jobs.values()) > 10


def test_in_a_calm_world_a_moved_base_costs_one_build_of_each_image_below_it() -> None:
    """Invariant 2, by the whole loop."""

    async def calm(world: World) -> None:
        for name in world.project_id:
            world.start(name, "push", seconds=1.0, outcome="success")
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        world.move("registry.test/p0:latest", "v1")
        await asyncio.sleep(REST_SECONDS)
        assert_at_rest(world)
        below = world.graph.descendants_of("registry.test/p0:latest")
        assert sorted(job.source for job in world.jobs.values() if job.by_service) == sorted(below)
        await world.stop()

    for seed in range(30):
        random = Random(seed)
        run_virtual(calm(World(*random_graph(random), random)))


def test_a_pipeline_that_gitlab_refuses_is_told_once_and_not_tried_for_ever() -> None:
    async def refused(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        world.move(image("base"), "v1")
        calls = world.calls
        await asyncio.sleep(REST_SECONDS)
        chain = world.leader.chain
        assert chain is not None
        (shown,) = [one for one in status(chain) if one.id == "a"]
        assert shown.state == "failed"
        failure = chain.facts.states[chain.graph.number["a"]].failure
        assert failure is not None
        assert "will not run" in failure.message
        assert len([row for row in world.store.rows.values() if row.id.startswith("refused")]) == 1
        assert world.calls > calls
        await world.stop()

    world = World([external("base"), project("a")], [edge("a", image("base"))], Random(1))
    world.refusals["a"] = "Pipeline will not run for the selected trigger"
    run_virtual(refused(world))


def test_the_service_may_have_been_away_for_a_week() -> None:
    async def away(world: World) -> None:
        for name in ("a", "b"):
            world.start(name, "push", seconds=1.0)
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(60)
        await world.stop()
        await asyncio.sleep(7 * 86_400)
        for count in range(5):
            world.start("a", "schedule", seconds=1.0)
            await asyncio.sleep(2)
            world.move(image("base"), f"v{count}")
        started = len(world.jobs)
        world.launch()
        await asyncio.sleep(REST_SECONDS)
        assert_at_rest(world)
        assert [job.source for job in list(world.jobs.values())[started:]] == ["a", "b"]
        await world.stop()

    sources = [external("base"), project("a"), project("b")]
    run_virtual(away(World(sources, [edge("a", image("base")), edge("b", "a")], Random(1))))


def test_a_lost_store_is_made_again_from_gitlab_and_the_registry_and_decides_the_same() -> None:
    async def lost(world: World) -> None:
        for name in world.project_id:
            world.start(name, "push", seconds=1.0, outcome="success")
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        for count in range(3):
            world.move("registry.test/p0:latest", f"v{count + 1}")
            await asyncio.sleep(world.random.uniform(10, 120))
            await world.stop()
            world.store = MemoryStore()
            world.launch()
        await asyncio.sleep(REST_SECONDS)
        assert_at_rest(world)
        await world.stop()

    for seed in range(30):
        random = Random(seed)
        run_virtual(lost(World(*random_graph(random), random)))


def test_projects_may_leave_and_come_while_others_are_built() -> None:
    async def changing(world: World) -> None:
        for name in world.project_id:
            world.start(name, "push", seconds=1.0, outcome="success")
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        sources, dependencies = world.sources, world.dependencies
        for count in range(4):
            world.move("registry.test/p0:latest", f"v{count + 1}")
            gone = world.random.choice(sources[1:]).id
            world.sources = [source for source in sources if source.id != gone]
            world.dependencies = [one for one in dependencies if gone not in {one.child, one.parent}]
            await world.store.add_hint(Hint(kind="reconcile"), f"gone {count}", 0.0)
            await asyncio.sleep(world.random.uniform(5, 60))
            world.sources, world.dependencies = sources, dependencies
            await world.store.add_hint(Hint(kind="reconcile"), f"back {count}", 0.0)
            await asyncio.sleep(world.random.uniform(5, 60))
        await asyncio.sleep(REST_SECONDS)
        assert not world.running()
        for shown in status(world.leader.chain or pytest.fail("no leader")):
            if shown.kind == "project":
                assert shown.state == "fresh"
                assert world.images[image(shown.id)].inputs == world.inputs_now(shown.id)
        await world.stop()

    for seed in range(3):
        random = Random(seed)
        run_virtual(changing(World(*random_graph(random), random)))
