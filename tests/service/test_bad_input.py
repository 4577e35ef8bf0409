"""What the service does about what it is given: tokens, roles, projects and registries that are not right."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from imagechain.chain import SourceStatus
from imagechain.cli.main import run as run_command
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked
from imagechain.store import Hint, open_store
from imagechain.testing import Role
from service.program import free_port, gitlab_with_projects, write_settings
from service.test_changes_in_gitlab import reconcile
from service.test_whole import fresh, ready
from service.whole import View, Whole, failure, store_at, until

Act = Callable[[Whole, View], Awaitable[None]]


def with_base_and_app(tmp_path: Path, act: Act, prepare: Callable[[Whole], None] = lambda _: None) -> Whole:
    whole = Whole(store_at(tmp_path), enterprise=False)
    whole.add("base", "debian:bookworm")
    whole.add("app", "base")
    prepare(whole)

    async def main() -> None:
        async with whole.serving() as service:
            await ready(service, whole, len(whole.gitlab.state.projects) + 1)
            # Until all was read once, the service does nothing else, however long that takes.
            await eventually(lambda: service._acting is not None and service._acting.is_deciding)
            await act(whole, service)

    asyncio.run(main())
    return whole


async def eventually(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    for _ in range(round(seconds * 100)):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never comes to that")


async def all_followed(service: View) -> None:
    for _ in range(1_000):
        if not await service._ports.store.hints(1):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("hints are not followed up")


def is_failed(shown: dict[str, SourceStatus]) -> bool:
    return shown["images/app"].state == "failed"


# --- tokens and roles -------------------------------------------------------------------------------------


def test_a_token_that_expired_stops_nothing_but_the_work_which_goes_on_with_the_next_one(
    tmp_path: Path,
) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.state.tokens[whole.token].expires_at = 1.0
        whole.gitlab.push("images/base", {"more": "text"})
        await eventually(lambda: whole.built == ["base"])
        await asyncio.sleep(1)
        # What could not be looked up with this token waits for the next one.
        assert {hint.hint.kind for hint in await service._ports.store.hints(9)} >= {"pipeline"}
        whole.token = whole.gitlab.add_token(whole.bot).value
        await reconcile(service)
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])

    with_base_and_app(tmp_path, act)


def test_a_scope_that_is_missing_is_told_once_and_a_retry_after_it_was_given_builds(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.state.tokens[whole.token].scopes = ("read_api",)
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, is_failed)
        assert "make one with the scope api" in failure(service, "images/app")
        whole.gitlab.state.tokens[whole.token].scopes = ("api",)
        await service._ports.store.add_hint(Hint(kind="retry", source="images/app"), "retry", 1.0)
        service.wake()
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])

    with_base_and_app(tmp_path, act)


def test_a_protected_branch_names_the_role_that_is_missing(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.add_group("images", members={whole.bot: Role.DEVELOPER})
        assert "main" in whole.gitlab.project("images/app").protected_branches
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, is_failed)
        assert "if the branch is protected, allow the user to push or merge there" in failure(
            service, "images/app"
        )

    with_base_and_app(tmp_path, act)


# --- projects ---------------------------------------------------------------------------------------------


def test_a_pipeline_that_its_rules_empty_is_told_once_and_not_tried_again(tmp_path: Path) -> None:
    never = "build:\n  script: [make]\n  rules: [{if: '$CI_PIPELINE_SOURCE == \"push\"'}]\n"

    def prepare(whole: Whole) -> None:
        whole.add("filtered", "base", ci=never)

    async def act(whole: Whole, service: View) -> None:
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: shown["images/filtered"].state == "failed")
        assert "will not run" in failure(service, "images/filtered")
        for _ in range(3):
            await reconcile(service)
            await all_followed(service)
        rows = await service._ports.store.builds(99, "images/filtered")
        assert [row.status for row in rows] == ["cancelled"]
        assert whole.built == ["base", "app"]

    with_base_and_app(tmp_path, act, prepare)


def test_projects_without_ci_and_empty_repositories_hold_up_nobody(tmp_path: Path) -> None:
    def prepare(whole: Whole) -> None:
        whole.gitlab.add_project("images/empty")
        whole.gitlab.add_project("images/texts", files={"README.md": "no image"})
        whole.gitlab.add_project("images/by-hand", files={"Containerfile": "FROM scratch"})
        whole.set_image("registry.example.com/images/by-hand:latest", "by hand 1", {})
        whole.add("tool", "by-hand")

    async def act(whole: Whole, service: View) -> None:
        shown = await until(service, fresh)
        assert {shown[f"images/{name}"].state for name in ("empty", "texts")} == {"inactive"}
        # Its image counts by its digest, whoever pushed it.
        whole.set_image("registry.example.com/images/by-hand:latest", "by hand 2", {})
        await reconcile(service)
        await until(service, lambda shown: fresh(shown) and whole.built == ["tool"])

    with_base_and_app(tmp_path, act, prepare)


@pytest.mark.parametrize("how", ["archived", "deleted"])
def test_a_project_that_is_archived_or_deleted_leaves_and_its_image_counts_for_its_children(
    tmp_path: Path, how: str
) -> None:
    async def act(whole: Whole, service: View) -> None:
        if how == "archived":
            whole.gitlab.project("images/base").archived = True
        else:
            whole.gitlab.delete_project("images/base")
        await reconcile(service)
        image = "registry.example.com/images/base:latest"
        shown = await until(service, lambda shown: image in shown and "images/base" not in shown)
        assert shown[image].kind == "external"
        assert shown["images/app"].state == "fresh"
        assert whole.built == []

    with_base_and_app(tmp_path, act)


def test_a_project_that_is_deleted_while_it_builds_holds_up_nobody(tmp_path: Path) -> None:
    async def act(whole: Whole, service: View) -> None:
        whole.is_busy = True
        whole.gitlab.push("images/base", {"more": "text"})
        await until(service, lambda shown: shown["images/base"].state == "building")
        whole.gitlab.delete_project("images/base")
        whole.is_busy = False
        await reconcile(service)
        shown = await until(service, lambda shown: "images/base" not in shown and fresh(shown))
        assert shown["images/app"].state == "fresh"

    with_base_and_app(tmp_path, act)


# --- registries -------------------------------------------------------------------------------------------


def test_while_a_registry_is_down_a_build_is_not_over_and_what_is_below_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(_self: Whole, reference: str) -> ImageUnchecked:
        return ImageUnchecked(f"the registry of {reference} does not answer")

    async def up(self: Whole, reference: str) -> ImageRead | ImageAbsent:
        return self.images.get(reference, ImageAbsent())

    async def act(whole: Whole, service: View) -> None:
        monkeypatch.setattr(Whole, "read", down)
        whole.gitlab.push("images/base", {"more": "text"})
        await eventually(lambda: whole.built == ["base"])
        shown = await until(service, lambda shown: shown["images/base"].state == "building")
        assert shown["images/app"].state in {"fresh", "blocked"}
        assert whole.built == ["base"]
        monkeypatch.setattr(Whole, "read", up)
        await reconcile(service)
        await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])

    with_base_and_app(tmp_path, act)


# --- GitLab itself ----------------------------------------------------------------------------------------


def test_an_upgrade_of_gitlab_in_the_middle_loses_no_hook_and_ends_with_signed_ones(tmp_path: Path) -> None:
    def before(whole: Whole) -> None:
        whole.gitlab.settings.version = "18.11.0"

    async def act(whole: Whole, service: View) -> None:
        assert not any(hook.signing_token for hook in whole.gitlab.state.hooks.values())
        for number, version in enumerate(("18.11.0", "19.0.0")):
            whole.gitlab.settings.version = version
            whole.gitlab.push("images/base", {"more": version})
            await until(service, lambda shown: fresh(shown) and len(whole.built) == 2 * (number + 1))  # noqa: B023
        # Until its next turn, a hook goes on with its token; `sync` does not wait for it.
        hooks = service._ports.hooks
        assert hooks is not None
        paths = {project.id: project.full_path for project in whole.gitlab.state.projects.values()}
        await hooks.run(paths)
        assert all(hook.signing_token for hook in whole.gitlab.state.hooks.values())
        whole.gitlab.push("images/base", {"more": "signed"})
        await until(service, lambda shown: fresh(shown) and len(whole.built) == 6)
        assert service.unannounced == 0

    with_base_and_app(tmp_path, act, before)


# --- the database -----------------------------------------------------------------------------------------


def serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with gitlab_with_projects() as (_, url, token):
        code = run_command(["serve", "--config", str(write_settings(tmp_path, url, token, free_port()))])
    return code, capsys.readouterr().err


def test_serve_refuses_a_corrupt_database_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "imagechain.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE a (b)")
        connection.executemany("INSERT INTO a VALUES (?)", [("x" * 500,)] * 500)
    connection.close()
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size // 2))
    code, told = serve(tmp_path, capsys)
    assert code == 3
    assert "move it away and start again" in told
    assert "Traceback" not in told


def test_serve_refuses_a_database_that_another_process_holds_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/imagechain.db")
    try:
        code, told = serve(tmp_path, capsys)
    finally:
        store.close()
    assert code == 3
    assert "stop the other, or use PostgreSQL" in told
