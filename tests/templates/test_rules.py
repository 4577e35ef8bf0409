"""Which jobs a pipeline has, by what it is; nothing is built here."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from templates.local_ci import (
    BRANCH,
    DEFAULT_BRANCH,
    MERGE_REQUEST,
    SCHEDULE,
    TAG,
    TOP,
    LocalCi,
    blocks,
    with_templates_here,
)

EXAMPLES = ("one-image", "many-images", "plain-jobs", "docker")
OPENED = {"CI_OPEN_MERGE_REQUESTS": "group/project!7"}
ONE_IMAGE = {
    "default-branch": (DEFAULT_BRANCH, {"deploy-production": "manual"}),
    "branch": (BRANCH, {}),
    "protected-tag": (TAG, {"deploy-production": "manual"}),
    "tag": ({**TAG, "CI_COMMIT_REF_PROTECTED": "false"}, {}),
    "merge-request": (MERGE_REQUEST, {"deploy-mr": "manual", "stop-mr": "manual"}),
    "schedule": (SCHEDULE, {"deploy-production": "manual"}),
}


def whole_files() -> list[Any]:
    pages = sorted(page.name for page in (TOP / "docs").glob("ci-*.md"))
    return [
        pytest.param(one, id=f"{page}-{number}")
        for page in [*pages, "image-build.md", "promote.md"]
        for number, one in enumerate(blocks(page))
        if "include:" in one or "stages:" in one or one.startswith("# .gitlab-ci.yml\n")
    ]


@pytest.mark.parametrize(("kind", "deployments"), ONE_IMAGE.values(), ids=ONE_IMAGE)
def test_each_kind_of_pipeline_builds_tests_and_tags_and_offers_what_it_may_deploy(
    ci: LocalCi, kind: dict[str, str], deployments: dict[str, str]
) -> None:
    ci.copy_example("one-image")
    ci.commit()
    always = {"publish": "on_success", "test-image": "on_success", "tag": "on_success"}
    assert ci.list_jobs(kind) == always | deployments


def test_a_pipeline_that_only_tries_an_image_offers_no_deployment(ci: LocalCi) -> None:
    ci.copy_example("one-image")
    ci.commit()
    jobs = ci.list_jobs({**DEFAULT_BRANCH, "IMAGE_TRIAL": '{"a": "b"}'})
    assert jobs == {"publish": "on_success", "test-image": "on_success", "tag": "on_success"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_branch_with_a_merge_request_has_one_pipeline_and_not_two(ci: LocalCi, example: str) -> None:
    ci.copy_example(example)
    ci.commit()
    assert ci.list_jobs({**BRANCH, **OPENED}) == {}
    assert ci.list_jobs(MERGE_REQUEST) != {}


def test_a_pipeline_that_somebody_asks_for_runs_beside_that_of_the_merge_request(ci: LocalCi) -> None:
    ci.copy_example("one-image")
    ci.commit()
    assert "publish" in ci.list_jobs({**BRANCH, **OPENED, "CI_PIPELINE_SOURCE": "web"})
    # A merge request from the default branch must not keep it from being built.
    assert "publish" in ci.list_jobs({**DEFAULT_BRANCH, **OPENED})


@pytest.mark.parametrize("example", EXAMPLES)
def test_gitlab_accepts_the_examples_with_all_that_they_include(
    ci: LocalCi, example: str, check_schema: Callable[[Any], None]
) -> None:
    ci.copy_example(example)
    ci.commit()
    check_schema(ci.preview(DEFAULT_BRANCH))


PLAIN_DEPLOYMENTS = {
    "default-branch": (DEFAULT_BRANCH, "deploy-production: [{image}]"),
    "merge-request": (MERGE_REQUEST, "deploy-mr-{image}"),
}


@pytest.mark.parametrize(("kind", "deployment"), PLAIN_DEPLOYMENTS.values(), ids=PLAIN_DEPLOYMENTS)
def test_the_jobs_that_people_know_do_what_they_are_known_for(
    ci: LocalCi, kind: dict[str, str], deployment: str
) -> None:
    ci.copy_example("plain-jobs")
    ci.commit()
    found = ci.list_jobs(kind)
    builds = {"frontend", "backend: [amd64]", "backend: [arm64]", "backend-manifest"}
    assert builds | {"tag: [backend]", "tag: [frontend]"} <= set(found)
    deployments = {deployment.format(image=image) for image in ("backend", "frontend")}
    clicks = {name for name, when in found.items() if when == "manual"}
    assert clicks == deployments | ({one.replace("deploy", "stop") for one in deployments if "mr" in one})


CHANGES = """\
include: [{local: /templates/jobs.yml, inputs: {imagechain_image: any}}]
stages: [build, manifest, test, tag, deploy]
publish: {extends: .publish, variables: {CHANGES: "src/{core,web}"}}
tag: {extends: .tag, variables: {CHANGES: "src/{core,web}"}}
"""


def test_changes_keeps_images_from_being_built_for_what_they_cannot_notice(ci: LocalCi) -> None:
    ci.write({".gitlab-ci.yml": CHANGES, "src/web/deep/file": "1", "src/other/file": "1"})
    ci.commit()
    ci.track_main()
    ci.write({"src/other/file": "2"})
    ci.commit()
    assert ci.list_jobs(MERGE_REQUEST) == {}
    assert set(ci.list_jobs(SCHEDULE)) == set(ci.list_jobs(TAG)) == {"publish", "tag"}
    ci.write({"src/web/deep/file": "2"})
    ci.commit()
    assert set(ci.list_jobs(MERGE_REQUEST)) == {"publish", "tag"}


@pytest.mark.parametrize("block", whole_files())
def test_what_the_pages_say_to_copy_is_a_pipeline(
    ci: LocalCi, block: str, check_schema: Callable[[Any], None]
) -> None:
    ci.write({".gitlab-ci.yml": with_templates_here(block)})
    ci.commit()
    check_schema(ci.preview(DEFAULT_BRANCH))
    found = ci.list_jobs(DEFAULT_BRANCH)
    assert found
    assert found.get("deploy-production", "manual") == "manual"


@pytest.mark.parametrize("block", whole_files())
def test_pages_have_no_job_that_a_merge_request_leaves_out_or_that_holds_a_pipeline_up(block: str) -> None:
    """As GitLab has it: jobs without rules run for branches and tags only."""
    *_, document = yaml.safe_load_all(block)
    jobs = [job for job in document.values() if isinstance(job, dict) and "script" in job]
    rules = [rule for job in jobs for rule in job.get("rules", ())]
    if any("$CI_MERGE_REQUEST" in rule.get("if", "") for rule in rules):
        assert [job for job in jobs if "rules" not in job] == []
    assert [rule for rule in rules if rule.get("when") == "manual" and not rule.get("allow_failure")] == []


@pytest.mark.parametrize("name", ["one-image", "many-images"])
def test_the_example_is_what_its_page_shows(name: str) -> None:
    shown = [yaml.safe_load(block) for block in blocks(f"ci-{name}.md")]
    files = sorted((TOP / "examples" / "ci" / name).rglob("*.yml"))
    assert files
    assert [yaml.safe_load(file.read_text()) for file in files] == shown
