"""What people and GitLab do to projects and pipelines while the service runs, on the whole service."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from imagechain.config import PolicySettings
from imagechain.config.values import Duration
from imagechain.service.ports import RefusedError
from imagechain.store import Hint
from service.test_whole import fresh, ready
from service.whole import CI, View, Whole, failure, store_at, until


def run(
    tmp_path: Path,
    act: Callable[[Whole, View], Awaitable[None]],
    policy: PolicySettings | None = None,
) -> Whole:
    """Do something to a base and an app, which are fresh."""
    whole = Whole(store_at(tmp_path))
    whole.policy = policy or whole.policy
    whole.add("base", "debian:bookworm")
    whole.add("app", "base")

    async def main() -> None:
        async with whole.serving() as service:
            await ready(service, whole, 3)
            await act(whole, service)

    asyncio.run(main())
    return whole


async def reconcile(service: View) -> None:
    """Have everything read again, and wait until it was."""
    store = service._ports.store
    await store.add_hint(Hint(kind="reconcile"), f"test {time.time()}", time.time())
    service.wake()
    for _ in range(1_500):
        if not any(one.hint.kind == "reconcile" for one in await store.hints(1_000)):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nothing was read again")


def test_a_pipeline_that_somebody_just_retried_is_found_before_another_is_started(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.failing = {"app"}
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: shown["images/app"].state == "failed")
        first = whole.gitlab.latest_pipeline("images/app")
        whole.failing, whole.is_busy = set(), True
        await asyncio.sleep(1.1)  # GitLab's lists tell whole seconds.
        whole.gitlab.pipelines.retry(first)
        # The hook of that is lost.
        whole.gitlab.hooks._queue.clear()
        await service._ports.store.add_hint(Hint(kind="retry", source="images/app"), "retry", time.time())
        service.wake()
        shown = await until(service, lambda shown: shown["images/app"].state == "building")
        assert _last(shown["images/app"]) == (f"{first.id}.2", "running")
        assert whole.gitlab.latest_pipeline("images/app") is first

    run(tmp_path, act)


def test_when_a_push_cancels_our_pipeline_the_one_of_the_push_is_the_build(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.is_busy = True
        whole.gitlab.push("images/app", {"more": "text"})
        first = whole.gitlab.latest_pipeline("images/app")
        await until(service, lambda shown: shown["images/app"].state == "building")
        # As GitLab does it for pipelines of one branch: the newer one is made, the older one cancelled. The
        # hook of the newer one is lost.
        whole.gitlab.push("images/app", {"more": "other text"})
        whole.gitlab.hooks._queue.clear()
        whole.gitlab.pipelines.cancel(first)
        second = whole.gitlab.latest_pipeline("images/app")
        shown = await until(service, lambda shown: _last(shown["images/app"]) == (str(second.id), "running"))
        assert shown["images/app"].state == "building"
        whole.is_busy = False
        await until(service, lambda shown: _last(shown["images/app"]) == (str(second.id), "success"))
        rows = await service._ports.store.builds(9, "images/app")
        assert [(row.id, row.status) for row in rows] == [
            (str(second.id), "success"),
            (str(first.id), "superseded"),
        ]

    run(tmp_path, act)


def _last(shown: object) -> tuple[str, str]:
    last = shown.last_build  # type: ignore[attr-defined]
    return ("", "") if last is None else (last.id, last.status)


def test_what_a_person_cancels_is_held_until_a_person_retries_it(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.last = "base"
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: shown["images/app"].state == "building")
        whole.gitlab.pipelines.cancel(whole.gitlab.latest_pipeline("images/app"))
        whole.is_busy = False
        await until(service, lambda shown: _last(shown["images/app"])[1] == "cancelled")
        # Longer than all retries of a build that failed take.
        await asyncio.sleep(2)
        await until(service, lambda shown: shown["images/app"].state == "failed")
        assert "its pipeline was cancelled" in failure(service, "images/app")
        assert len(whole.gitlab.project("images/app").pipelines) == 1
        await service._ports.store.add_hint(Hint(kind="retry", source="images/app"), "retry", time.time())
        service.wake()
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
        assert len(whole.gitlab.project("images/app").pipelines) == 2

    run(tmp_path, act, PolicySettings(retry=(Duration(0), Duration(0.5))))


def test_what_fails_is_retried_and_then_held(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.failing = {"app"}
        whole.gitlab.push("images/base", {"more": "text"})
        pipelines = whole.gitlab.project("images/app").pipelines
        await until(service, lambda shown: shown["images/app"].state == "failed" and len(pipelines) == 3)
        await asyncio.sleep(1)
        assert len(pipelines) == 3

    run(tmp_path, act, PolicySettings(retry=(Duration(0), Duration(0.5))))


def test_a_push_that_skips_ci_is_no_build(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.push("images/app", {"more": "text"}, message="Mend a word [skip ci]")
        assert whole.gitlab.latest_pipeline("images/app").status == "skipped"
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
        assert len(await service._ports.store.builds(9, "images/app")) == 1

    run(tmp_path, act)


def test_a_wrong_ci_configuration_is_a_failed_build_that_names_what_is_wrong(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.push("images/app", {".gitlab-ci.yml": "build: {script: 1}\nbuild2: [\n"})
        assert whole.gitlab.latest_pipeline("images/app").status == "failed"
        shown = await until(service, lambda shown: _last(shown["images/app"])[1] == "failed")
        # Its image is what it should be still.
        assert shown["images/app"].state == "fresh"
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: shown["images/app"].state == "failed")
        assert ".gitlab-ci.yml:3: not YAML" in failure(service, "images/app")
        assert "the CI configuration is not valid; mend it" in failure(service, "images/app")
        whole.gitlab.push("images/app", {".gitlab-ci.yml": CI})
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])

    run(tmp_path, act)


def test_a_group_that_shows_no_project_any_more_is_not_believed_also_after_a_restart(
    tmp_path: Path,
) -> None:
    known = {"docker.io/library/debian:bookworm", "images/base", "images/app"}
    whole = Whole(store_at(tmp_path), enterprise=False)

    async def main() -> None:
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
            for project in whole.gitlab.state.projects.values():
                project.archived = True
            await reconcile(service)
            assert set(await until(service, bool)) == known
        async with whole.serving() as service:
            assert set(await until(service, bool)) == known
            scan = service._ports.forge.scan
            with pytest.raises(RefusedError, match=r"no project at all in images; check gitlab\.groups"):
                await scan()
            assert len(whole.gitlab.state.hooks) == 2
            whole.gitlab.project("images/base").archived = False
            assert len((await scan()).projects) == 1

    asyncio.run(main())


def test_a_moved_project_keeps_its_history(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.push("images/app", {"more": "text"})
        await until(service, lambda shown: _last(shown["images/app"])[1] == "success")
        (before,) = await service._ports.store.builds(9, "images/app")
        whole.images[whole.reference("web") + ":latest"] = whole.images[whole.reference("app") + ":latest"]
        whole.gitlab.move_project("images/app", "images/web")
        await reconcile(service)
        shown = await until(service, lambda shown: "images/web" in shown)
        assert "images/app" not in shown
        assert shown["images/web"].state == "fresh"
        assert _last(shown["images/web"]) == (before.id, "success")
        # It is shown a moment before it is written.
        for _ in range(100):
            if await service._ports.store.builds(9, "images/web"):
                break
            await asyncio.sleep(0.02)
        (after,) = await service._ports.store.builds(9, "images/web")
        assert (after.id, after.started_at) == (before.id, before.started_at)
        assert await service._ports.store.builds(9, "images/app") == []
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: fresh(shown) and whole.built == ["app", "base", "web"])

    run(tmp_path, act)


@pytest.mark.parametrize("is_building", [True, False])
def test_a_renamed_default_branch_is_the_same_source_and_its_running_build_ends(
    tmp_path: Path, is_building: bool
) -> None:
    async def act(whole: Whole, service: View) -> None:
        if is_building:
            whole.is_busy = True
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: shown["images/base"].state == "building")
        project = whole.gitlab.project("images/base")
        whole.gitlab.repositories.rename_default_branch(project, "trunk")
        await reconcile(service)
        for _ in range(500):
            known = await service.known()
            if known is not None and any(one.ref == "trunk" for one in known.scan.projects):
                break
            await asyncio.sleep(0.02)
        whole.is_busy = False
        if is_building:
            await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
        whole.gitlab.push("images/base", {"more": "other text"})
        expected = ["base", "app"] * (1 + is_building)
        await until(service, lambda shown: fresh(shown) and whole.built == expected)

    run(tmp_path, act)


def test_another_branch_is_a_source_of_its_own_whose_move_starts_pipelines_of_that_branch(
    tmp_path: Path,
) -> None:
    whole = Whole(store_at(tmp_path))
    whole.branches = ("next",)
    whole.add("base", "debian:bookworm")
    whole.add("app", "base")
    whole.gitlab.push("images/base", {"more": "text"}, branch="next")
    containerfile = f"FROM {whole.reference('base')}:next\n"
    whole.gitlab.push("images/app", {"Containerfile": containerfile}, branch="next")

    async def main() -> None:
        await whole.gitlab.run_jobs()
        async with whole.serving() as service:
            await ready(service, whole, 5)
            whole.built.clear()
            whole.gitlab.push("images/base", {"more": "other text"}, branch="next")
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2)
            assert whole.built == ["base@next", "app@next"]
            whole.gitlab.push("images/base", {"more": "text of main"})
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 4)
            assert whole.built[2:] == ["base", "app"]

    asyncio.run(main())
    started = [one for one in whole.gitlab.project("images/app").pipelines.values() if one.source == "api"]
    assert [one.ref for one in started] == ["next", "main"]


def test_the_pipeline_of_a_tag_is_no_build_but_the_image_that_it_pushes_counts(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        base = whole.gitlab.project("images/base")
        whole.gitlab.repositories.tag(base, "v1", "main", user=whole.gitlab.root)
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
        assert await service._ports.store.builds(9, "images/base") == []

    run(tmp_path, act)


def test_after_a_restart_builds_are_counted_to_their_cascade(tmp_path: Path) -> None:
    whole = Whole(store_at(tmp_path))
    whole.add("base", "debian:bookworm")
    whole.add("middle", "base")
    whole.add("app", "middle")

    async def main() -> None:
        async with whole.serving() as service:
            await ready(service, whole, 4)
            whole.last = "base"
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: shown["images/middle"].state == "building")
        whole.is_busy = False
        async with whole.serving() as service:
            await until(service, lambda shown: fresh(shown) and len(whole.built) == 3)
            (cascade,) = await service._ports.store.cascades(9)
        assert {row.source for row in cascade.builds} == {"images/middle", "images/app"}

    asyncio.run(main())


def test_a_hook_of_a_group_speaks_for_its_projects_only(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        number = whole.gitlab.project("images/app").id
        store = service._ports.store
        for group, is_heard in (("images/sub", False), ("image", False), ("images", True)):
            before = whole.client.requests_sent
            await store.add_hint(Hint(kind="push", project_id=number, group=group), group, time.time())
            service.wake()
            for _ in range(100):
                if not await store.hints(9):
                    break
                await asyncio.sleep(0.02)
            assert (whole.client.requests_sent > before) == is_heard, group

    run(tmp_path, act)


def test_what_one_hint_stands_for_is_found_after_the_burst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hooks themselves never come: a storm of them was folded into this one hint."""
    monkeypatch.setattr("imagechain.service.loop.BURST_SECONDS", 0.5)

    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
            store = service._ports.store
            base = whole.gitlab.project("images/base").id
            # Stored while the storm goes on; what it is about comes later.
            await store.add_hint(Hint(kind="burst", project_id=base), "storm", time.time())
            await asyncio.sleep(0.2)
            assert len(await store.hints(10)) == 1
            whole.gitlab.state.hooks.clear()
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda _: len(whole.built) >= 2)
            assert whole.built == ["base", "app"]

    asyncio.run(main())
