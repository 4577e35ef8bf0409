"""The table of tags: against a naive reading of it, and against what jobs may claim."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.images.tags import (
    Pipeline,
    PipelineError,
    architecture_tag,
    build_tag,
    deployment_tag,
    digest_variable,
    gate_tag,
    is_reserved,
    read_pipeline,
    tags_on_success,
)
from imagechain.refs import parse_platform

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
ID = "4711"
DEFAULT_BRANCH = {
    "CI_PIPELINE_ID": ID,
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_REF_PROTECTED": "true",
    "CI_DEFAULT_BRANCH": "main",
}
OTHER_BRANCH = {**DEFAULT_BRANCH, "CI_COMMIT_BRANCH": "fix", "CI_COMMIT_REF_NAME": "fix"}
GIT_TAG = {
    "CI_PIPELINE_ID": ID,
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_TAG": "v1.2",
    "CI_COMMIT_REF_NAME": "v1.2",
    "CI_DEFAULT_BRANCH": "main",
}
#: As GitLab sets them: no CI_COMMIT_BRANCH; the source branch of a fork may be called as the default branch.
MERGE_REQUEST = {
    "CI_PIPELINE_ID": ID,
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_COMMIT_REF_NAME": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_MERGE_REQUEST_IID": "12",
    "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
}
EXTERNAL = {
    "CI_PIPELINE_ID": ID,
    "CI_PIPELINE_SOURCE": "external_pull_request_event",
    "CI_COMMIT_REF_NAME": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_EXTERNAL_PULL_REQUEST_IID": "12",
}


def pipeline_of(environ: Mapping[str, str], **more: str) -> Pipeline:
    pipeline = read_pipeline({**environ, **more})
    assert pipeline is not None
    return pipeline


@pytest.mark.parametrize("environ", [DEFAULT_BRANCH, OTHER_BRANCH, GIT_TAG, MERGE_REQUEST, EXTERNAL])
def test_every_pipeline_has_a_tag_for_its_builds_and_one_for_its_gate(environ: dict[str, str]) -> None:
    pipeline = pipeline_of(environ)
    assert (build_tag(pipeline), gate_tag(pipeline)) == ("p-4711", "g-4711")


@pytest.mark.parametrize(
    ("environ", "tags"),
    [
        (DEFAULT_BRANCH, ("g-4711", "latest")),
        ({**DEFAULT_BRANCH, "CI_PIPELINE_SOURCE": "schedule"}, ("g-4711", "latest")),
        ({**DEFAULT_BRANCH, "CI_PIPELINE_SOURCE": "parent_pipeline"}, ("g-4711", "latest")),
        (OTHER_BRANCH, ("g-4711",)),
        (GIT_TAG, ("g-4711", "v1.2")),
        (MERGE_REQUEST, ("g-4711",)),
        (EXTERNAL, ("g-4711",)),
    ],
)
def test_success_gives_the_tags_of_the_table(environ: dict[str, str], tags: tuple[str, ...]) -> None:
    assert tags_on_success(pipeline_of(environ)) == tags


@pytest.mark.parametrize("event", ["detached", "merged_result", "merge_train"])
@pytest.mark.parametrize("source", ["merge_request_event", "parent_pipeline", "push"])
def test_no_kind_of_merge_request_pipeline_is_one_of_the_default_branch(event: str, source: str) -> None:
    # A job may claim more than GitLab says; what says "merge request" wins.
    claims = {**DEFAULT_BRANCH, **MERGE_REQUEST, "CI_PIPELINE_SOURCE": source}
    pipeline = pipeline_of(claims, CI_MERGE_REQUEST_EVENT_TYPE=event, CI_COMMIT_TAG="v1")
    assert (pipeline.kind, pipeline.is_default_branch) == ("merge-request", False)
    assert tags_on_success(pipeline) == ("g-4711",)


def test_a_child_pipeline_takes_the_tags_of_the_pipeline_that_people_see() -> None:
    pipeline = pipeline_of(DEFAULT_BRANCH, CI_PIPELINE_SOURCE="parent_pipeline", IMAGE_PIPELINE_ID="4000")
    assert (build_tag(pipeline), gate_tag(pipeline)) == ("p-4000", "g-4000")


@pytest.mark.parametrize("environ", [DEFAULT_BRANCH, GIT_TAG])
def test_a_trial_moves_no_tag_that_others_use(environ: dict[str, str]) -> None:
    assert tags_on_success(pipeline_of(environ, IMAGE_TRIAL="1")) == ("g-4711",)


@pytest.mark.parametrize(
    "name",
    ["latest", "production", "production-arm64", "p-4711", "g-1", "mr-7", "g-1-arm64", "key-0123abcd"],
)
def test_a_git_tag_gives_no_name_that_means_something_else(name: str) -> None:
    assert is_reserved(name)
    assert tags_on_success(pipeline_of(GIT_TAG, CI_COMMIT_TAG=name)) == ("g-4711",)


@pytest.mark.parametrize(
    "name", ["v1", "p-x", "latest2", "mr", "1.0-production", "group-7", "production-2026"]
)
def test_other_git_tags_are_free(name: str) -> None:
    assert not is_reserved(name)


@pytest.mark.parametrize("name", ["release/1.0", "v1+2", ".hidden", "x" * 129])
def test_a_git_tag_that_cannot_name_an_image_is_refused_by_name(name: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(name)):
        tags_on_success(pipeline_of(GIT_TAG, CI_COMMIT_TAG=name))


@pytest.mark.parametrize("environment", ["production", "production/frontend"])
@pytest.mark.parametrize("environ", [DEFAULT_BRANCH, MERGE_REQUEST])
def test_the_production_deployment_moves_production(environ: dict[str, str], environment: str) -> None:
    assert deployment_tag(pipeline_of(environ, CI_ENVIRONMENT_NAME=environment)) == "production"


@pytest.mark.parametrize("environment", ["", "review/12", "productions", "pre/production"])
def test_a_deployment_from_a_merge_request_moves_its_own_tag(environment: str) -> None:
    assert deployment_tag(pipeline_of(MERGE_REQUEST, CI_ENVIRONMENT_NAME=environment)) == "mr-12"


@pytest.mark.parametrize("environ", [DEFAULT_BRANCH, OTHER_BRANCH, GIT_TAG])
def test_a_branch_deploys_nothing_but_production(environ: dict[str, str]) -> None:
    with pytest.raises(PipelineError, match="'staging'"):
        deployment_tag(pipeline_of(environ, CI_ENVIRONMENT_NAME="staging"))


@pytest.mark.parametrize(
    ("platform", "tag"),
    [
        ("linux/amd64", "p-1-amd64"),
        ("linux/x86_64", "p-1-amd64"),
        ("linux/aarch64", "p-1-arm64"),
        ("linux/arm64/v8", "p-1-arm64"),
        ("linux/arm", "p-1-arm"),
        ("linux/arm/v7", "p-1-arm"),
        ("linux/arm/v6", "p-1-arm-v6"),
    ],
)
def test_the_part_of_an_architecture_is_named_after_it_however_it_is_written(platform: str, tag: str) -> None:
    assert architecture_tag("p-1", parse_platform(platform)) == tag


def test_a_tag_that_the_architecture_makes_too_long_is_refused() -> None:
    with pytest.raises(PipelineError, match="too long"):
        architecture_tag("v" * 125, parse_platform("linux/arm64"))


@pytest.mark.parametrize(
    ("image", "platform", "variable"),
    [
        ("app", "", "IMAGE_DIGEST_APP"),
        ("my-app/web.1", "", "IMAGE_DIGEST_MY_APP_WEB_1"),
        ("app", "linux/arm64", "IMAGE_DIGEST_APP_ARM64"),
        ("app", "linux/arm/v6", "IMAGE_DIGEST_APP_ARM_V6"),
    ],
)
def test_the_digest_of_each_image_is_handed_on_by_a_name_of_its_own(
    image: str, platform: str, variable: str
) -> None:
    assert digest_variable(image, parse_platform(platform) if platform else None) == variable


def test_outside_ci_there_is_no_pipeline() -> None:
    assert read_pipeline({"HOME": "/root", "CI_PIPELINE_ID": ""}) is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({**DEFAULT_BRANCH, "CI_COMMIT_TAG": "v1"}, "branch 'main' and of the tag 'v1'"),
        ({"CI_PIPELINE_ID": "1"}, "no branch, tag or merge request"),
        ({**DEFAULT_BRANCH, "CI_PIPELINE_ID": "1/../2"}, "is no number"),
        ({**DEFAULT_BRANCH, "IMAGE_PIPELINE_ID": "latest"}, "is no number"),
        ({**MERGE_REQUEST, "CI_MERGE_REQUEST_IID": ""}, "without a number"),
        ({**MERGE_REQUEST, "CI_MERGE_REQUEST_IID": "1-amd64"}, "without a number"),
    ],
)
def test_facts_that_give_no_safe_tag_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(message)):
        read_pipeline(environ)


# --- the whole table, against a naive reading --------------------------------------------------------------

names = st.sampled_from(["main", "fix", "v1.0", "latest", "production", "g-1", "mr-3"])
pipelines = st.builds(
    Pipeline,
    id=st.integers(0, 10**12).map(str),
    kind=st.sampled_from(["branch", "tag", "merge-request"]),
    ref=names,
    is_protected=st.booleans(),
    merge_request=st.integers(1, 10**6).map(str),
    is_trial=st.booleans(),
    environment=st.sampled_from(["", "production", "production/a", "review/3"]),
).flatmap(
    lambda one: st.sampled_from(
        [one]
        if one.kind != "branch"
        else [one, Pipeline(id=one.id, kind="branch", ref="main", is_default_branch=True)]
    )
)


@settings(deadline=None)
@given(pipelines)
def test_the_table_holds_for_every_pipeline(pipeline: Pipeline) -> None:
    tags = set(tags_on_success(pipeline))
    assert gate_tag(pipeline) in tags
    assert ("latest" in tags) == (pipeline.is_default_branch and not pipeline.is_trial)
    assert "production" not in tags
    assert not any(tag.startswith(("p-", "mr-")) for tag in tags)
    others = tags - {gate_tag(pipeline), "latest"}
    named = pipeline.kind == "tag" and not pipeline.is_trial and pipeline.ref in {"main", "fix", "v1.0"}
    assert others == ({pipeline.ref} if named else set())


@settings(deadline=None)
@given(pipelines, st.sampled_from(["linux/amd64", "linux/arm/v6", "linux/s390x"]))
def test_tags_of_parts_are_valid_and_differ_from_all_others(pipeline: Pipeline, platform: str) -> None:
    whole = (build_tag(pipeline), *tags_on_success(pipeline))
    parts = [architecture_tag(tag, parse_platform(platform)) for tag in whole]
    assert all(TAG.fullmatch(tag) for tag in (*whole, *parts))
    assert not set(whole) & set(parts)
    assert len(set(parts)) == len(whole)


variables = st.dictionaries(
    st.sampled_from(
        [
            *(
                "CI_COMMIT_BRANCH",
                "CI_COMMIT_TAG",
                "CI_PIPELINE_SOURCE",
                "CI_DEFAULT_BRANCH",
                "CI_COMMIT_REF_NAME",
            ),
            *("CI_MERGE_REQUEST_IID", "CI_MERGE_REQUEST_ID", "CI_MERGE_REQUEST_EVENT_TYPE", "IMAGE_TRIAL"),
        ]
    ),
    st.sampled_from(["", "main", "v1", "7", "merge_request_event", "push", "parent_pipeline"]),
)


@settings(deadline=None)
@given(variables)
def test_no_mixture_of_claims_makes_latest_of_a_merge_request(environ: dict[str, str]) -> None:
    try:
        pipeline = read_pipeline({**environ, "CI_PIPELINE_ID": "1"})
    except PipelineError:
        return
    assert pipeline is not None
    claimed = environ.get("CI_PIPELINE_SOURCE") == "merge_request_event" or any(
        text for name, text in environ.items() if name.startswith("CI_MERGE_REQUEST_")
    )
    if claimed:
        assert pipeline.kind == "merge-request"
        assert tags_on_success(pipeline) == ("g-1",)
