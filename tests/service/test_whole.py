"""The service beside the simulated GitLab: hooks come by HTTP, pipelines are started by its API."""

import asyncio
from pathlib import Path

from imagechain.chain import SourceStatus
from service.whole import View, Whole, store_at, until


def fresh(shown: dict[str, SourceStatus]) -> bool:
    return all(one.state in {"fresh", "inactive"} for one in shown.values())


async def ready(service: View, whole: Whole, count: int) -> None:
    """Wait for the first reconcile, and for the webhooks."""
    await until(service, lambda shown: len(shown) >= count and fresh(shown))
    hooks = whole.gitlab.state.hooks
    for _ in range(500):
        if any(hook.group for hook in hooks.values()) or len(hooks) >= len(whole.gitlab.state.projects):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no webhooks")


def test_a_push_to_the_base_builds_what_is_built_from_it_in_order_and_once(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("left", "base")
        whole.add("right", "base")
        whole.add("app", "left", "right")
        async with whole.serving() as service:
            await ready(service, whole, 5)
            assert whole.built == []
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 4)
            assert whole.built[0] == "base"
            assert sorted(whole.built[1:3]) == ["left", "right"]
            assert whole.built[3:] == ["app"]
            pipeline = whole.gitlab.latest_pipeline("images/app")
            variables = {variable.key: variable.value for variable in pipeline.variables}
            assert "moved" in variables["IMAGECHAIN_CAUSE"]

    asyncio.run(main())


def test_where_a_project_allows_no_variables_its_pipeline_is_started_without(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path), pipeline_variables_role="no_one_allowed")
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2)
            assert whole.built == ["base", "app"]
            assert not whole.gitlab.latest_pipeline("images/app").variables

    asyncio.run(main())


def test_in_the_free_edition_each_project_has_a_hook_and_in_the_others_the_group(tmp_path: Path) -> None:
    async def main(*, enterprise: bool) -> list[tuple[bool, bool]]:
        folder = tmp_path / str(enterprise)
        folder.mkdir()
        whole = Whole(store_at(folder), enterprise=enterprise)
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2)
            assert whole.built == ["base", "app"]
            assert service.unannounced == 0
        answers = {event.response_status for hook in whole.gitlab.state.hooks.values() for event in hook.log}
        assert answers == {"202"}
        return [(bool(hook.group), bool(hook.project)) for hook in whole.gitlab.state.hooks.values()]

    assert asyncio.run(main(enterprise=True)) == [(True, False)]
    assert asyncio.run(main(enterprise=False)) == [(False, True)] * 2


def test_a_failure_blocks_what_is_below_and_a_retry_in_gitlab_mends_it(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("middle", "base")
        whole.add("app", "middle")
        whole.failing = {"middle"}
        async with whole.serving() as service:
            await ready(service, whole, 4)
            whole.gitlab.push("images/base", {"more": "text"})
            shown = await until(service, lambda shown: shown["images/middle"].state == "failed")
            assert shown["images/app"].state == "blocked"
            assert shown["images/app"].blocked_by == ("images/middle",)
            whole.failing = set()
            pipeline = whole.gitlab.latest_pipeline("images/middle")
            whole.gitlab.pipelines.retry(pipeline)
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 3)
            assert whole.built == ["base", "middle", "app"]

    asyncio.run(main())


def test_a_restart_goes_on_and_a_lost_store_decides_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
        whole.gitlab.push("images/base", {"more": "text"})
        await whole.gitlab.run_jobs()
        assert whole.built == ["base"]
        # What happened meanwhile is found without any hook.
        async with whole.serving() as service:
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2)
        assert whole.built == ["base", "app"]
        whole.gitlab.push("images/base", {"more": "other text"})
        await whole.gitlab.run_jobs()
        (tmp_path / "imagechain.db").unlink()
        async with whole.serving() as service:
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 4)
        assert whole.built == ["base", "app", "base", "app"]

    asyncio.run(main())
