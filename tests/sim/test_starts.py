"""What may come between a decision and the request that starts a pipeline, one thing at a time."""

# ruff: noqa: S311 - every run follows from its seed

import asyncio
from random import Random

import pytest

from chain.world import edge, external, image, project
from imagechain.service.acting import Acting
from imagechain.service.loop import LEASE_SECONDS
from imagechain.store import Hint
from sim.scenes import assert_at_rest, come_to_rest
from sim.twins import WAIT_SECONDS_MAX
from sim.virtual import run_virtual
from sim.world import POLICY, Faults, Gate, World


async def begin(world: World) -> None:
    """Build everything once, and let a service look at it."""
    for name in world.project_id:
        world.start(name, "push", seconds=1.0, outcome="success")
        await asyncio.sleep(2)
    world.launch()
    await asyncio.sleep(10)


async def move(world: World, name: str, content: str) -> None:
    """Give an external image new content, which is seen at once."""
    world.move(image(name), content)
    await acting_in(world).follower.read_images([image(name)])


async def lose_requests(world: World, count: int) -> None:
    """Let an image move, and so many requests get no answer: each starts a pipeline within a minute."""
    world.faults = Faults(late=1.0)
    await move(world, "base", "v1")
    while len(world.store.intents) < count:  # noqa: ASYNC110 - nobody tells; time is virtual
        await asyncio.sleep(0.1)
    await asyncio.sleep(WAIT_SECONDS_MAX + 1)
    world.faults = Faults()


async def begin_look(world: World, name: str, moved: str) -> Gate:
    """Begin, let an image move, and a project be looked at for that; the answer is under way."""
    await begin(world)
    world.gates[name] = gate = Gate()
    await move(world, moved, "v1")
    await gate.is_reached.wait()
    return gate


def acting_in(world: World) -> Acting:
    acting = world.leader._acting
    assert acting is not None
    return acting


def started(world: World) -> list[str]:
    return [job.source for job in world.jobs.values() if job.by_service]


def alone(**options: object) -> World:
    return World([external("base"), project("a")], [edge("a", image("base"))], Random(1), **options)  # type: ignore[arg-type]


def two() -> World:
    edges = [edge("a", image("base")), edge("b", image("base"))]
    return World([external("base"), project("a"), project("b")], edges, Random(1))


def diamond(**options: object) -> World:
    """The child is also built from something else, which can move before its parent."""
    sources = [external("base"), external("other"), project("p"), project("c")]
    edges = [edge("p", image("base")), edge("c", "p"), edge("c", image("other"))]
    return World(sources, edges, Random(3), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["its list hangs", "its list fails", "its start fails"])
def test_projects_on_which_gitlab_hangs_or_fails_hold_up_no_other(fault: str) -> None:
    """Also when they are more than may build at once, and would go first."""
    failing = [f"a{number}" for number in range(8 * POLICY.builds_max)]

    async def hanging(world: World) -> None:
        for name in world.project_id:
            world.start(name, "push", seconds=1.0)
            await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(10)
        world.trouble = dict.fromkeys(failing, fault)
        world.move(image("base"), "v1")
        await asyncio.sleep(1_800)
        assert [job.source for job in world.jobs.values() if job.by_service] == ["b", "c"]
        known = await world.leader.known()
        assert known is not None
        assert set(known.failing) == set(failing)
        world.trouble.clear()
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    # What has more above it goes first.
    sources = [external("base"), *map(project, [*failing, "above", "b", "c"])]
    edges = [*(edge(name, image("base")) for name in [*failing, "b"]), edge("c", "b")]
    edges += [edge("above", name) for name in failing]
    run_virtual(hanging(World(sources, edges, Random(1))))


def test_a_webhook_that_comes_before_the_answer_tells_the_same_cause_and_cascade() -> None:
    async def overtaken(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(10)
        # The pipeline is made, its webhook comes at once; the answer never does.
        world.faults = Faults(unsure=1.0)
        world.move(image("base"), "v1")
        while not world.jobs[len(world.jobs)].by_service:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)
        world.faults = Faults()
        await asyncio.sleep(1)
        (row,) = [row for row in world.store.rows.values() if row.status == "running"]
        assert "moved" in row.cause
        assert row.cascade == "registry.test/base:latest v1"
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    run_virtual(overtaken(World([external("base"), project("a")], [edge("a", image("base"))], Random(1))))


def test_a_parent_that_is_built_while_its_child_is_looked_at_costs_one_build_of_the_child() -> None:
    """Also where images do not tell what they were built from."""

    async def built(world: World) -> None:
        gate = await begin_look(world, "c", "other")
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 45)
        assert started(world) == ["p"]
        gate.opened.set()
        await come_to_rest(world)
        assert started(world) == ["p", "c"]
        await world.stop()

    run_virtual(built(diamond(unlabelled=frozenset({"c"}))))


def test_a_child_that_is_looked_at_already_waits_for_a_lost_request_of_its_parent() -> None:
    async def lost(world: World) -> None:
        gate = await begin_look(world, "c", "other")
        await move(world, "base", "v1")
        world.faults = Faults(late=1.0)
        while not world.store.intents:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(0.1)
        # It is not known yet that the answer will not come.
        await asyncio.sleep(10)
        world.faults = Faults()
        lost_requests.extend(world.asked)
        world.start("p", "push", seconds=1.0, outcome="success")
        await asyncio.sleep(5)
        gate.opened.set()
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    lost_requests: list[str] = []
    for seed in range(8):
        world = diamond()
        world.random = Random(seed)
        run_virtual(lost(world))
    assert len(lost_requests) >= 4


def test_an_image_that_moves_while_it_is_looked_is_still_before_anything_starts() -> None:
    async def moved(world: World) -> None:
        gate = await begin_look(world, "a", "base")
        await move(world, "base", "v2")
        at = world.now()
        gate.opened.set()
        await come_to_rest(world)
        assert started(world) == ["a"]
        assert world.jobs[len(world.jobs)].pipeline.created_at >= at + POLICY.quiet_seconds
        await world.stop()

    run_virtual(moved(alone()))


def test_a_pipeline_that_a_person_cancels_while_it_is_looked_is_not_started_anew() -> None:
    async def cancelled(world: World) -> None:
        gate = await begin_look(world, "a", "base")
        job = world.start("a", "push", seconds=100.0)
        await asyncio.sleep(2)
        world.cancel(job)
        await asyncio.sleep(2)
        gate.opened.set()
        await come_to_rest(world)
        assert started(world) == []
        await world.stop()

    run_virtual(cancelled(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, 30.0])
def test_who_asks_for_a_build_while_it_is_looked_gets_one(ahead_seconds: float) -> None:
    """Whatever GitLab's clock says."""

    async def asked(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        gate = await begin_look(world, "a", "base")
        await world.store.add_hint(Hint(kind="rebuild", source="a"), "asked", 0.0)
        await asyncio.sleep(5)
        gate.opened.set()
        await come_to_rest(world)
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(asked(alone()))


def test_a_project_that_is_renamed_while_it_is_looked_at_stops_nothing() -> None:
    async def renamed(world: World) -> None:
        gate = await begin_look(world, "a", "base")
        acting = acting_in(world)
        world.paths["a"] = "elsewhere/a"
        await acting.reconciler.scan()
        gate.opened.set()
        await come_to_rest(world)
        assert_at_rest(world)
        assert started(world) == ["a"]
        assert world.leader._acting is acting
        await world.stop()

    run_virtual(renamed(alone()))


def test_a_default_branch_that_changes_while_it_is_looked_at_is_what_is_built() -> None:
    async def changed(world: World) -> None:
        gate = await begin_look(world, "a", "base")
        acting = acting_in(world)
        world.branch = "trunk"
        await acting.reconciler.scan()
        gate.opened.set()
        await come_to_rest(world)
        assert started(world) == ["a"]
        assert not [row for row in world.store.rows.values() if row.id.startswith("refused")]
        await world.stop()

    run_virtual(changed(alone()))


def test_a_project_that_takes_the_path_of_one_that_is_looked_at_is_another_one() -> None:
    async def taken(world: World) -> None:
        await begin(world)
        world.gates |= {"a": Gate(), "b": Gate()}
        acting = acting_in(world)
        await move(world, "base", "v1")
        await world.gates["a"].is_reached.wait()
        world.paths |= {"a": "z", "b": "a"}
        await acting.reconciler.scan()
        for gate in world.gates.values():
            gate.opened.set()
        await come_to_rest(world)
        assert_at_rest(world)
        assert sorted(started(world)) == ["a", "b"]
        await world.stop()

    run_virtual(taken(two()))


def test_projects_whose_paths_move_up_while_requests_for_them_are_open_are_built_once() -> None:
    async def moved(world: World) -> None:
        await begin(world)
        acting = acting_in(world)
        await lose_requests(world, 2)
        world.paths |= {"a": "b", "b": "c"}
        await acting.reconciler.scan()
        await come_to_rest(world)
        assert_at_rest(world)
        assert sorted(started(world)) == ["a", "b"]
        assert world.leader._acting is acting
        await world.stop()

    for seed in range(6):
        world = two()
        world.random = Random(seed)
        run_virtual(moved(world))


def test_a_project_that_leaves_while_a_request_for_it_is_open_and_returns_elsewhere_is_built_once() -> None:
    async def returned(world: World) -> None:
        await begin(world)
        await lose_requests(world, 1)
        world.gone.add("a")
        await acting_in(world).reconciler.scan()
        world.gone.clear()
        world.paths["a"] = "z"
        await acting_in(world).reconciler.run()
        await come_to_rest(world)
        assert_at_rest(world)
        assert started(world) == ["a"]
        await world.stop()

    for seed in range(8):
        world = alone()
        world.random = Random(seed)
        run_virtual(returned(world))


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_who_takes_the_path_of_a_project_is_not_held_up_by_a_lost_request_for_that(
    leaves: bool, at_once: bool
) -> None:
    """And that project is built once, whether it left in between or was renamed."""

    async def taken(world: World) -> None:
        await begin(world)
        scan = acting_in(world).reconciler.scan
        world.gates["b"] = Gate()
        await lose_requests(world, 1)
        world.paths["a"] = "z"
        if leaves:
            world.gone.add("a")
        if not at_once:
            await scan()
        world.paths["b"] = "a"
        await scan()
        world.gates["b"].opened.set()
        await asyncio.sleep(WAIT_SECONDS_MAX + 5)
        assert "b" in started(world)
        world.gone.clear()
        await acting_in(world).reconciler.run()
        await come_to_rest(world)
        assert_at_rest(world)
        assert sorted(started(world)) == ["a", "b"]
        await world.stop()

    for seed in range(8):
        world = two()
        world.random = Random(seed)
        run_virtual(taken(world))


@pytest.mark.parametrize("refusals", [{}, {"a": "403 Forbidden"}])
def test_an_answer_for_a_project_that_left_is_none_for_who_took_its_path(refusals: dict[str, str]) -> None:
    async def answered(world: World) -> None:
        await begin(world)
        world.gates["b"] = Gate()
        world.refusals |= refusals
        await move(world, "base", "v1")
        while not world.store.intents:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(0.01)
        world.gone.add("a")
        world.paths["b"] = "a"
        await acting_in(world).reconciler.scan()
        world.gates["b"].opened.set()
        await come_to_rest(world)
        assert_at_rest(world)
        assert started(world)[-1] == "b"
        await world.stop()

    for seed in range(8):
        world = two()
        world.random = Random(seed)
        run_virtual(answered(world))


def test_what_a_look_finds_of_a_project_that_was_renamed_is_no_build_of_who_took_its_path() -> None:
    async def found(world: World) -> None:
        await begin(world)
        world.gates["b"] = Gate()
        world.trouble = {"a": "its start fails"}
        await move(world, "base", "v1")
        while not world.store.intents:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(0.1)
        world.faults = Faults(hook_lost=1.0)
        world.start("a", "api", seconds=300.0)
        world.faults = Faults()
        world.gates["a"] = gate = Gate()
        await gate.is_reached.wait()
        world.paths |= {"a": "z", "b": "a"}
        world.trouble = {}
        await acting_in(world).reconciler.scan()
        for gate in world.gates.values():
            gate.opened.set()
        await asyncio.sleep(WAIT_SECONDS_MAX + 5)
        assert started(world) == ["a", "b"]
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    run_virtual(found(two()))


def test_a_project_that_leaves_while_it_is_looked_at_stops_nothing() -> None:
    async def left(world: World) -> None:
        gate = await begin_look(world, "a", "base")
        acting = acting_in(world)
        world.gone.add("a")
        await acting.reconciler.scan()
        gate.opened.set()
        await come_to_rest(world)
        assert started(world) == ["b"]
        assert world.leader._acting is acting
        await world.stop()

    run_virtual(left(two()))


@pytest.mark.parametrize("ahead_seconds", [0.0, -100.0])
def test_what_gitlab_refuses_is_asked_once_whatever_its_clock_says(ahead_seconds: float) -> None:
    async def refused(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        world.start("a", "push", seconds=1.0, outcome="success")
        await asyncio.sleep(10)
        world.refusals["a"] = "403 Forbidden"
        await move(world, "base", "v1")
        await come_to_rest(world)
        assert len([row for row in world.store.rows.values() if row.id.startswith("refused")]) == 1
        await world.stop()

    run_virtual(refused(alone()))


@pytest.mark.parametrize(
    ("then", "seconds", "why"), [({}, 1.0, "502"), ({"a": "its list fails"}, 300.0, "500")]
)
def test_status_names_a_project_that_may_have_been_started(
    then: dict[str, str], seconds: float, why: str
) -> None:
    async def unanswered(world: World) -> None:
        await begin(world)
        world.trouble = {"a": "its start fails"}
        await move(world, "base", "v1")
        while not world.store.intents:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        world.trouble = then
        await asyncio.sleep(seconds)
        known = await world.leader.known()
        assert known is not None
        assert why in known.failing["a"]
        await world.stop()

    run_virtual(unanswered(alone()))


def test_a_look_from_before_it_is_certain_settles_nothing_when_its_answer_comes_late() -> None:
    async def answered(world: World) -> None:
        await begin(world)
        world.faults = Faults(late=1.0, hook_lost=1.0)
        await move(world, "base", "v1")
        while not world.asked:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(0.1)
        await asyncio.sleep(10)
        world.faults = Faults(hook_lost=1.0)
        world.start("p", "push", seconds=1.0, outcome="success")
        # Each answer takes until long after nothing can start any more.
        world.gates["p"] = gate = Gate()
        await gate.is_reached.wait()
        await asyncio.sleep(100)
        world.faults = Faults()
        gate.opened.set()
        await come_to_rest(world)
        assert_at_rest(world)
        await world.stop()

    for seed in range(8):
        world = diamond()
        world.random = Random(seed)
        run_virtual(answered(world))


@pytest.mark.parametrize("is_labelled", [True, False])
def test_the_pipeline_of_a_stranger_from_before_a_change_is_no_build_of_it(is_labelled: bool) -> None:
    """Though it was started by the API, its webhook was lost, and the service is started anew meanwhile."""

    async def strange(world: World) -> None:
        await begin(world)
        world.faults = Faults(hook_lost=1.0)
        world.trouble = {"a": "its list hangs"}
        world.start("a", "api", seconds=300.0, outcome="success").by_service = False
        await asyncio.sleep(1)
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 5)
        await world.stop()
        world.launch()
        world.trouble = {}
        await come_to_rest(world)
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(strange(alone(unlabelled=frozenset() if is_labelled else frozenset({"a"}))))


def test_projects_on_which_gitlab_hangs_hold_up_no_other_after_a_restart() -> None:
    failing = [f"a{number}" for number in range(POLICY.builds_max)]

    async def restarted(world: World) -> None:
        await begin(world)
        world.trouble = dict.fromkeys(failing, "its list hangs")
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 5)
        await world.stop()
        world.launch()
        await asyncio.sleep(LEASE_SECONDS + 15)
        await move(world, "other", "v1")
        await asyncio.sleep(600)
        assert started(world) == ["b"]
        await world.stop()

    sources = [external("base"), external("other"), *map(project, [*failing, "b"])]
    edges = [*(edge(name, image("base")) for name in failing), edge("b", image("other"))]
    run_virtual(restarted(World(sources, edges, Random(1))))


def test_who_asks_for_a_project_that_is_put_off_does_not_wait() -> None:
    async def asked(world: World) -> None:
        await begin(world)
        world.trouble = {"a": "its list fails"}
        await move(world, "base", "v1")
        await asyncio.sleep(1_000)
        acting = acting_in(world)
        put_off = acting.starter._put_off
        while put_off["a"].until < acting.clock.now() + 100:  # noqa: ASYNC110 - nobody tells; time is virtual
            await asyncio.sleep(1)
        world.trouble = {}
        await world.store.add_hint(Hint(kind="rebuild", source="a"), "asked", 0.0)
        await asyncio.sleep(20)
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(asked(alone()))


def test_who_asks_for_a_build_of_an_empty_repository_gets_none_and_stops_nothing() -> None:
    async def asked(world: World) -> None:
        await begin(world)
        world.empty.add("a")
        await world.store.add_hint(Hint(kind="reconcile"), "emptied", 0.0)
        await asyncio.sleep(5)
        await world.store.add_hint(Hint(kind="rebuild", source="a"), "asked", 0.0)
        await asyncio.sleep(5)
        calls = world.calls
        await asyncio.sleep(300)
        assert started(world) == []
        # The inbox is read each second.
        assert world.calls < calls + 1_000
        await world.stop()

    run_virtual(asked(alone()))
