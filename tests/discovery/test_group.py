"""Discovery in groups of GitLab: the graph, and what it costs to read it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from gitlab_client.fake import REGISTRY, FakeGitLab, oid
from imagechain.chain import Problem
from imagechain.config import ChainSettings, GitLabSettings, Settings
from imagechain.discovery.group import GroupScan, discover_group
from imagechain.discovery.group_files import Cache
from imagechain.discovery.group_images import slug
from imagechain.gitlab.errors import NotFoundError, OverloadedError
from imagechain.refs import Platform

AMD64 = Platform("linux", "amd64")


def scan(fake: FakeGitLab, cache: Cache | None = None, *, chain: Any = None, **gitlab: Any) -> GroupScan:
    given = {"groups": ("images", "apps"), **gitlab}
    settings = Settings(gitlab=GitLabSettings(**given), chain=chain or ChainSettings())

    async def run() -> GroupScan:
        async with fake.client() as client:
            return await discover_group(client, settings, cache=cache or {}, platform=AMD64)

    return asyncio.run(run())


def edges(found: GroupScan) -> list[tuple[str, str | None, str, str, int]]:
    return [(one.child, one.parent, one.kind, one.file, one.line) for one in found.discovery.dependencies]


def problems(found: GroupScan) -> list[tuple[str, int | None]]:
    return [(one.file, one.line) for one in found.discovery.problems]


def images(found: GroupScan) -> dict[str, tuple[str, ...]]:
    return {one.id: one.images for one in found.discovery.sources if one.kind == "project"}


@pytest.fixture
def chain() -> FakeGitLab:
    """The chain base -> ruby -> app, and a project without images."""
    fake = FakeGitLab()
    fake.add("images/base", {"Dockerfile": "FROM debian:bookworm\n"})
    fake.add("images/ruby", {"Dockerfile": f"FROM {REGISTRY}/images/base\n"})
    fake.add("apps/web/app", {"docker/app.Dockerfile": f"FROM {REGISTRY}/images/ruby:3.3 AS a\nFROM a\n"})
    fake.add("apps/docs", {"README.md": "hello\n"})
    return fake


def test_the_chain_of_groups_is_found(chain: FakeGitLab) -> None:
    found = scan(chain)
    assert edges(found) == [
        ("apps/web/app", "images/ruby", "from", "docker/app.Dockerfile", 1),
        ("images/base", "docker.io/library/debian:bookworm", "from", "Dockerfile", 1),
        ("images/ruby", "images/base", "from", "Dockerfile", 1),
    ]
    assert images(found) == {
        "apps/docs": (),
        "apps/web/app": (f"{REGISTRY}/apps/web/app:latest",),
        "images/base": (f"{REGISTRY}/images/base:latest",),
        "images/ruby": (f"{REGISTRY}/images/ruby:3.3",),
    }
    assert found.discovery.problems == ()
    assert [(one.source, one.project) for one in found.branches] == [
        ("apps/docs", 4), ("apps/web/app", 3), ("images/base", 1), ("images/ruby", 2),
    ]  # fmt: skip


def test_a_rescan_asks_again_only_for_what_changed(chain: FakeGitLab) -> None:
    first = scan(chain)
    chain.requests.clear()
    again = scan(chain, first.cache)
    assert again.discovery == first.discovery
    assert len(chain.requests) == 3  # the two groups, and the registry's host
    chain.projects["images/ruby"]["main"]["README.md"] = "new"
    chain.requests.clear()
    scan(chain, first.cache)
    assert (chain.asked("recursive: true"), chain.asked("rawTextBlob")) == (1, 0)
    chain.projects["images/ruby"]["main"]["Dockerfile"] = "FROM scratch\n"
    chain.requests.clear()
    moved = scan(chain, first.cache)
    assert (chain.asked("recursive: true"), chain.asked("rawTextBlob")) == (1, 1)
    assert ("images/ruby", "images/base", "from", "Dockerfile", 1) not in edges(moved)


def test_the_cache_survives_a_store(chain: FakeGitLab) -> None:
    first = scan(chain)
    stored = msgspec.json.decode(msgspec.json.encode(first.cache), type=Cache)
    chain.requests.clear()
    assert scan(chain, stored).discovery == first.discovery
    assert len(chain.requests) == 3


def test_other_patterns_of_files_read_a_project_again(chain: FakeGitLab) -> None:
    chain.projects["apps/docs"]["main"]["site.image"] = f"FROM {REGISTRY}/images/base\n"
    first = scan(chain)
    found = scan(chain, first.cache, chain=ChainSettings(files=("*.image",)))
    assert ("apps/docs", "images/base", "from", "site.image", 1) in edges(found)


def test_archived_shared_and_excluded_projects_are_left_out(chain: FakeGitLab) -> None:
    chain.archived = {"images/base"}
    chain.add("elsewhere/x", {"Dockerfile": "FROM scratch\n"})
    chain.shared = {"elsewhere/x"}
    found = scan(chain, exclude=("apps/web/**",))
    assert [one.source for one in found.branches] == ["apps/docs", "images/ruby"]
    assert edges(found) == [("images/ruby", f"{REGISTRY}/images/base:latest", "from", "Dockerfile", 1)]
    assert [one.source for one in scan(chain, include=("apps/*",)).branches] == ["apps/docs"]


def test_a_project_of_two_groups_counts_once(chain: FakeGitLab) -> None:
    found = scan(chain, groups=("apps", "apps/web", "images"))
    assert [one.source for one in found.branches].count("apps/web/app") == 1


def test_an_empty_repository_is_a_project_without_a_branch(chain: FakeGitLab) -> None:
    chain.add("images/new")
    found = scan(chain)
    assert [one.files.branch for one in found.branches if one.source == "images/new"] == [None]
    assert images(found)["images/new"] == ()
    assert found.discovery.problems == ()


def test_more_branches_are_sources_of_their_own(chain: FakeGitLab) -> None:
    chain.add("images/base", {"Dockerfile": "FROM debian:trixie\n"}, branch="next/one")
    chain.add("images/ruby", {"Dockerfile": f"FROM {REGISTRY}/images/base:next-one\n"}, branch="next/one")
    found = scan(chain, branches=("next/one", "other"))
    assert ("images/ruby@next/one", "images/base@next/one", "from", "Dockerfile", 1) in edges(found)
    assert images(found)["images/base@next/one"] == (f"{REGISTRY}/images/base:next-one",)
    assert images(found)["images/ruby@next/one"] == (f"{REGISTRY}/images/ruby:next-one",)
    assert "apps/docs@next/one" not in images(found)
    chain.requests.clear()
    scan(chain, found.cache, branches=("next/one", "other"))
    assert len(chain.requests) == 3


def test_deeper_repositories_belong_to_the_project_around_them(chain: FakeGitLab) -> None:
    chain.add(
        "apps/many",
        {"Dockerfile": f"FROM {REGISTRY}/images/base/slim/arm:12\nFROM {REGISTRY}/images/basement\n"},
    )
    found = scan(chain)
    assert ("apps/many", "images/base", "from", "Dockerfile", 1) in edges(found)
    assert ("apps/many", f"{REGISTRY}/images/basement:latest", "from", "Dockerfile", 2) in edges(found)
    assert f"{REGISTRY}/images/base/slim/arm:12" in images(found)["images/base"]


def test_a_pinned_image_is_that_of_its_project(chain: FakeGitLab) -> None:
    digest = "sha256:" + "1" * 64
    chain.add("apps/pinned", {"Dockerfile": f"FROM {REGISTRY}/images/base@{digest}\n"})
    found = scan(chain)
    assert [
        (one.parent, one.pinned) for one in found.discovery.dependencies if one.child == "apps/pinned"
    ] == [("images/base", True)]


def test_what_a_project_builds_from_its_own_images_is_its_own_affair(chain: FakeGitLab) -> None:
    chain.add(
        "images/both",
        {"Dockerfile": "FROM quay.io/x\n", "web/Dockerfile": f"FROM {REGISTRY}/images/both:latest\n"},
    )
    assert [edge for edge in edges(scan(chain)) if edge[0] == "images/both"] == [
        ("images/both", "quay.io/x:latest", "from", "Dockerfile", 1)
    ]


def test_patterns_name_what_is_published_elsewhere(chain: FakeGitLab) -> None:
    chain.add("apps/x", {"Dockerfile": "FROM quay.io/me/ruby:1\n"})
    settings = ChainSettings(images={"images/ruby": "quay.io/me/{name}:1", "apps/*": [], "nothing": "a"})
    found = scan(chain, chain=settings)
    assert ("apps/x", "images/ruby", "from", "Dockerfile", 1) in edges(found)
    assert images(found)["images/ruby"] == ("quay.io/me/ruby:1", f"{REGISTRY}/images/ruby:3.3")
    assert images(found)["apps/x"] == ()
    assert problems(found) == [("imagechain.toml", None)]


@pytest.mark.parametrize(
    ("ci", "published"),
    [
        ("build:\n  script: imagechain image build --dotenv build.env\n", ["x"]),
        ("build:\n  variables: {IMAGE_NAME: Web}\n  script: imagechain image build\n", ["web"]),
        ('build:\n  script: [imagechain image build "$NAME-1" --push]\n  variables: {NAME: a}\n', ["a-1"]),
        (
            "build:\n  script: imagechain image build\n  parallel: {matrix: [{IMAGE_NAME: [a, b]}]}\n",
            ["a", "b"],
        ),
        ("build:\n  script: imagechain image manifest app\n", ["app"]),
        ("build:\n  script: imagechain image build $(name)\n", [""]),
        ("build:\n  script: imagechain image build 'a b'\n", [""]),
        ("build:\n  script: if true; then imagechain image build; fi\n", ["x"]),
        ("build:\n  script: docker build .\n", [""]),
    ],
)
def test_what_jobs_build_with_imagechain_is_published_below_the_project(
    chain: FakeGitLab, ci: str, published: list[str]
) -> None:
    chain.add("apps/x", {"Dockerfile": "FROM scratch\n", ".gitlab-ci.yml": ci})
    names = [f"{REGISTRY}/apps/x/{name}:latest".replace("/:", ":") for name in published]
    assert list(images(scan(chain))["apps/x"]) == names


def test_two_projects_cannot_publish_one_image(chain: FakeGitLab) -> None:
    found = scan(chain, chain=ChainSettings(images={"images/*": "quay.io/me/one:1"}))
    [problem] = found.discovery.problems
    assert "'images/base' and 'images/ruby' both publish quay.io/me/one:1" in problem.message
    assert "quay.io/me/one:1" not in images(found)["images/ruby"]


def test_ci_jobs_and_build_arguments_know_the_predefined_variables(chain: FakeGitLab) -> None:
    chain.add(
        "apps/ci",
        {
            "Dockerfile": "ARG BASE\nFROM $BASE\n",
            ".gitlab-ci.yml": "build:\n  image: $CI_REGISTRY/images/base\n  services: [$SECRET/x]\n"
            "  script: docker build --build-arg BASE=$CI_REGISTRY/images/ruby:3.3 .\n",
        },
    )
    found = scan(chain)
    assert [edge for edge in edges(found) if edge[0] == "apps/ci"] == [
        ("apps/ci", "images/ruby", "from", "Dockerfile", 2),
        ("apps/ci", "images/base", "ci-image", ".gitlab-ci.yml", 2),
    ]
    assert problems(found) == [("apps/ci:/.gitlab-ci.yml", 3)]


INCLUDING = "include:\n  - project: apps/ci\n    file: build.yml\njob: {script: x}\n"


def lint(text: str = "job: {image: registry.example.com/images/ruby:3.3}\n", **more: Any) -> dict[str, Any]:
    include = {
        "type": "file",
        "location": "build.yml",
        "extra": {"project": "apps/ci", "ref": "HEAD"},
        "context_project": "images/ruby",
    }
    local = {"type": "local", "location": "own.yml", "extra": {}, "context_project": "apps/uses"}
    return {"valid": True, "errors": [], "merged_yaml": text, "includes": [include, local], **more}


@pytest.fixture
def including(chain: FakeGitLab) -> FakeGitLab:
    chain.add("apps/ci", {"build.yml": "x: 1\n"})
    chain.add("apps/uses", {".gitlab-ci.yml": INCLUDING, "own.yml": "y: 1\n"})
    chain.lints["apps/uses"] = lint()
    return chain


def test_included_files_are_followed_by_gitlab_itself(including: FakeGitLab) -> None:
    found = scan(including)
    assert [edge for edge in edges(found) if edge[0] == "apps/uses"] == [
        ("apps/uses", "images/ruby", "ci-image", ".gitlab-ci.yml", 1),
        ("apps/uses", "apps/ci", "ci-include", ".gitlab-ci.yml", 2),
    ]
    assert including.asked("/ci/lint") == 1


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (("apps/uses", "README"), 0),
        (("apps/docs", "any.yml"), 0),
        (("apps/uses", ".gitlab-ci.yml"), 1),
        (("apps/uses", "own.yml"), 1),
        (("apps/ci", "build.yml"), 1),
    ],
)
def test_gitlab_merges_again_only_what_may_have_changed(
    including: FakeGitLab, change: tuple[str, str], asked: int
) -> None:
    first = scan(including)
    including.requests.clear()
    scan(including, first.cache)
    assert including.asked("/ci/lint") == 0
    path, file = change
    files = including.projects[path]["main"]
    files[file] = files.get(file, "") + "# changed\n"
    scan(including, first.cache)
    assert including.asked("/ci/lint") == asked


def test_an_include_of_a_tag_or_component_is_a_source_of_its_own(including: FakeGitLab) -> None:
    including.lints["apps/uses"] = lint(
        includes=[
            {"type": "file", "location": "build.yml", "extra": {"project": "apps/ci", "ref": "v1"}},
            {
                "type": "component",
                "location": "gitlab.example.com/apps/ci/x@1",
                "extra": {"project": "apps/ci", "ref": "abc"},
            },
            {"type": "template", "location": "Auto-DevOps.gitlab-ci.yml", "extra": {}},
        ]
    )
    parents = [edge[1] for edge in edges(scan(including)) if edge[2] == "ci-include"]
    assert parents == ["apps/ci@v1:/build.yml", "gitlab.example.com/apps/ci/x@1", "Auto-DevOps.gitlab-ci.yml"]


def test_a_configuration_that_gitlab_cannot_merge_is_a_problem(including: FakeGitLab) -> None:
    including.lints["apps/uses"] = {"valid": False, "errors": ["jobs: no jobs"], "merged_yaml": None}
    found = scan(including)
    assert found.discovery.problems == (
        Problem(file="apps/uses:/.gitlab-ci.yml", line=None, message="jobs: no jobs"),
    )


def test_without_the_role_for_lint_the_file_itself_counts_and_the_role_is_named(
    including: FakeGitLab,
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response | None:
        return (
            httpx2.Response(403, json={"message": "403 Forbidden"})
            if "/ci/lint" in request.url.path
            else None
        )

    including.fault = refuse
    including.projects["apps/uses"]["main"][".gitlab-ci.yml"] += "image: quay.io/ci\n"
    found = scan(including)
    assert "role Reporter" in found.discovery.problems[0].message
    assert ("apps/uses", "quay.io/ci:latest", "ci-image", ".gitlab-ci.yml", 5) in edges(found)
    including.requests.clear()
    scan(including, found.cache)
    assert including.asked("/ci/lint") == 0


def test_the_ci_configuration_may_stand_elsewhere(including: FakeGitLab) -> None:
    including.add(
        "apps/own", {"ci/main.yml": "a: {image: quay.io/a}\n", ".gitlab-ci.yml": "b: {image: quay.io/b}\n"}
    )
    first = scan(including)
    including.ci_paths["apps/own"] = "ci/main.yml"
    found = scan(including, first.cache)
    own = [edge[1:] for edge in edges(found) if edge[0] == "apps/own"]
    assert own == [("quay.io/a:latest", "ci-image", "ci/main.yml", 1)]
    for setting, parent in (
        ("build.yml@apps/ci", "apps/ci"),
        ("build.yml@apps/ci:v1", "apps/ci@v1:/build.yml"),
        ("https://example.com/ci.yml", "https://example.com/ci.yml"),
    ):
        including.ci_paths["apps/own"] = setting
        found = scan(including, found.cache)
        own = [edge[1:] for edge in edges(found) if edge[0] == "apps/own"]
        assert own == [(parent, "ci-include", ".gitlab-ci.yml", 1)]


def test_declared_projects_are_found_by_path_url_and_branch(chain: FakeGitLab) -> None:
    chain.add("images/base", {"Dockerfile": "FROM debian\n"}, branch="next")
    chain.add(
        "apps/declares",
        {
            "Dockerfile": "FROM quay.io/x\n",
            ".gitlab-deps": "images/ruby\nhttps://gitlab.example.com/Images/base.git@next\nbase\nimages/ruby@x\n",
        },
    )
    found = scan(chain, branches=("next",))
    assert [edge[1:] for edge in edges(found) if edge[0] == "apps/declares"] == [
        ("quay.io/x:latest", "from", "Dockerfile", 1),
        ("images/ruby", "declared", ".gitlab-deps", 1),
        ("images/base@next", "declared", ".gitlab-deps", 2),
    ]
    assert problems(found) == [("apps/declares:/.gitlab-deps", 3), ("apps/declares:/.gitlab-deps", 4)]
    chain.projects["apps/declares"]["main"][".gitlab-deps"] = "# imagechain: only\nimages/ruby\n"
    assert [edge[1:] for edge in edges(scan(chain)) if edge[0] == "apps/declares"] == [
        ("images/ruby", "declared", ".gitlab-deps", 2)
    ]


def test_preprocessed_files_get_what_they_include(chain: FakeGitLab) -> None:
    chain.add(
        "images/cpp",
        {
            "builds/web.in": '#include "blocks/base"\nCOPY a b\n',
            "blocks/base": '#include "deep.h"\n',
            "blocks/deep.h": f"FROM {REGISTRY}/images/base\n",
            "deep.h": "FROM quay.io/other\n",
            "blocks/other": "FROM quay.io/other\n",
        },
    )
    found = scan(chain)
    assert [edge for edge in edges(found) if edge[0] == "images/cpp"] == [
        ("images/cpp", "images/base", "from", "blocks/deep.h", 1)
    ]
    assert "blocks/other" not in found.cache["images/cpp"].files


def test_no_path_leads_out_of_the_folder_of_the_preprocessor(chain: FakeGitLab, tmp_path: Path) -> None:
    outside = str(tmp_path / "outside.in")
    files = {"Dockerfile.in": "FROM quay.io/x\n", f"../../{outside}": "FROM a\n", outside: "FROM b\n"}
    chain.add("images/evil", {**files, "a/../../Dockerfile.in": "FROM c\n"})
    found = scan(chain)
    assert [edge[1] for edge in edges(found) if edge[0] == "images/evil"] == ["quay.io/x:latest"]
    assert list(tmp_path.iterdir()) == []


def test_onbuild_triggers_of_a_base_count_for_its_children(chain: FakeGitLab) -> None:
    chain.projects["images/base"]["main"]["Dockerfile"] = (
        f"FROM quay.io/x\nONBUILD COPY --from={REGISTRY}/apps/web/app /a /a\n"
    )
    assert ("images/ruby", "apps/web/app", "onbuild", "Dockerfile", 2) in edges(scan(chain))


def test_a_large_repository_is_listed_over_rest_in_one_request(chain: FakeGitLab) -> None:
    files = {f"src/{number}.c": "x" for number in range(250)}
    chain.add("apps/large", {**files, "zz/Dockerfile": f"FROM {REGISTRY}/images/base\n"})
    found = scan(chain)
    assert ("apps/large", "images/base", "from", "zz/Dockerfile", 1) in edges(found)
    assert chain.asked("/repository/tree") == 1


def test_many_containerfiles_of_one_project_are_all_read(chain: FakeGitLab) -> None:
    chain.add("apps/many", {f"d{n}/Dockerfile": f"FROM quay.io/x:{n}\n" for n in range(300)})
    assert sum(edge[0] == "apps/many" for edge in edges(scan(chain))) == 300


def test_a_project_on_which_graphql_fails_is_read_over_rest(chain: FakeGitLab) -> None:
    expected = scan(chain).discovery
    chain.poisoned = {"images/ruby"}
    assert scan(chain).discovery == expected


def test_a_broken_repository_hides_no_other(chain: FakeGitLab) -> None:
    first = scan(chain)
    chain.poisoned = chain.broken = {"images/base", "images/ruby"}
    with pytest.raises(OverloadedError):
        scan(chain, include=("images/*",))  # all that there is
    chain.poisoned = chain.broken = {"images/ruby"}
    found = scan(chain)
    assert [one.file for one in found.discovery.problems] == ["images/ruby"]
    assert "overloaded" in found.discovery.problems[0].message
    assert ("images/base", "docker.io/library/debian:bookworm", "from", "Dockerfile", 1) in edges(found)
    # What was known of it goes on to count.
    assert edges(scan(chain, first.cache)) == edges(first)
    chain.poisoned = chain.broken = set()
    assert scan(chain, found.cache).discovery == first.discovery


def test_a_file_that_could_not_be_read_is_read_the_next_time(chain: FakeGitLab) -> None:
    expected = scan(chain)

    def fail(request: httpx2.Request) -> httpx2.Response | None:
        fails = (
            b"rawTextBlob" in request.content
            or "images%2Fruby" in str(request.url)
            or "/2/" in request.url.path
        )
        return httpx2.Response(500) if fails else None

    chain.fault = fail
    found = scan(chain)
    assert [one.file for one in found.discovery.problems] == ["images/ruby:/Dockerfile"]
    chain.fault = lambda _: None
    assert scan(chain, found.cache).discovery == expected.discovery


def test_a_group_that_is_missing_says_what_to_do(chain: FakeGitLab) -> None:
    with pytest.raises(NotFoundError, match=r"no group nothing.*gitlab\.groups.*Reporter"):
        scan(chain, groups=("nothing",))


def test_a_gitlab_that_is_down_is_asked_only_a_few_times(chain: FakeGitLab) -> None:
    for number in range(300):
        chain.add(f"images/more{number}", {"Dockerfile": "FROM scratch\n"})
    chain.fault = lambda _: httpx2.Response(503, text="<html>down</html>")
    with pytest.raises(OverloadedError):
        scan(chain, groups=("images",))
    assert len(chain.requests) <= 20


def test_unreadable_files_are_problems_with_their_place(chain: FakeGitLab) -> None:
    chain.add("apps/bad", {"Dockerfile": "a\0b", "x/Dockerfile": "FROM\n", ".gitlab-ci.yml": "a: [\n"})
    found = scan(chain)
    assert problems(found) == [
        ("apps/bad:/.gitlab-ci.yml", 2),
        ("apps/bad:/Dockerfile", None),
        ("apps/bad:/x/Dockerfile", 1),
    ]


def test_a_link_beside_its_target_is_only_another_name(chain: FakeGitLab) -> None:
    chain.add("apps/link", {"Dockerfile": "web/Dockerfile", "web/Dockerfile": "FROM quay.io/x\n"})
    chain.links = {("apps/link", "Dockerfile")}
    found = scan(chain)
    assert [edge for edge in edges(found) if edge[0] == "apps/link"] == [
        ("apps/link", "quay.io/x:latest", "from", "web/Dockerfile", 1)
    ]
    assert found.discovery.problems == ()


@pytest.mark.parametrize(
    ("branch", "expected"),
    [("Feature/One", "feature-one"), ("--a_b--", "a-b"), ("x" * 70, "x" * 63), ("1.2", "1-2")],
)
def test_a_slug_is_that_of_gitlab(branch: str, expected: str) -> None:
    assert slug(branch) == expected


def test_a_thousand_projects_cost_few_requests() -> None:
    fake = FakeGitLab()
    for number in range(1_000):
        path = f"images/g{number % 37}/p{number}"
        parent = f"{REGISTRY}/images/g{(number - 1) % 37}/p{number - 1}" if number else "debian"
        fake.add(
            path, {"Dockerfile": f"FROM {parent}\n", ".gitlab-ci.yml": "build: {image: debian, script: x}\n"}
        )
    first = scan(fake, groups=("images",))
    assert len(first.branches) == 1_000
    assert len([edge for edge in edges(first) if edge[2] == "from"]) == 1_000
    assert len(fake.requests) < 60
    fake.requests.clear()
    assert scan(fake, first.cache, groups=("images",)).discovery == first.discovery
    assert len(fake.requests) < 15


def test_object_ids_are_those_of_git() -> None:
    assert oid("hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
