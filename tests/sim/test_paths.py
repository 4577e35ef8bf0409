"""Paths that change their owners in the middle of something: nothing is told of the one to the other."""

# ruff: noqa: S311

import asyncio
from random import Random

import pytest

from chain.world import edge, external, image, project
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked
from imagechain.store import Hint
from sim.scenes import assert_at_rest, come_to_rest
from sim.test_starts import acting_in, begin, move, started, two
from sim.twins import WAIT_SECONDS_MAX, FakeImages
from sim.virtual import run_virtual
from sim.world import POLICY, Gate, World


@pytest.mark.parametrize("at_once", [False, True])
def test_who_takes_the_path_of_a_project_that_leaves_is_not_taken_to_be_built_as_that_was(
    at_once: bool,
) -> None:
    """`b` comes in the scan in which `a` is gone; its image, which `c` is from, is of an older `base`."""

    async def taken(world: World) -> None:
        world.gone.add("b")
        await begin(world)
        await move(world, "base", "v1")
        await asyncio.sleep(120)
        assert started(world) == ["a"]
        world.gone = {"a"}
        scan = acting_in(world).reconciler.scan
        if not at_once:
            await scan()
        world.paths |= {"a": "z", "b": "a"}
        await acting_in(world).reconciler.run()
        await asyncio.sleep(300)
        assert started(world)[:2] == ["a", "b"]
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    edges = [edge("a", image("base")), edge("b", image("base")), edge("c", "b")]
    run_virtual(taken(World([external("base"), *map(project, "abc")], edges, Random(1))))


@pytest.mark.parametrize("at_once", [False, True])
def test_who_takes_the_path_of_a_project_that_leaves_does_not_build_what_that_built(at_once: bool) -> None:
    async def taken(world: World) -> None:
        world.gone.add("b")
        await begin(world)
        world.start("a", "push", seconds=1e6)
        await asyncio.sleep(5)
        world.gone = {"a"}
        scan = acting_in(world).reconciler.scan
        if not at_once:
            await scan()
        world.paths |= {"a": "z", "b": "a"}
        await acting_in(world).reconciler.run()
        await asyncio.sleep(300)
        chain = acting_in(world).knowledge.chain
        state = chain.facts.states[chain.graph.number_of("a")]
        assert not state.runs
        await world.stop()

    run_virtual(taken(two()))


@pytest.mark.parametrize("is_taken", [False, True])
def test_an_answer_that_waits_behind_a_rescan_is_none_for_who_took_the_path(is_taken: bool) -> None:
    """The store is slow: a rescan waits for its turn, and then the answer does, which names the old path."""

    async def waits(world: World) -> None:
        await begin(world)
        knowledge = acting_in(world).knowledge
        world.gates["b"] = Gate()
        await move(world, "base", "v1")
        while not world.asked:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(0.01)
        async with knowledge._turn:
            if is_taken:
                world.paths |= {"a": "z", "b": "a"}
            scan = asyncio.ensure_future(acting_in(world).reconciler.scan())
            # Both are at the door now: the answer to the scan came first.
            await asyncio.sleep(WAIT_SECONDS_MAX)
        await scan
        await asyncio.sleep(0.01)
        number = world.project_id["b"]
        (b,) = knowledge.projects_of(number)
        state = knowledge.chain.facts.states[knowledge.chain.graph.number_of(b.source)]
        assert not state.runs
        world.gates["b"].opened.set()
        await come_to_rest(world)
        assert_at_rest(world)
        assert sorted(started(world)) == ["a", "b"]
        await world.stop()

    for seed in range(4):
        world = two()
        world.random = Random(seed)
        run_virtual(waits(world))


@pytest.mark.parametrize("is_taken", [False, True])
def test_who_takes_the_path_of_a_project_while_its_image_is_read_is_built(
    is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(world: World) -> None:
        await begin(world)
        # All is held but what people push.
        await world.store.add_hint(Hint(kind="pause"), "1", 0.0)
        await asyncio.sleep(5)
        await move(world, "base", "v1")
        reached, opened = asyncio.Event(), asyncio.Event()
        read = FakeImages.read

        async def slow(self: FakeImages, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
            found = await read(self, reference)
            if reference == image("a") and world.jobs[len(world.jobs)].pipeline.status == "success":
                reached.set()
                await opened.wait()
            return found

        monkeypatch.setattr(FakeImages, "read", slow)
        world.start("a", "push", seconds=2.0, outcome="success")
        await reached.wait()
        if is_taken:
            world.paths |= {"a": "z", "b": "a"}
            await acting_in(world).reconciler.scan()
        opened.set()
        await asyncio.sleep(5)
        await world.store.add_hint(Hint(kind="resume"), "2", 0.0)
        await come_to_rest(world)
        assert started(world) == ["b"]
        assert_at_rest(world)
        await world.stop()

    run_virtual(taken(two()))


@pytest.mark.parametrize("is_taken", [False, True])
def test_who_takes_the_path_of_a_project_on_which_gitlab_fails_is_not_put_off(is_taken: bool) -> None:
    async def taken(world: World) -> None:
        await begin(world)
        world.trouble = {"a": "its list fails"}
        await move(world, "base", "v1")
        await asyncio.sleep(1_000)
        acting = acting_in(world)
        put_off = acting.starter._put_off
        while put_off["a"].until < acting.clock.now() + 200:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(1)
        assert started(world) == ["c"]
        world.trouble = {}
        await move(world, "other", "v1")
        if is_taken:
            world.paths |= {"a": "z", "b": "a"}
            await acting.reconciler.scan()
        await asyncio.sleep(POLICY.quiet_seconds + 60)
        assert "b" in started(world)
        await world.stop()

    sources = [external("base"), external("other"), project("a"), project("b"), project("c")]
    edges = [edge("a", image("base")), edge("c", image("base")), edge("b", image("other"))]
    run_virtual(taken(World(sources, edges, Random(1))))
