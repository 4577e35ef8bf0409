"""Clocks that are wrong, and are put right: those of machines, and GitLab's. Nothing is decided by them."""

# ruff: noqa: S311

import asyncio
from random import Random

import msgspec
import pytest

from chain.world import edge, external, image, project
from imagechain.chain import status
from imagechain.store import Hint
from imagechain.store.history import _cascade
from imagechain.web.metrics import _lags, _of_sources
from sim.scenes import come_to_rest
from sim.test_starts import acting_in, alone, begin, diamond, move, started, two
from sim.virtual import run_virtual
from sim.world import POLICY, Faults, World

DAY = 86_400.0


async def restart(world: World, ahead_seconds: float) -> None:
    await world.stop()
    world.ahead_seconds = ahead_seconds
    world.launch()
    await asyncio.sleep(60)


async def ask(world: World, kind: str, source: str | None, key: str) -> None:
    await world.store.add_hint(Hint(kind=kind, source=source), key, 0.0)  # type: ignore[arg-type]
    await asyncio.sleep(5)


# --- a machine's clock that was a day ahead, and is right after a restart -----------------------------------


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_pause_is_not_passed_over_because_an_earlier_one_ended_while_the_clock_was_ahead(
    ahead_seconds: float,
) -> None:
    async def paused(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        await asyncio.sleep(3_600)
        await ask(world, "pause", "a", "1")
        await ask(world, "resume", "a", "2")
        await restart(world, 0.0)
        await ask(world, "pause", "a", "3")
        chain = acting_in(world).knowledge.chain
        assert chain.facts.pauses
        await move(world, "base", "v1")
        await asyncio.sleep(600)
        assert started(world) == []
        await world.stop()

    run_virtual(paused(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_failed_build_is_tried_again_soon_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def failed(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, retry_seconds=(36_000.0, 300.0))
        await begin(world)
        await move(world, "base", "v1")
        await asyncio.sleep(36_000 + 200)
        assert started(world) == ["a", "a"]
        await restart(world, 0.0)
        await asyncio.sleep(3_600)
        assert started(world) == ["a", "a", "a"]
        await world.stop()

    run_virtual(failed(alone(broken=frozenset({"a"}))))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_others_are_started_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def failed(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, retry_seconds=(36_000.0,), starts_per_minute_max=1)
        await begin(world)
        await move(world, "base", "v1")
        await asyncio.sleep(36_000 + 200)
        assert started(world) == ["a", "a"]
        await restart(world, 0.0)
        await move(world, "other", "v1")
        await asyncio.sleep(3_600)
        assert started(world) == ["a", "a", "b"]
        await world.stop()

    sources = [external("base"), external("other"), project("a"), project("b")]
    edges = [edge("a", image("base")), edge("b", image("other"))]
    run_virtual(failed(World(sources, edges, Random(1), broken=frozenset({"a"}))))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_staleness_grows_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def grows(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        await restart(world, 0.0)
        await ask(world, "pause", "a", "1")
        await move(world, "base", "v1")
        await asyncio.sleep(3_600)
        chain = acting_in(world).knowledge.chain
        # `/metrics` and `explain` are given the machine's clock.
        _, family = _of_sources(status(chain), world.leader._ports.clock.now())
        (sample,) = family.samples
        assert sample.value > 3_000.0
        await world.stop()

    run_virtual(grows(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_persons_retry_counts_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def failed(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        world.refusals["a"] = "403 Forbidden"
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 30)
        # Ten hours later somebody pushes, and cancels that.
        await asyncio.sleep(36_000)
        await asyncio.sleep(2)
        job = world.start("a", "push", seconds=100.0)
        await asyncio.sleep(5)
        world.cancel(job)
        await asyncio.sleep(5)
        world.refusals.clear()
        await restart(world, 0.0)
        await ask(world, "retry", "a", "1")
        await asyncio.sleep(600)
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(failed(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_build_that_hangs_is_overdue_in_time_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def hangs(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, build_max_seconds=600.0)
        await begin(world)
        await asyncio.sleep(36_000)
        world.start("a", "push", seconds=1e6)
        await asyncio.sleep(10)
        await restart(world, 0.0)
        await asyncio.sleep(1_200)
        chain = acting_in(world).knowledge.chain
        assert not chain.facts.states[chain.graph.number_of("a")].runs
        await world.stop()

    run_virtual(hangs(alone()))


@pytest.mark.parametrize(("ahead_seconds", "then"), [(0.0, 0.0), (-DAY, 0.0), (0.0, DAY)])
def test_a_build_that_just_began_is_not_overdue_after_the_clock_is_put_right(
    ahead_seconds: float, then: float
) -> None:
    """The machine began with a clock a day behind, or a replica whose clock is a day ahead takes over."""

    async def runs(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, build_max_seconds=3_600.0)
        await begin(world)
        world._run = lambda job, seconds: world.announce(job)  # type: ignore[method-assign]  # noqa: ARG005
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 60)
        assert started(world) == ["a"]
        await restart(world, then)
        await asyncio.sleep(600)
        assert not world.complaints
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(runs(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, -DAY])
def test_children_wait_as_long_as_they_should_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def waits(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, hold_max_seconds=3_600.0, retry_seconds=())
        await begin(world)
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 120)
        assert started(world) == ["p"]
        await move(world, "other", "v1")
        await restart(world, 0.0)
        await asyncio.sleep(600)
        assert started(world) == ["p"]
        await world.stop()

    run_virtual(waits(diamond(broken=frozenset({"p"}))))


# --- what we say of builds, and what GitLab says of them afterwards ----------------------------------------


@pytest.mark.parametrize("ahead_seconds", [0.0, 600.0, DAY])
def test_an_overdue_build_that_succeeds_after_all_is_taken_in(ahead_seconds: float) -> None:
    """`ahead_seconds`: GitLab's clock is that far behind ours."""

    async def late(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, build_max_seconds=100.0, retry_seconds=())
        await begin(world)
        world.start("a", "push", seconds=200.0, outcome="success")
        await asyncio.sleep(150)
        chain = acting_in(world).knowledge.chain
        state = chain.facts.states[chain.graph.number_of("a")]
        assert not state.runs
        await asyncio.sleep(400)
        last = state.last_build
        assert last is not None
        assert last.status == "success"
        await world.stop()

    run_virtual(late(alone(unlabelled=frozenset({"a"}))))


@pytest.mark.parametrize("ahead_seconds", [0.0, 600.0, DAY])
def test_a_retry_in_gitlab_after_a_refusal_is_noticed(ahead_seconds: float) -> None:
    async def retried(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        job = world.start("a", "push", seconds=1.0, outcome="failed")
        await asyncio.sleep(30)
        world.refusals["a"] = "403 Forbidden"
        await move(world, "base", "v1")
        await asyncio.sleep(POLICY.quiet_seconds + 30)
        world.retry(job)
        await asyncio.sleep(300)
        chain = acting_in(world).knowledge.chain
        state = chain.facts.states[chain.graph.number_of("a")]
        assert state.last_build is not None
        assert state.last_build.status == "success"
        assert f"{job.pipeline.id}.2" in state.ended
        await world.stop()

    run_virtual(retried(alone(unlabelled=frozenset({"a"}))))


@pytest.mark.parametrize("ahead_seconds", [0.0, -DAY])
def test_an_overdue_build_is_not_taken_for_one_that_was_retried(ahead_seconds: float) -> None:
    """`ahead_seconds`: GitLab's is a day ahead. It touches a pipeline when its jobs start."""

    async def overdue(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, build_max_seconds=600.0, retry_seconds=(0.0,))
        await begin(world)
        await move(world, "base", "v1")
        job = world.start("a", "push", seconds=1e6)
        await asyncio.sleep(5)
        job.pipeline = msgspec.structs.replace(job.pipeline, updated_at=world.now())
        await asyncio.sleep(1_800)
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(overdue(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, 10.0, 600.0, DAY])
def test_a_push_that_a_person_cancels_is_not_started_anew(ahead_seconds: float) -> None:
    """GitLab's clock is behind, so that the push seems to be from before the move."""

    async def cancelled(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        await move(world, "base", "v1")
        await asyncio.sleep(2)
        job = world.start("a", "push", seconds=100.0)
        await asyncio.sleep(5)
        world.cancel(job)
        await asyncio.sleep(600)
        assert started(world) == []
        await world.stop()

    run_virtual(cancelled(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, 600.0, DAY])
def test_a_push_that_fails_is_tried_again_after_the_wait(ahead_seconds: float) -> None:
    async def failed(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, retry_seconds=(1_800.0,))
        await begin(world)
        await move(world, "base", "v1")
        await asyncio.sleep(2)
        world.start("a", "push", seconds=30.0, outcome="failed")
        await asyncio.sleep(1_200)
        assert started(world) == []
        await world.stop()

    run_virtual(failed(alone()))


# --- GitLab's clock was ahead, and is put right ---------------------------------------------------------


@pytest.mark.parametrize("ahead_seconds", [0.0, 600.0, DAY])
def test_an_image_is_built_once_after_gitlabs_clock_is_put_right(ahead_seconds: float) -> None:
    async def put_right(world: World) -> None:
        world.gitlab_ahead_seconds = ahead_seconds
        await begin(world)
        world.gitlab_ahead_seconds = 0.0
        await asyncio.sleep(60)
        await move(world, "base", "v1")
        await asyncio.sleep(1_800)
        assert started(world) == ["a"]
        await world.stop()

    run_virtual(put_right(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_push_is_found_by_reconcile_after_gitlabs_clock_is_put_right(ahead_seconds: float) -> None:
    async def put_right(world: World) -> None:
        world.gitlab_ahead_seconds = ahead_seconds
        await begin(world)
        world.start("a", "push", seconds=1.0, outcome="success")
        await asyncio.sleep(300)
        world.gitlab_ahead_seconds = 0.0
        world.faults = Faults(hook_lost=1.0)
        await asyncio.sleep(60)
        world.start("a", "push", seconds=2_000.0)
        await asyncio.sleep(600)
        chain = acting_in(world).knowledge.chain
        assert chain.facts.states[chain.graph.number_of("a")].runs
        await world.stop()

    run_virtual(put_right(alone()))


# --- what is told to people ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_seconds", [0.0, -DAY])
def test_builds_without_webhooks_are_counted(ahead_seconds: float) -> None:
    async def unannounced(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        world.faults = Faults(hook_lost=1.0)
        for _ in range(4):
            world.start("a", "push", seconds=1.0, outcome="success")
            await asyncio.sleep(300)
        assert acting_in(world).reconciler.unannounced > 0
        await world.stop()

    run_virtual(unannounced(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_builds_whose_webhooks_are_seconds_late_are_not_counted(ahead_seconds: float) -> None:
    async def announced(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        world.faults = Faults(hook_lost=1.0)
        for _ in range(4):
            await asyncio.sleep(200)
            job = world.start("a", "push", seconds=1.0, outcome="success")
            await asyncio.sleep(2)
            # The pass comes before the webhook does.
            await acting_in(world).reconciler.run()
            hint = Hint(kind="pipeline", project_id=job.pipeline.project_id, pipeline_id=job.pipeline.id)
            await world.store.add_hint(hint, str(job.pipeline.id), 0.0)
            world.leader.wake()
        assert acting_in(world).reconciler.unannounced == 0
        await world.stop()

    run_virtual(announced(alone()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_cascade_with_a_refusal_lasts_minutes(ahead_seconds: float) -> None:
    async def refused(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        await begin(world)
        world.refusals["b"] = "403 Forbidden"
        await move(world, "base", "v1")
        await come_to_rest(world)
        rows = [row for row in world.store.rows.values() if row.cascade == f"{image('base')} v1"]
        assert len(rows) == 2
        (sample,) = _lags([_cascade("x", rows)]).samples
        assert sample.value < 600.0
        await world.stop()

    run_virtual(refused(two()))


@pytest.mark.parametrize("ahead_seconds", [0.0, DAY])
def test_a_cascade_with_an_overdue_build_lasts_minutes(ahead_seconds: float) -> None:
    async def overdue(world: World) -> None:
        world.ahead_seconds = ahead_seconds
        world.policy = msgspec.structs.replace(POLICY, build_max_seconds=300.0, retry_seconds=())
        await begin(world)
        world._run = lambda job, seconds: world.announce(job)  # type: ignore[method-assign]  # noqa: ARG005
        await move(world, "base", "v1")
        await asyncio.sleep(600)
        rows = [row for row in world.store.rows.values() if row.cascade == f"{image('base')} v1"]
        assert len(rows) == 1
        (sample,) = _lags([_cascade("x", rows)]).samples
        assert sample.value < 600.0
        await world.stop()

    run_virtual(overdue(alone()))
