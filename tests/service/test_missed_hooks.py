"""Webhooks that do not come: it is counted and told, and a webhook that GitLab disabled is enabled again."""

import asyncio
from pathlib import Path
from random import Random

import httpx2
import pytest

from chain.world import edge, external, image, project
from imagechain.service.ports import ImageUnchecked
from imagechain.store import Hint
from imagechain.testing.hooks import FAILURES_FOR_GOOD, FAILURES_MAX
from service.test_bad_input import eventually, with_base_and_app
from service.test_changes_in_gitlab import reconcile
from service.test_whole import ready
from service.whole import View, Whole, store_at
from sim.virtual import run_virtual
from sim.world import Faults, World


@pytest.fixture(params=[0.0, 2.0])
def hooks_take_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait not a minute for webhooks: nothing, or longer than it takes until all was read again."""
    monkeypatch.setattr("imagechain.service.reconcile._ANNOUNCED_SECONDS_MAX", request.param)


@pytest.mark.usefixtures("hooks_take_seconds")
def test_builds_that_no_webhook_announced_are_all_counted_when_all_is_read_once_and_told(
    tmp_path: Path,
) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.state.faults.hook_drop = 1.0
        for count in range(5):
            whole.gitlab.push("images/app", {"more": f"text {count}"})
            await eventually(lambda: len(whole.built) == count + 1)  # noqa: B023
        known = await service.known()
        assert known is not None
        assert (known.unannounced, known.notices) == (0, ())
        await reconcile(service)
        await eventually(lambda: service.unannounced > 0)
        await eventually(lambda: service.unannounced == 5)
        known = await service.known()
        assert known is not None
        (notice,) = known.notices
        assert notice.startswith("webhooks do not arrive: 5 ended pipelines were found by reconcile only")
        await reconcile(service)
        assert service.unannounced == 5

    with_base_and_app(tmp_path, act)


def test_a_webhook_that_comes_after_its_pipeline_was_found_has_come() -> None:
    async def late(world: World) -> None:
        world.start("a", "push", seconds=1.0)
        await asyncio.sleep(2)
        world.launch()
        await asyncio.sleep(10)
        world.faults = Faults(hook_lost=1.0)
        jobs = [world.start("a", "push", seconds=1.0) for _ in range(3)]
        await asyncio.sleep(2)
        await world.store.add_hint(Hint(kind="reconcile"), "reconcile", world.now())
        await asyncio.sleep(10)
        for job in jobs[1:]:
            hint = Hint(kind="pipeline", project_id=1, pipeline_id=job.pipeline.id)
            await world.store.add_hint(hint, f"late {job.pipeline.id}", world.now())
        await asyncio.sleep(40)
        # That of the first may come still.
        assert world.leader.unannounced == 0
        await asyncio.sleep(200)
        assert world.leader.unannounced == 1
        await world.stop()

    random = Random(1)  # noqa: S311 - the run follows from its seed
    run_virtual(late(World([external("base"), project("a")], [edge("a", image("base"))], random)))


def test_a_build_whose_images_cannot_be_read_is_not_without_webhook_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.service.reconcile._ANNOUNCED_SECONDS_MAX", 0.0)

    async def down(*_: object) -> ImageUnchecked:
        return ImageUnchecked("503", retry_after_seconds=0.1)

    async def act(whole: Whole, service: View) -> None:
        monkeypatch.setattr(Whole, "read", down)
        whole.gitlab.push("images/base", {"more": "text"})
        acting = service._acting
        assert acting is not None
        await eventually(lambda: "images/base" in acting.follower.unseen.sources)
        await reconcile(service)
        assert service.unannounced == 0

    with_base_and_app(tmp_path, act)


# --- webhooks that GitLab disabled ------------------------------------------------------------------------


@pytest.mark.parametrize("enterprise", [False, True], ids=["of a project", "of a group"])
@pytest.mark.parametrize("expected", ["temporarily_disabled", "disabled"])
def test_a_webhook_that_gitlab_disabled_while_the_service_was_away_is_enabled_at_its_start(
    tmp_path: Path, *, enterprise: bool, expected: str
) -> None:
    whole = Whole(store_at(tmp_path), enterprise=enterprise)
    whole.add("base", "debian:bookworm")
    whole.add("app", "base")
    hooks = whole.gitlab.state.hooks

    def standings() -> list[str]:
        return [whole.gitlab.hooks.alert_status(hook) for hook in hooks.values()]

    async def main() -> None:
        async with whole.serving() as service:
            await ready(service, whole, 3)
            count = len(hooks)
        whole.gitlab.hooks.transport = httpx2.MockTransport(lambda _: httpx2.Response(502))
        for number in range(FAILURES_MAX + 1):
            whole.gitlab.push("images/app", {"more": f"text {number}"})
            await whole.gitlab.run_jobs()
            await whole.gitlab.hooks.deliver()
        (disabled,) = (hook for hook in hooks.values() if hook.recent_failures)
        if expected == "disabled":
            disabled.recent_failures = FAILURES_FOR_GOOD
        assert whole.gitlab.hooks.alert_status(disabled) == expected
        async with whole.serving():
            await eventually(lambda: standings() == ["executable"] * count)
            whole.gitlab.push("images/app", {"more": "other text"})
            await eventually(lambda: len(whole.built) == FAILURES_MAX + 2)

    asyncio.run(main())


def test_a_webhook_that_gitlab_disables_is_enabled_as_soon_as_something_is_found_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.service.reconcile._ANNOUNCED_SECONDS_MAX", 0.0)

    async def act(whole: Whole, service: View) -> None:
        app = whole.gitlab.project("images/app").id
        (disabled,) = (hook for hook in whole.gitlab.state.hooks.values() if hook.project == app)
        disabled.recent_failures = FAILURES_FOR_GOOD
        whole.gitlab.push("images/app", {"more": "text"})
        await eventually(lambda: whole.built == ["app"])
        assert whole.gitlab.hooks.alert_status(disabled) == "disabled"
        await reconcile(service)
        await eventually(lambda: whole.gitlab.hooks.alert_status(disabled) == "executable")

    with_base_and_app(tmp_path, act)
