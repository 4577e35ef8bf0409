"""Which jobs a pipeline has, by what it is; nothing is built here."""

from collections.abc import Callable
from typing import Any

import pytest

from templates.local_ci import BRANCH, DEFAULT_BRANCH, MERGE_REQUEST, SCHEDULE, TAG, LocalCi

ONE_IMAGE = {
    "default-branch": (DEFAULT_BRANCH, {"deploy-production": "manual"}),
    "branch": (BRANCH, {}),
    "protected-tag": (TAG, {"deploy-production": "manual"}),
    "tag": ({**TAG, "CI_COMMIT_REF_PROTECTED": "false"}, {}),
    "merge-request": (MERGE_REQUEST, {"deploy-mr": "manual", "stop-mr": "manual"}),
    "schedule": (SCHEDULE, {"deploy-production": "manual"}),
}


@pytest.mark.parametrize(("kind", "deployments"), ONE_IMAGE.values(), ids=ONE_IMAGE)
def test_each_kind_of_pipeline_builds_tests_and_tags_and_offers_what_it_may_deploy(
    ci: LocalCi, kind: dict[str, str], deployments: dict[str, str]
) -> None:
    ci.copy_example("one-image")
    ci.commit()
    always = {"publish": "on_success", "test-image": "on_success", "tag": "on_success"}
    assert ci.list_jobs(kind) == always | deployments


@pytest.mark.parametrize("example", ["one-image", "many-images", "plain-jobs"])
def test_a_branch_with_a_merge_request_has_one_pipeline_and_not_two(ci: LocalCi, example: str) -> None:
    ci.copy_example(example)
    ci.commit()
    opened = {"CI_OPEN_MERGE_REQUESTS": "group/project!7"}
    assert ci.list_jobs({**BRANCH, **opened}) == {}
    assert ci.list_jobs({**BRANCH, **opened, "CI_PIPELINE_SOURCE": "web"}) != {}
    assert ci.list_jobs({**DEFAULT_BRANCH, **opened}) != {}
    assert ci.list_jobs(MERGE_REQUEST) != {}


@pytest.mark.parametrize("example", ["one-image", "many-images", "plain-jobs"])
@pytest.mark.parametrize("kind", [DEFAULT_BRANCH, MERGE_REQUEST], ids=["branch", "merge-request"])
def test_gitlab_accepts_the_examples_with_all_that_they_include(
    ci: LocalCi, example: str, kind: dict[str, str], check_schema: Callable[[Any], None]
) -> None:
    ci.copy_example(example)
    ci.commit()
    check_schema(ci.preview(kind))
