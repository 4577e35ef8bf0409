"""The real loop in a faulty world, for many seeds: each image built once per change, in order, none lost.

Every run follows from its seed, which a failure names: `SIMULATION_SEED=17 pytest tests/sim` replays it,
`SIMULATION_SEEDS=5000` runs more of them, `SIMULATION_SEEDS=1000-2000 -k postgresql` those on that store.
"""

# ruff: noqa: S311 - every run follows from its seed

import asyncio
from random import Random

import pytest

from chain.world import edge, external, image, project
from imagechain.chain import status
from imagechain.store import Hint, StoredHint
from sim.conftest import cases
from sim.memory_store import MemoryStore
from sim.scenes import MakeStore, assert_at_rest, come_to_rest, live, random_graph, random_world
from sim.twins import WAIT_SECONDS_MAX
from sim.virtual import run_virtual
from sim.world import Faults, World


@pytest.mark.parametrize(("stores", "seed"), cases(memory=100, sqlite=4, postgresql=4), indirect=["stores"])
def test_a_faulty_world_ends_with_each_image_built_once_or_blocked_by_name(
    seed: int, stores: MakeStore
) -> None:
    random = Random(seed)
    world = random_world(random, seed, stores())
    run_virtual(live(world, random.choice([1, 1, 2]), stores, noise=random.random() < 0.5))


def test_the_faults_do_happen() -> None:
    """Otherwise the simulation would prove nothing."""
    worlds = []
    for seed in range(8):
        world = random_world(Random(seed), seed, MemoryStore())
        world.faults = Faults(
            crash=0.01, unsure=0.3, late=0.2, busy=0.2, image=0.1, store=0.01, hook_lost=0.3, hook_delay=5.0
        )
        run_virtual(live(world, 1, MemoryStore, noise=False))
        worlds.append(world)
    assert sum(world.crashes for world in worlds) > 10
    assert sum(job.by_service for world in worlds for job in world.jobs.values()) > 10


def test_a_seed_gives_the_same_history_each_time() -> None:
    """Otherwise a seed would replay nothing."""

    def history(seed: int) -> list[tuple[str, str, float]]:
        world = random_world(Random(seed), seed, MemoryStore())
        run_virtual(live(world, 2, MemoryStore, noise=True))
        return [(job.source, job.pipeline.status, job.pipeline.created_at) for job in world.jobs.values()]

    for seed in range(5):
        assert history(seed) == history(seed)


def test_in_a_calm_world_a_moved_base_costs_one_build_of_each_image_below_it() -> None:
    """Invariant 2, by the whole loop."""

    async def calm(world: World) -> None:
        for name in world.project_id:
            world.start(name, "push", seconds=1.0, outcome="success")
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        world.move("registry.test/p0:latest", "v1")
        await come_to_rest(world)
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
        await come_to_rest(world)
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


def test_while_a_lost_request_may_start_a_project_still_nothing_above_it_is_started() -> None:
    """Also when a push has built it meanwhile."""

    async def lost(world: World) -> None:
        for name in ("a", "b"):
            world.start(name, "push", seconds=1.0)
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(10)
        world.faults = Faults(late=1.0)
        world.move(image("base"), "v1")
        while not world.asked:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(1)
        # Until then it is not known that the answer will not come.
        await asyncio.sleep(WAIT_SECONDS_MAX)
        world.faults = Faults()
        world.start("a", "push", seconds=1.0)
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    for seed in range(8):
        sources = [external("base"), project("a"), project("b")]
        run_virtual(lost(World(sources, [edge("a", image("base")), edge("b", "a")], Random(seed))))


def test_commands_that_come_one_soon_after_the_other_are_obeyed_in_their_order() -> None:
    async def commanded(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        world.launch()
        await asyncio.sleep(10)
        acting = world.leader._acting
        assert acting is not None
        commands = [Hint(kind="pause"), Hint(kind="pause", source="a"), Hint(kind="resume", source="a")]
        hints = [StoredHint(number, world.now(), hint) for number, hint in enumerate(commands, 1_000)]
        async with acting.knowledge._turn:
            # The store is busy: both batches wait for it.
            following = asyncio.gather(acting.follow(hints[:2]), acting.follow(hints[2:]))
            await asyncio.sleep(0.1)
        await following
        assert not acting.knowledge.chain.facts.pauses
        await world.stop()

    run_virtual(commanded(World([external("base"), project("a")], [edge("a", image("base"))], Random(1))))


def test_before_the_first_scan_nothing_is_known() -> None:
    """An empty answer would say: there are no images."""

    async def begun(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        world.faults = Faults(busy=1.0)
        world.launch()
        await asyncio.sleep(20)
        assert await world.leader.known() is None
        world.faults = Faults()
        await asyncio.sleep(20)
        known = await world.leader.known()
        assert known is not None
        assert "a" in known.chain.graph.ids
        await world.stop()

    run_virtual(begun(World([external("base"), project("a")], [edge("a", image("base"))], Random(1))))


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
        await come_to_rest(world)
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
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    for seed in range(30):
        random = Random(seed)
        run_virtual(lost(World(*random_graph(random), random)))


def test_a_busy_gitlab_makes_nobody_forget_a_request_that_may_still_start_a_pipeline() -> None:
    async def busy(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        world.faults = Faults(late=1.0)
        world.move(image("base"), "v1")
        while not world.asked:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(1)
        await asyncio.sleep(WAIT_SECONDS_MAX)
        # The next questions are answered by 429; the pipeline may start some time later.
        world.faults = Faults(late=1.0, busy=1.0)
        await asyncio.sleep(25)
        world.faults = Faults()
        await come_to_rest(world)
        assert_at_rest(world)
        assert [job.source for job in world.jobs.values() if job.by_service] == ["a"]
        await world.stop()

    for seed in range(10):
        run_virtual(busy(World([external("base"), project("a")], [edge("a", image("base"))], Random(seed))))


def test_a_project_that_is_renamed_while_a_request_for_it_is_open_is_built_once() -> None:
    async def renamed(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(5)
        world.faults = Faults(late=1.0)
        world.move(image("base"), "v1")
        while not world.asked:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(1)
        world.paths["a"] = "elsewhere/a"
        await world.store.add_hint(Hint(kind="reconcile"), "renamed", 0.0)
        await asyncio.sleep(15)
        world.faults = Faults()
        await come_to_rest(world)
        assert_at_rest(world)
        assert [job.source for job in world.jobs.values() if job.by_service] == ["a"]
        await world.stop()

    for seed in range(10):
        run_virtual(
            renamed(World([external("base"), project("a")], [edge("a", image("base"))], Random(seed)))
        )


def test_replicas_whose_clocks_differ_do_not_take_the_lease_from_each_other() -> None:
    async def differing(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        await asyncio.sleep(2)
        world.launch()
        world.ahead_seconds = 3_600.0
        world.launch()
        await asyncio.sleep(1)
        leader = world.leader
        for count in range(5):
            world.move(image("base"), f"v{count}")
            await asyncio.sleep(100)
        await come_to_rest(world)
        assert_at_rest(world)
        assert world.leader is leader
        await world.stop()

    run_virtual(differing(World([external("base"), project("a")], [edge("a", image("base"))], Random(1))))
