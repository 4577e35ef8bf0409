"""The client and the scan against the simulated GitLab, which knows nothing of them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagechain.cli.main import run
from imagechain.config import GitLabSettings, Settings
from imagechain.discovery.group import GroupScan, discover_group
from imagechain.discovery.group_files import Cache
from imagechain.gitlab import rest
from imagechain.gitlab.call import Call
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import (
    ForbiddenError,
    NotFoundError,
    PipelineRefusedError,
    RateLimitedError,
    TokenError,
)
from imagechain.gitlab.files import Checkout
from imagechain.gitlab.pipelines import read_pipelines
from imagechain.refs import Platform
from imagechain.testing import InstanceSettings, Role, SimulatedGitLab
from imagechain.testing.server import serving

if TYPE_CHECKING:
    from imagechain.testing.values import Token

CI = "build: {image: debian, script: [make]}\n"
INCLUDING = """\
include:
  - project: images/ci
    file: /build.yml
build: {extends: .build, script: [make]}
"""


class World:
    """A simulated GitLab with a bot, and the work of clients on it."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1_800_000_000.0
        self.gitlab = SimulatedGitLab(clock=lambda: self.now, seed=1, settings=InstanceSettings(**settings))
        self.bot = self.gitlab.add_user("bot")
        self.token: Token = self.gitlab.add_token(self.bot)
        self.gitlab.add_group("images", members={self.bot: Role.MAINTAINER})
        self.requests = 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with Client(
                self.gitlab.settings.url,
                lambda: self.token.value,
                transport=self.gitlab.transport(),
                sleep=self.sleep,
                now=lambda: self.now,
            ) as client:
                result = await work(client)
                self.requests = client.requests_sent
                return result

        return asyncio.run(main())

    def send(self, call: Call[Any]) -> Any:
        return self.run(lambda client: client.send(call))

    def scan(self, cache: Cache | None = None, **gitlab: Any) -> GroupScan:
        settings = Settings(gitlab=GitLabSettings(**{"groups": ("images",), **gitlab}))
        found: GroupScan = self.run(
            lambda client: discover_group(
                client, settings, cache=cache or {}, platform=Platform("linux", "amd64")
            )
        )
        return found


@pytest.fixture
def world() -> World:
    world = World()
    add = world.gitlab.add_project
    add("images/base", files={"Dockerfile": "FROM debian\n", ".gitlab-ci.yml": CI})
    add("images/sub/app", files={"Dockerfile": "FROM registry.example.com/images/base\n"})
    return world


def test_the_chain_is_found_and_read_again_only_where_it_changed(world: World) -> None:
    add = world.gitlab.add_project
    add("images/ci", files={"build.yml": ".build: {image: registry.example.com/images/base}\n"})
    add("images/uses", files={".gitlab-ci.yml": INCLUDING})
    add("images/empty")
    add("images/old", files={"Dockerfile": "FROM debian\n"})
    world.gitlab.project("images/old").archived = True
    first = world.scan()
    assert [(one.child, one.parent, one.kind) for one in first.discovery.dependencies] == [
        ("images/base", "docker.io/library/debian:latest", "from"),
        ("images/base", "docker.io/library/debian:latest", "ci-image"),
        ("images/sub/app", "images/base", "from"),
        ("images/uses", "images/base", "ci-image"),
        ("images/uses", "images/ci", "ci-include"),
    ]
    assert first.discovery.problems == ()
    assert [one.source for one in first.branches] == [
        "images/base", "images/ci", "images/empty", "images/sub/app", "images/uses",
    ]  # fmt: skip
    assert world.scan(first.cache).discovery == first.discovery
    assert world.requests == 2
    world.gitlab.push("images/ci", {"build.yml": ".build: {image: debian}\n"})
    moved = world.scan(first.cache)
    assert ("images/uses", "images/base") not in {
        (one.child, one.parent) for one in moved.discovery.dependencies
    }
    assert world.requests <= 5


def test_a_renamed_default_branch_and_a_moved_project_are_followed(world: World) -> None:
    first = world.scan()
    world.gitlab.move_project("images/base", "images/sub/base")
    found = world.scan(first.cache)
    assert [one.source for one in found.branches] == ["images/sub/app", "images/sub/base"]
    assert world.send(rest.project("images/base")).path_with_namespace == ("images/sub/base")


def test_what_the_token_may_not_see_is_missing_with_the_role_named(world: World) -> None:
    world.token = world.gitlab.add_token(world.gitlab.add_user("stranger"))
    with pytest.raises(NotFoundError, match="Reporter"):
        world.scan()
    with pytest.raises(NotFoundError, match="the role Maintainer"):
        world.send(rest.hooks("images/base"))


def test_files_that_the_token_may_not_read_are_a_problem_with_the_role(world: World) -> None:
    guest = world.gitlab.add_user("guest")
    world.gitlab.add_group("images", members={guest: Role.GUEST})
    world.token = world.gitlab.add_token(guest)
    found = world.scan()
    assert [(one.file, "Reporter" in one.message) for one in found.discovery.problems] == [
        ("images/base", True), ("images/sub/app", True),
    ]  # fmt: skip


def test_files_beyond_the_limit_of_a_query_are_read_alone_or_refused(world: World) -> None:
    large = "# " + "x" * (11 * 1024 * 1024)
    world.gitlab.add_project(
        "images/large",
        files={"a/Dockerfile": large, "b/Dockerfile": large, "c/Dockerfile": "FROM quay.io/x\n"},
    )
    found = world.scan()
    assert [one.file for one in found.discovery.problems] == [
        "images/large:/a/Dockerfile", "images/large:/b/Dockerfile",
    ]  # fmt: skip
    assert {"images/large", "images/sub/app"} <= {one.child for one in found.discovery.dependencies}


def test_scopes_and_roles_that_are_missing_are_named(world: World) -> None:
    world.token = world.gitlab.add_token(world.bot, scopes=("read_api",))
    with pytest.raises(ForbiddenError, match="scope api"):
        world.send(rest.create_pipeline("images/base", "main"))
    reporter = world.gitlab.add_user("reporter")
    world.gitlab.add_group("images", members={reporter: Role.REPORTER})
    world.token = world.gitlab.add_token(reporter)
    with pytest.raises(ForbiddenError, match="role Maintainer"):
        world.send(rest.hooks("images/base"))
    world.token = world.gitlab.add_token(world.bot, expires_at=world.now - 1)
    with pytest.raises(TokenError):
        world.scan()


def test_pipelines_are_started_found_and_read_in_batches(world: World) -> None:
    async def work(client: Client) -> None:
        project = await client.send(rest.project("images/base"))
        created = await client.send(
            rest.create_pipeline(project.id, "main", variables={"IMAGECHAIN_CAUSE": "test"})
        )
        assert (created.source, created.ref) == ("api", "main")
        variables = await client.send(rest.pipeline_variables(project.id, created.id))
        assert [(one.key, one.value) for one in variables] == [("IMAGECHAIN_CAUSE", "test")]
        assert (await client.send(rest.pipeline(project.id, created.id))).id == created.id
        checkout = Checkout(
            project=project.id, path="images/base", group="images", branch="main", is_default=True
        )
        [listed] = (await read_pipelines(client, [checkout])).pipelines
        assert (listed.id, listed.status, listed.source, listed.tag) == (
            created.id,
            created.status,
            "api",
            False,
        )
        assert listed.web_url.endswith(f"/images/base/-/pipelines/{created.id}")
        for _ in range(14):
            await client.send(rest.create_pipeline(project.id, "main"))
        assert len((await read_pipelines(client, [checkout])).pipelines) == 10
        after = datetime.fromtimestamp(world.now - 60, UTC)
        found = await read_pipelines(client, [checkout], updated_after=after)
        assert (len(found.pipelines), found.failed) == (15, frozenset())

    world.run(work)


def test_pipelines_that_gitlab_refuses_say_why(world: World) -> None:
    rules = "build: {script: [make], rules: [{if: '$CI_PIPELINE_SOURCE == \"push\"'}]}\n"
    world.gitlab.add_project("images/rules", files={".gitlab-ci.yml": rules})
    world.gitlab.project("images/base").pipeline_variables_role = "no_one_allowed"
    for path, ref, variables, why in (
        ("images/rules", "main", {}, "will-not-run"),
        ("images/sub/app", "main", {}, "no-ci"),
        ("images/base", "nowhere", {}, "no-ref"),
        ("images/base", "main", {"A": "1"}, "variables"),
    ):
        call = rest.create_pipeline(path, ref, variables=variables)
        with pytest.raises(PipelineRefusedError) as caught:
            world.send(call)
        assert caught.value.why == why, str(caught.value)
    world.send(rest.create_pipeline("images/base", "main"))


def test_the_limit_of_pipelines_is_waited_for_by_the_caller() -> None:
    world = World(pipelines_per_minute_max=1)
    world.gitlab.add_project("images/base", files={".gitlab-ci.yml": CI})
    create = rest.create_pipeline("images/base", "main")
    world.send(create)
    with pytest.raises(RateLimitedError):
        world.send(create)


def test_a_scan_keeps_within_the_budget_of_requests() -> None:
    world = World(requests_per_minute_max=4)
    for number in range(120):
        world.gitlab.add_project(f"images/p{number}", files={f"d{number}/Dockerfile": "FROM debian\n"})
    started = world.now
    assert len(world.scan().branches) == 120
    assert world.now > started


@pytest.mark.parametrize("version", ["18.4.0", "19.0.0"])
def test_hooks_are_made_changed_tested_and_removed(version: str) -> None:
    world = World(version=version)
    world.gitlab.add_project("images/base", files={".gitlab-ci.yml": CI})
    signing = world.gitlab.new_signing_token()
    form = rest.HookForm(
        url="https://imagechain.example.com/hooks/gitlab",
        events=frozenset({"pipeline_events", "push_events"}),
        token="t",
        signing_token=signing,
    )

    async def work(client: Client) -> None:
        made = await client.send(rest.create_hook("images/base", form))
        assert made.signing_token_present is (True if version == "19.0.0" else None)
        assert made.pipeline_events
        assert not made.note_events
        changed = await client.send(
            rest.update_hook("images/base", made.id, rest.HookForm(url=form.url, events=frozenset()))
        )
        assert not changed.pipeline_events
        assert [one.id for one in await client.all(rest.hooks("images/base"))] == [made.id]
        await client.send(rest.delete_hook("images/base", made.id))
        assert await client.all(rest.hooks("images/base")) == ()

    world.run(work)


def test_the_token_and_the_version_are_told(world: World) -> None:
    token = world.send(rest.current_token())
    assert (token.scopes, token.active) == (("api",), True)
    assert world.send(rest.version()).version == "19.0.0"


@pytest.mark.parametrize("seed", range(10))
def test_a_scan_through_faults_gives_what_a_quiet_one_gives(world: World, seed: int) -> None:
    for number in range(150):
        world.gitlab.add_project(f"images/p{number}", files={"a/Dockerfile": "FROM debian\n"})
    expected = world.scan().discovery
    world.gitlab.state.fault_random.seed(seed)
    world.gitlab.state.faults.error = 0.15
    world.gitlab.state.faults.limit_text = world.gitlab.state.faults.limit_json = 0.05
    assert world.scan().discovery == expected


def test_a_thousand_projects_cost_few_requests() -> None:
    world = World()
    for number in range(1_000):
        parent = f"registry.example.com/images/g{(number - 1) % 37}/p{number - 1}" if number else "debian"
        files = {"Dockerfile": f"FROM {parent}\n", ".gitlab-ci.yml": CI, "README.md": "hello\n"}
        world.gitlab.add_project(f"images/g{number % 37}/p{number}", files=files)
    first = world.scan()
    assert sum(one.kind == "from" for one in first.discovery.dependencies) == 1_000
    assert world.requests < 60

    async def reconcile(client: Client) -> GroupScan:
        settings = Settings(gitlab=GitLabSettings(groups=("images",)))
        platform = Platform("linux", "amd64")
        found = await discover_group(client, settings, cache=first.cache, platform=platform)
        assert client.requests_sent < 15
        checkouts = [
            Checkout(project=one.project, path=one.path, group=one.group, branch="main", is_default=True)
            for one in found.branches
        ]
        await read_pipelines(client, checkouts, updated_after=datetime.fromtimestamp(world.now, UTC))
        return found

    assert world.run(reconcile).discovery == first.discovery
    assert world.requests < 40


def test_groups_are_scanned_from_the_command_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    config = tmp_path / "imagechain.toml"
    with serving(world.gitlab) as url:
        token.write_text(world.token.value)
        config.write_text(f'[gitlab]\nurl = "{url}"\ngroups = ["images"]\ntoken_file = "{token}"\n')
        assert run(["scan", "--config", str(config), "--format", "json"]) == 0
        listing = json.loads(capsys.readouterr().out)
        assert [source["id"] for source in listing["sources"] if source["kind"] == "project"] == [
            "images/base", "images/sub/app",
        ]  # fmt: skip
        assert listing["problems"] == []
        assert run(["scan", "--group", "images/sub", "--config", str(config)]) == 0
        assert "images/base" in capsys.readouterr().out
        assert run(["scan", "--group", "nothing", "--config", str(config)]) == 2
        assert "no group nothing" in capsys.readouterr().err
        assert run(["scan", ".", "--group", "images", "--target", "x", "--config", str(config)]) == 2
        token.write_text("glpat-wrong")
        assert run(["scan", "--config", str(config)]) == 2
        assert "gitlab.token_file" in capsys.readouterr().err.replace("that ", "")
